import Primitives

/// Leases and their deadlines on the lease clock. A value with no clock of its own: every call brings the time, and
/// copying it is a snapshot that costs memory only where one of the copies changes.
///
/// About 40 bytes a lease: a record of 32 in a flat array, an index from ID to record (`LeaseIDIndex`), and a wheel of
/// deadlines threaded through the records (`DeadlineWheel`). Changes cost the same however many leases there are;
/// only `ids` and the snapshot walk over all.
///
/// The lease clock is milliseconds of leadership: it never runs back and stands while there is no
/// leader, so a deadline kept here is never reached early by any client's clock.
package struct LeaseTable: Sendable {
  var records = ChunkedArray<LeaseRecord>()
  var index = LeaseIDIndex()
  var wheel = DeadlineWheel()
  private var firstFreeSlot = Slot.none

  package internal(set) var count = 0

  package init() {}

  /// Adds a lease as it was when it was written out; false when the ID is there already, or 0.
  mutating func restore(_ id: LeaseID, ttlMilliseconds: Int64, deadline: LeaseClock, at clock: LeaseClock) -> Bool {
    guard id != 0, !contains(id) else { return false }
    if count == 0 { wheel.jump(to: clock) }
    insert(id, ttlMilliseconds: ttlMilliseconds, deadline: deadline)
    return true
  }

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
    _ = renew(at: slot, at: clock)
    return records[slot].ttlMilliseconds
  }

  /// As `renew`, for a slot that `slot(of:)` has just named. Answers whether the deadline moved.
  package mutating func renew(at slot: Int, at clock: LeaseClock) -> Bool {
    let record = records[slot]
    let deadline = clock.advanced(byMilliseconds: record.ttlMilliseconds).milliseconds
    guard deadline > record.deadlineMilliseconds else { return false }
    records[slot].deadlineMilliseconds = deadline
    if wheel.hasReached(deadlineMilliseconds: record.deadlineMilliseconds) {
      wheel.reinsert(slot, records: &records)
    }
    return true
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
    slot(of: id).map(grantedTTLMilliseconds(at:))
  }

  /// As `grantedTTLMilliseconds(of:)`, for a slot that `slot(of:)` has just named.
  package func grantedTTLMilliseconds(at slot: Int) -> Int64 { records[slot].ttlMilliseconds }

  /// Every lease, in no order.
  package func forEach(_ body: (_ id: LeaseID, _ ttlMilliseconds: Int64, _ deadline: LeaseClock) -> Void) {
    for slot in liveSlots {
      let record = records[slot]
      body(record.id, record.ttlMilliseconds, LeaseClock(milliseconds: record.deadlineMilliseconds))
    }
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
