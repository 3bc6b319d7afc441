import Primitives

/// What is known of an entry's lease since its last renewal.
package struct RenewedLease: Hashable, Sendable {
  package var lease: LeaseID
  package var generation: UInt64
  /// The store revision at which the marker got this lease: of two pieces of news about one key the higher is newer.
  package var markerRevision: Int64
  /// Hits up to and including this moment (ms on the caller's monotonic clock) need no renewal.
  package var freshUntilMilliseconds: Int64
  package var windowMilliseconds: Int64

  /// `issuedAt`: a moment before the renewal was handed to the store, so that the lease's end is never overestimated.
  package init(
    lease: LeaseID, generation: UInt64, markerRevision: Int64, issuedAtMilliseconds: Int64, windowMilliseconds: Int64
  ) {
    self.lease = lease
    self.generation = generation
    self.markerRevision = markerRevision
    freshUntilMilliseconds = issuedAtMilliseconds + windowMilliseconds
    self.windowMilliseconds = windowMilliseconds
  }

  /// Whether the renewal, or the window behind it, is good for a hit of that moment.
  package func covers(hitAtMilliseconds: Int64) -> Bool { hitAtMilliseconds <= freshUntilMilliseconds }
}

/// Decides which hits of one cache (or one shard of it) write anything.
///
/// Two generations of a map, swapped every window `w`: a renewal stays known for at least `w`, and keys that nobody hits
/// are forgotten after at most `2w`, in one step and without a scan. A forgotten key costs one read more at its next
/// hit, never a wrong answer.
package struct HitCoalescer: Sendable {
  package enum Decision: Hashable, Sendable {
    /// Within the window of a committed renewal: accepted, nothing to write.
    case coalesced
    /// Somebody is renewing this key: wait for what comes of it.
    case join
    /// The caller must renew (known lease) or look the entry up (nil), and then call `finish`.
    case renew(RenewedLease?)
  }

  private enum Knowledge {
    case renewed(RenewedLease)
    /// The entry lost its marker at this revision: older news must not bring it back.
    case lost(revision: Int64)

    var revision: Int64 {
      switch self {
      case .renewed(let lease): lease.markerRevision
      case .lost(let revision): revision
      }
    }
  }

  private let windowMilliseconds: Int64
  private var current: [Bytes: Knowledge] = [:]
  private var previous: [Bytes: Knowledge] = [:]
  private var currentSinceMilliseconds: Int64
  private var inFlight: Set<Bytes> = []

  /// `windowMilliseconds`: the longest window that any entry of this cache has.
  package init(windowMilliseconds: Int64, now: Int64) {
    self.windowMilliseconds = max(1, windowMilliseconds)
    currentSinceMilliseconds = now
  }

  package var knownCount: Int { current.count + previous.count }
  package var inFlightCount: Int { inFlight.count }

  /// One hit at `now`. `.renew` marks the key as being renewed until `finish`.
  package mutating func hit(_ key: Bytes, at now: Int64) -> Decision {
    rotateIfDue(at: now)
    let known = current[key] ?? (previous.isEmpty ? nil : previous[key])
    if case .renewed(let lease) = known, now <= lease.freshUntilMilliseconds { return .coalesced }
    guard inFlight.insert(key).inserted else { return .join }
    if case .renewed(let lease) = known { return .renew(lease) }
    return .renew(nil)
  }

  /// The renewal that `hit` asked for is over, whatever came of it.
  package mutating func finish(_ key: Bytes) { inFlight.remove(key) }

  /// A renewal or registration of this key is committed.
  package mutating func remember(_ key: Bytes, _ lease: RenewedLease, at now: Int64) {
    rotateIfDue(at: now)
    if let known = current[key] ?? previous[key] {
      if known.revision > lease.markerRevision { return }
      if case .renewed(let older) = known, older.markerRevision == lease.markerRevision,
        older.freshUntilMilliseconds > lease.freshUntilMilliseconds
      {
        return
      }
    }
    current[key] = .renewed(lease)
  }

  /// The entry's marker was deleted at `revision`: the next hit looks it up.
  package mutating func forget(_ key: Bytes, revision: Int64, at now: Int64) {
    rotateIfDue(at: now)
    if let known = current[key] ?? previous[key], known.revision > revision { return }
    current[key] = .lost(revision: revision)
  }

  /// Whether a hit on this key would be coalesced, without being one; the lease must be the one given.
  package func isFresh(_ key: Bytes, lease: LeaseID, at now: Int64) -> Bool {
    guard case .renewed(let known) = current[key] ?? previous[key] else { return false }
    return known.lease == lease && now <= known.freshUntilMilliseconds
  }

  private mutating func rotateIfDue(at now: Int64) {
    let age = now - currentSinceMilliseconds
    guard age > windowMilliseconds else { return }
    previous = age > 2 * windowMilliseconds ? [:] : current
    current = [:]
    currentSinceMilliseconds = now
  }
}
