import Primitives

/// Leases and their deadlines on the lease clock. A value with no clock of its own: every call brings the time, and
/// copying it is a snapshot that costs memory only where one of the copies changes.
///
/// About 40 bytes a lease: a record of 32 in a flat array, an index from ID to record (`LeaseIDIndex`), and a wheel of
/// deadlines threaded through the records (`DeadlineWheel`). Changes cost the same however many leases there are;
/// only `ids` and the snapshot walk over all.
///
/// The lease clock (store.md §4) is milliseconds of leadership: it never runs back and stands while there is no
/// leader, so a deadline kept here is never reached early by any client's clock.
package struct LeaseTable: Sendable {
  private var records = ChunkedArray<LeaseRecord>()
  private var index = LeaseIDIndex()
  private var wheel = DeadlineWheel()
  private var firstFreeSlot = Slot.none

  package private(set) var count = 0

  package init() {}

  package func contains(_ id: LeaseID) -> Bool { slot(of: id) != nil }

  /// Where per-lease data of others may stand beside the table: a number below the most leases there ever were, kept
  /// while the lease lives, given to another one after it is gone. Nil when unknown.
  package func slot(of id: LeaseID) -> Int? { id == 0 ? nil : index.slot(of: id, in: records) }

  /// Refuses an ID that exists (false). The ID is not 0 and the TTL positive; a deadline beyond the clock's range
  /// stands at its end.
  package mutating func grant(_ id: LeaseID, ttlMilliseconds: Int64, at clock: LeaseClock) -> Bool {
    precondition(ttlMilliseconds > 0, "a lease needs a positive TTL")
    if contains(id) { return false }
    if count == 0 { wheel.jump(to: clock) }
    insert(id, ttlMilliseconds: ttlMilliseconds, deadline: clock.advanced(byMilliseconds: ttlMilliseconds))
    return true
  }

  /// Sets the deadline a whole TTL away from `clock`; it never moves back. The granted TTL in milliseconds, nil when
  /// the lease is unknown.
  package mutating func renew(_ id: LeaseID, at clock: LeaseClock) -> Int64? {
    guard let slot = slot(of: id) else { return nil }
    let record = records[slot]
    let deadline = clock.advanced(byMilliseconds: record.ttlMilliseconds).milliseconds
    guard deadline > record.deadlineMilliseconds else { return record.ttlMilliseconds }
    records[slot].deadlineMilliseconds = deadline
    if wheel.hasReached(deadlineMilliseconds: record.deadlineMilliseconds) {
      wheel.reinsert(slot, records: &records)
    }
    return record.ttlMilliseconds
  }

  /// False when the lease is unknown.
  package mutating func remove(_ id: LeaseID) -> Bool {
    guard let slot = slot(of: id) else { return false }
    remove(at: slot)
    return true
  }

  /// As `remove`, for a slot that `slot(of:)` has just named.
  package mutating func remove(at slot: Int) {
    precondition(records[slot].id != 0, "no lease in slot \(slot)")
    wheel.remove(slot, records: &records)
    index.remove(slot: slot, in: records)
    records[slot] = LeaseRecord(
      id: 0, deadlineMilliseconds: 0, ttlMilliseconds: 0, next: firstFreeSlot, previous: Slot.none)
    firstFreeSlot = UInt32(slot)
    count -= 1
  }

  package func deadline(of id: LeaseID) -> LeaseClock? {
    slot(of: id).map(deadline(at:))
  }

  /// As `deadline(of:)`, for a slot that `slot(of:)` has just named.
  package func deadline(at slot: Int) -> LeaseClock {
    LeaseClock(milliseconds: records[slot].deadlineMilliseconds)
  }

  package func grantedTTLMilliseconds(of id: LeaseID) -> Int64? {
    slot(of: id).map { records[$0].ttlMilliseconds }
  }

  /// Every lease, the earliest deadline first, as etcd lists them.
  package var ids: [LeaseID] {
    liveSlots
      .map { Candidate(records[$0]) }
      .sorted()
      .map(\.id)
  }

  /// Up to `limit` leases whose deadline is at or before `clock`, sorted by deadline; does not remove them. When more
  /// are due, which of them are named is left open.
  package func due(at clock: LeaseClock, limit: Int) -> [LeaseID] {
    guard limit > 0 else { return [] }
    var found: [Candidate] = []
    wheel.visitCandidates(at: clock, records: records) { record in
      if record.deadlineMilliseconds <= clock.milliseconds { found.append(Candidate(record)) }
      return found.count < limit
    }
    found.sort()
    return found.map(\.id)
  }

  /// A lower bound of the earliest deadline: when a shell should look again. Nil when there is no lease. Exact in
  /// small tables. In large ones it may lie in the past without anything being due, until `advance` has moved on: do
  /// not look more often than every 100 ms because of it.
  package var nextDeadline: LeaseClock? {
    wheel.earliestDeadlineMilliseconds(patience: 256, records: records).map { LeaseClock(milliseconds: $0) }
  }

  /// Lets the wheel turn: leases that were renewed or are far off move to later buckets, so that `due` need not look
  /// at them again. Changes nothing that can be seen otherwise. To be called a few times a second at most.
  package mutating func advance(to clock: LeaseClock) {
    if count == 0 { wheel.jump(to: clock) } else { wheel.advance(to: clock, records: &records) }
  }

  private mutating func insert(_ id: LeaseID, ttlMilliseconds: Int64, deadline: LeaseClock) {
    precondition(id != 0, "lease ID 0 means no lease")
    let record = LeaseRecord(
      id: id, deadlineMilliseconds: deadline.milliseconds, ttlMilliseconds: ttlMilliseconds, next: Slot.none,
      previous: Slot.none)
    let slot: Int
    if firstFreeSlot == Slot.none {
      slot = records.count
      precondition(slot < Slot.limit, "more than 2,147,483,647 leases")
      records.append(record)
    } else {
      slot = Int(firstFreeSlot)
      firstFreeSlot = records[slot].next
      records[slot] = record
    }
    index.insert(id, slot: slot, in: records)
    wheel.insert(slot, records: &records)
    count += 1
  }

  private var liveSlots: some Sequence<Int> { (0..<records.count).lazy.filter { records[$0].id != 0 } }

  private struct Candidate: Comparable {
    var deadlineMilliseconds: Int64
    var id: LeaseID

    init(_ record: LeaseRecord) {
      deadlineMilliseconds = record.deadlineMilliseconds
      id = record.id
    }

    static func < (left: Candidate, right: Candidate) -> Bool {
      left.deadlineMilliseconds != right.deadlineMilliseconds
        ? left.deadlineMilliseconds < right.deadlineMilliseconds : left.id < right.id
    }
  }

  /// What is wrong inside, nil when nothing is. Costs a walk over everything: for tests.
  package var violation: String? {
    for slot in liveSlots where self.slot(of: records[slot].id) != slot {
      return "lease \(records[slot].id): not found by its ID"
    }
    return wheel.violation(count: count, records: records)
  }
}

