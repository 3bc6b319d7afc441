import Primitives

/// When the engine commits next: soon enough that little is held in memory twice, seldom enough that commits take no
/// more than a tenth of the time.
package struct CommitSchedule {
  /// What has been applied and not been committed, from the least pressing on.
  package enum Pending: Int, Comparable {
    case nothing
    /// Only the lease clock has moved on: the log knows that too.
    case clockOnly
    case changes
    /// Memory or log have grown beyond what write-behind is meant to hold.
    case urgent

    package static func < (left: Pending, right: Pending) -> Bool { left.rawValue < right.rawValue }
  }

  package static let restMilliseconds: Int64 = 100
  /// Times the last commit's duration, but no longer than `maxRestMilliseconds`: one slow moment of the disk is no reason
  /// to hold much for long.
  package static let restFactor: Int64 = 9
  package static let maxRestMilliseconds: Int64 = 2_000
  package static let clockOnlyMilliseconds: Int64 = 60_000
  package static let retryMilliseconds: Int64 = 1_000

  private var lastEnd: MonotonicTime
  private var lastDurationNanoseconds: Int64 = 0
  private var hasFailed = false

  package init(openedAt now: MonotonicTime) { lastEnd = now }

  /// nil: there is nothing to commit.
  package func nextStart(_ pending: Pending) -> MonotonicTime? {
    if hasFailed { return lastEnd.advanced(byMilliseconds: Self.retryMilliseconds) }
    switch pending {
    case .nothing: return nil
    case .clockOnly: return lastEnd.advanced(byMilliseconds: Self.clockOnlyMilliseconds)
    case .changes:
      let rest = min(
        max(Self.restMilliseconds * 1_000_000, Self.restFactor * lastDurationNanoseconds),
        Self.maxRestMilliseconds * 1_000_000)
      return MonotonicTime(nanoseconds: lastEnd.nanoseconds + rest)
    case .urgent: return lastEnd
    }
  }

  package mutating func noteCommit(from start: MonotonicTime, to end: MonotonicTime) {
    lastEnd = end
    lastDurationNanoseconds = end.nanoseconds - start.nanoseconds
    hasFailed = false
  }

  /// The disk had no room: the same changes are offered again after a second.
  package mutating func noteFailure(at now: MonotonicTime) {
    lastEnd = now
    hasFailed = true
  }
}
