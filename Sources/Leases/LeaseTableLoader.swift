import Primitives

/// Builds a lease table from leases in rising order of their IDs. The records are laid down first; index and wheel
/// are made of them at the end, in loops that let many cache misses be under way at once.
package struct LeaseTableLoader: Sendable {
  private var table = LeaseTable()
  private let clock: LeaseClock
  private var previous: LeaseID?

  package init(at clock: LeaseClock) { self.clock = clock }

  package var count: Int { table.records.count }

  package mutating func add(
    _ id: LeaseID, ttlMilliseconds: Int64, deadlineMilliseconds: Int64
  ) throws(DecodingFailure) {
    if let previous, id <= previous { throw .malformed(offset: 0, "lease IDs that do not rise") }
    guard id != 0, ttlMilliseconds > 0, table.records.count < Slot.limit else {
      throw .malformed(offset: 0, "a lease with ID 0 or a TTL out of range")
    }
    previous = id
    table.records.append(
      LeaseRecord(
        id: id, deadlineMilliseconds: deadlineMilliseconds, ttlMilliseconds: ttlMilliseconds, next: Slot.none,
        previous: Slot.none))
  }

  package consuming func finish() -> LeaseTable {
    table.indexRecords(at: clock)
    return table
  }
}

extension LeaseTable {
  /// Makes index and wheel of records that all hold a lease.
  fileprivate mutating func indexRecords(at clock: LeaseClock) {
    count = records.count
    index = LeaseIDIndex(of: records)
    wheel.jump(to: clock)
    for slot in 0..<count { wheel.insert(slot, records: &records) }
  }

  /// As `slot(of:)` for many leases; -1 for those that are unknown. `slots` is overwritten. Faster than one by one where
  /// leases lie far apart: the lookups' cache misses overlap.
  package func slots(of ids: [LeaseID], into slots: inout [Int]) {
    index.guesses(of: ids, into: &slots)
    for position in ids.indices where slots[position] < 0 || records[slots[position]].id != ids[position] {
      slots[position] = slot(of: ids[position]) ?? -1
    }
  }
}