// MARK: - Snapshot

extension LeaseTable {
  /// Count, then leases in the order of their IDs: the ID (the first as it is, each further one as its distance to the
  /// one before), TTL and deadline in milliseconds, all variable integers. Equal tables have equal bytes, whatever
  /// happened to them before.
  package func encode(into writer: inout ByteWriter) {
    writer.writeCount(count)
    let slots = liveSlots.sorted { records[$0].id < records[$1].id }
    var previous: LeaseID?
    for slot in slots {
      let record = records[slot]
      if let previous {
        writer.writeVarint(UInt64(bitPattern: record.id &- previous))
      } else {
        writer.writeSigned(record.id)
      }
      writer.writeVarint(UInt64(record.ttlMilliseconds))
      writer.writeSigned(record.deadlineMilliseconds)
      previous = record.id
    }
  }

  /// `clock` is the lease clock of the snapshot: deadlines are absolute, it only tells the wheel where to stand.
  package init(decoding reader: inout ByteReader, at clock: LeaseClock) throws(DecodingFailure) {
    wheel.jump(to: clock)
    var previous: LeaseID?
    for _ in 0..<(try reader.readCount(minimumSize: 3)) {
      let offset = reader.offset
      let id: LeaseID
      if let previous {
        let (sum, overflow) = previous.addingReportingOverflow(unsigned: try reader.readVarint())
        guard !overflow, sum > previous else { throw .malformed(offset: offset, "lease IDs that do not rise") }
        id = sum
      } else {
        id = try reader.readSigned()
      }
      let ttl = try reader.readVarint()
      guard id != 0, ttl > 0, ttl <= UInt64(Int64.max) else {
        throw .malformed(offset: offset, "a lease with ID 0 or a TTL out of range")
      }
      insert(id, ttlMilliseconds: Int64(ttl), deadline: LeaseClock(milliseconds: try reader.readSigned()))
      previous = id
    }
  }
}

extension Int64 {
  /// As `addingReportingOverflow`, for a distance that may exceed `Int64.max`.
  fileprivate func addingReportingOverflow(unsigned distance: UInt64) -> (sum: Int64, overflow: Bool) {
    let (sum, overflow) = (UInt64(bitPattern: self) ^ (1 << 63)).addingReportingOverflow(distance)
    return (Int64(bitPattern: sum ^ (1 << 63)), overflow)
  }
}
