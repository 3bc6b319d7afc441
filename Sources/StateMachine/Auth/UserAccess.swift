import Keyspace
import Primitives

/// What all roles of one user allow together.
struct UserAccess: Hashable, Sendable {
  let isRoot: Bool
  let readable: KeyRangeSet
  let writable: KeyRangeSet

  init(isRoot: Bool, permissions: [AuthPermission]) {
    self.isRoot = isRoot
    readable = KeyRangeSet(permissions.filter { $0.kind != .write }.map(\.range))
    writable = KeyRangeSet(permissions.filter { $0.kind != .read }.map(\.range))
  }
}

/// Ranges of keys, united: those that overlap or touch are one, as in etcd's permission cache.
struct KeyRangeSet: Hashable, Sendable {
  private struct Interval: Hashable {
    var start: Bytes
    /// Exclusive; nil for no end.
    var end: Bytes?

    init(_ range: KeyRange) {
      switch range {
      case .single(let key): (start, end) = (key, key.successor)
      case .halfOpen(let start, let end): (self.start, self.end) = (start, end)
      case .from(let start): (self.start, end) = (start, nil)
      }
    }

    func reaches(_ key: Bytes) -> Bool { end.map { key <= $0 } ?? true }
    func reaches(_ other: Bytes?) -> Bool { other.map(reaches) ?? (end == nil) }
  }

  /// Rising, none touching the next.
  private var intervals: [Interval] = []

  init(_ ranges: [KeyRange]) {
    for interval in ranges.map(Interval.init).sorted(by: { $0.start < $1.start }) {
      if let last = intervals.last, last.reaches(interval.start) {
        if !last.reaches(interval.end) { intervals[intervals.count - 1].end = interval.end }
      } else {
        intervals.append(interval)
      }
    }
  }

  /// Whether every key of the range is in the set. A range that ends before it begins has no keys, and is covered where
  /// both its ends are.
  func covers(_ range: KeyRange) -> Bool {
    let wanted = Interval(range)
    var low = 0
    var high = intervals.count
    while low < high {
      let middle = (low + high) / 2
      if intervals[middle].start <= wanted.start { low = middle + 1 } else { high = middle }
    }
    guard low > 0 else { return false }
    let nearest = intervals[low - 1]
    guard let end = nearest.end else { return true }
    guard wanted.start < end, let wantedEnd = wanted.end else { return false }
    return nearest.start < wantedEnd && wantedEnd <= end
  }
}
