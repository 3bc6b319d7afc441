/// The memberships along the log: that at its base, and those of the entries behind. The last one is in force
/// (thesis §4.1); the others are needed when entries are truncated, and by snapshots.
struct MembershipHistory: Sendable {
  private var base: Membership
  /// Ascending by index.
  private var changes: [(index: LogIndex, membership: Membership)] = []

  init(base: Membership) { self.base = base }

  var latest: Membership { changes.last?.membership ?? base }

  /// The index of the entry that `latest` came with; 0 when it is the base's.
  var latestIndex: LogIndex { changes.last?.index ?? 0 }

  /// What was in force after all entries up to `index`.
  func membership(asOf index: LogIndex) -> Membership {
    changes.last { $0.index <= index }?.membership ?? base
  }

  /// True when the entry brings a membership.
  mutating func append(_ entry: Entry) -> Bool {
    guard case .membership(let membership, _) = entry.payload else { return false }
    changes.append((entry.index, membership))
    return true
  }

  /// `index` and everything behind it is gone. True when a membership went with it.
  mutating func truncate(from index: LogIndex) -> Bool {
    guard latestIndex >= index else { return false }
    changes.removeAll { $0.index >= index }
    return true
  }

  /// Everything up to `index` is forgotten.
  mutating func compact(through index: LogIndex) {
    guard let first = changes.first, first.index <= index else { return }
    base = membership(asOf: index)
    changes.removeAll { $0.index <= index }
  }
}
