import Primitives

/// Decides when the leader compacts, and to which revision, by etcd's rules (`v3compactor`).
///
/// With a period, every member notes the revision each tenth of it (of an hour, when the period is longer), so that
/// whoever leads knows what was current a period ago. The first compaction comes a period after the start, the next ones
/// after a period or an hour each; one that fails is tried again at the next note. With a number of revisions there is a
/// look every five minutes.
package struct AutoCompactor: Sendable {
  package static let revisionIntervalMilliseconds: Int64 = 5 * 60_000
  static let longestPeriodMilliseconds: Int64 = 60 * 60_000
  /// Notes for each period, or each hour of it.
  static let notesPerPeriod: Int64 = 10

  private let rule: AutoCompactionRule
  /// When to look next.
  package private(set) var nextLook: MonotonicTime
  /// With a period: the revisions noted, oldest first; the first one was current a period ago.
  private var noted: [Int64] = []
  private var lastSuccess: MonotonicTime
  private var isFirst = true
  /// Asked for at the last look; its success shows in the state.
  private var attempt: (revision: Int64, at: MonotonicTime)?

  package init(_ rule: AutoCompactionRule, at now: MonotonicTime) {
    self.rule = rule
    lastSuccess = now
    nextLook =
      switch rule {
      case .off: MonotonicTime(nanoseconds: .max)
      case .periodic: now
      case .revision: now.advanced(byMilliseconds: Self.revisionIntervalMilliseconds)
      }
  }

  /// Call when `nextLook` has come (earlier does no harm).
  ///
  /// - Parameters:
  ///   - revision: the state's, and the one that it is compacted to.
  ///   - leads: whether this member may compact; the others only take notes.
  /// - Returns: the revision to compact to, if it is time.
  package mutating func look(
    at now: MonotonicTime, revision: Int64, compacted: Int64, leads: Bool
  ) -> Int64? {
    guard now >= nextLook else { return nil }
    switch rule {
    case .off: return nil
    case .revision(let kept):
      nextLook = now.advanced(byMilliseconds: Self.revisionIntervalMilliseconds)
      let target = revision - kept
      return leads && target > max(compacted, 0) ? target : nil
    case .periodic(let period):
      nextLook = now.advanced(byMilliseconds: Self.noteInterval(period))
      defer { note(revision, period) }
      return leads ? periodicTarget(at: now, period: period, compacted: compacted) : nil
    }
  }

  private mutating func periodicTarget(at now: MonotonicTime, period: Int64, compacted: Int64) -> Int64? {
    if let attempt, compacted >= attempt.revision { lastSuccess = attempt.at }
    attempt = nil
    let wait = isFirst ? period : min(period, Self.longestPeriodMilliseconds)
    guard let target = noted.first, now >= lastSuccess.advanced(byMilliseconds: wait) else { return nil }
    isFirst = false
    guard target > compacted else {
      lastSuccess = now
      return nil
    }
    attempt = (target, now)
    return target
  }

  private mutating func note(_ revision: Int64, _ period: Int64) {
    noted.append(revision)
    if Int64(noted.count) > period / Self.noteInterval(period) + 1 { noted.removeFirst() }
  }

  private static func noteInterval(_ period: Int64) -> Int64 {
    max(1, min(period, longestPeriodMilliseconds) / notesPerPeriod)
  }
}
