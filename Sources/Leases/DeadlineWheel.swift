import Primitives

/// Leases by deadline: one turn of 65,536 buckets of 100 ms (1.8 hours), each a list through the records.
///
/// Rules that hold between calls:
/// - A lease stands in the bucket of its deadline or in an earlier one that the cursor has not passed. A renewal
///   only writes the new deadline; the lease moves when the cursor comes by.
/// - A deadline beyond one turn stands in some bucket of the turn's second half, chosen by the lease's ID. So
///   leases that were granted together for a week do not come by together: there is no level to cascade from, and no
///   tick that has to move millions.
/// - Leases whose bucket the cursor has passed while they were due stand in the overdue list until they are removed
///   or renewed.
///
/// The layout depends on when `advance` was called and is no part of the replicated state.
struct DeadlineWheel: Sendable {
  static let bucketMilliseconds: Int64 = 100
  static let bucketCount = 65_536
  static let overdueList = UInt32(bucketCount)
  private static let mask = Int64(bucketCount - 1)
  private static let half = Int64(bucketCount / 2)

  private var heads = ChunkedArray<UInt32>(repeating: Slot.none, count: bucketCount + 1)
  /// One bit a bucket: whether its list holds a lease.
  private var occupied = [UInt64](repeating: 0, count: bucketCount / 64)
  /// The first bucket, counted from clock zero, that may still hold leases.
  private(set) var cursor: Int64 = 0

  static func bucket(ofMilliseconds milliseconds: Int64) -> Int64 { max(0, milliseconds) / bucketMilliseconds }

  // MARK: Placing

  mutating func insert(_ slot: Int, records: inout ChunkedArray<LeaseRecord>) {
    let record = records[slot]
    link(slot, into: list(for: record, from: cursor), &records)
  }

  mutating func remove(_ slot: Int, records: inout ChunkedArray<LeaseRecord>) { unlink(slot, &records) }

  /// To be called after a deadline was moved back in time or the cursor had already seen it; otherwise a new deadline
  /// needs no move.
  mutating func reinsert(_ slot: Int, records: inout ChunkedArray<LeaseRecord>) {
    unlink(slot, &records)
    insert(slot, records: &records)
  }

  /// Whether the cursor has reached this deadline's bucket, so that a lease of it may stand in the overdue list.
  func hasReached(deadlineMilliseconds: Int64) -> Bool {
    Self.bucket(ofMilliseconds: deadlineMilliseconds) <= cursor
  }

  /// An empty wheel has nothing to pass by.
  mutating func jump(to clock: LeaseClock) {
    cursor = max(cursor, Self.bucket(ofMilliseconds: clock.milliseconds))
  }

  private func list(for record: LeaseRecord, from start: Int64) -> UInt32 {
    let bucket = Self.bucket(ofMilliseconds: record.deadlineMilliseconds)
    if bucket < start { return Self.overdueList }
    // One less than a turn, so that the bucket being emptied by `advance` is never filled again.
    if bucket - start < Self.mask { return UInt32(bucket & Self.mask) }
    let spread = Int64(mixed(record.id) % UInt64(Self.half - 1))
    return UInt32((start + Self.half + spread) & Self.mask)
  }

  // MARK: Turning

  /// Moves the cursor to the clock's bucket: due leases to the overdue list, the others to where their deadline
  /// belongs. Looks at a bounded number of leases (more after a longer absence) and goes on next time.
  mutating func advance(to clock: LeaseClock, records: inout ChunkedArray<LeaseRecord>) {
    let target = Self.bucket(ofMilliseconds: clock.milliseconds)
    guard target > cursor else { return }
    var budget = min(4_096 + 1_024 * Int(min(target - cursor, 60)), 65_536)
    while cursor < target {
      guard let bucket = firstOccupied(in: cursor..<min(target, cursor + Int64(Self.bucketCount))) else {
        cursor = target
        return
      }
      cursor = bucket
      while true {
        let head = heads[Int(bucket & Self.mask)]
        if head == Slot.none { break }
        if budget == 0 { return }
        budget -= 1
        unlink(Int(head), &records)
        link(Int(head), into: list(for: records[Int(head)], from: bucket + 1), &records)
      }
      cursor = bucket + 1
    }
  }

  // MARK: Looking

  /// Calls `body` for leases that may be due at `clock`, overdue ones first, until it answers false.
  func visitCandidates(
    at clock: LeaseClock, records: ChunkedArray<LeaseRecord>, _ body: (LeaseRecord) -> Bool
  ) {
    guard visit(list: Self.overdueList, records, body) else { return }
    let end = min(Self.bucket(ofMilliseconds: clock.milliseconds) + 1, cursor + Int64(Self.bucketCount))
    var next = cursor
    while next < end, let bucket = firstOccupied(in: next..<end) {
      guard visit(list: UInt32(bucket & Self.mask), records, body) else { return }
      next = bucket + 1
    }
  }

  /// A lower bound of all deadlines: exact when it is found within the first `patience` leases.
  func earliestDeadlineMilliseconds(patience: Int, records: ChunkedArray<LeaseRecord>) -> Int64? {
    var best: Int64?
    var looks = 0
    let look: (LeaseRecord) -> Bool = { record in
      best = min(best ?? .max, record.deadlineMilliseconds)
      looks += 1
      return looks < patience
    }
    guard visit(list: Self.overdueList, records, look) else { return 0 }
    let end = cursor + Int64(Self.bucketCount)
    var next = cursor
    while let bucket = firstOccupied(in: next..<end) {
      let start = bucket * Self.bucketMilliseconds
      if let best, best < start { return best }
      guard visit(list: UInt32(bucket & Self.mask), records, look) else { return min(best ?? start, start) }
      next = bucket + 1
    }
    return best
  }

  /// False when `body` ended the visit.
  private func visit(
    list: UInt32, _ records: ChunkedArray<LeaseRecord>, _ body: (LeaseRecord) -> Bool
  ) -> Bool {
    var slot = heads[Int(list)]
    while slot != Slot.none {
      let record = records[Int(slot)]
      guard body(record) else { return false }
      slot = record.next
    }
    return true
  }

  private func firstOccupied(in buckets: Range<Int64>) -> Int64? {
    var bucket = buckets.lowerBound
    while bucket < buckets.upperBound {
      let position = Int(bucket & Self.mask)
      let word = occupied[position >> 6] >> UInt64(position & 63)
      if word != 0 {
        let found = bucket + Int64(word.trailingZeroBitCount)
        return found < buckets.upperBound ? found : nil
      }
      bucket += Int64(64 - (position & 63))
    }
    return nil
  }

  // MARK: Lists

  private mutating func link(_ slot: Int, into list: UInt32, _ records: inout ChunkedArray<LeaseRecord>) {
    let head = heads[Int(list)]
    records[slot].next = head
    records[slot].previous = Slot.listFlag | list
    if head != Slot.none {
      records[Int(head)].previous = UInt32(slot)
    } else if list != Self.overdueList {
      occupied[Int(list) >> 6] |= 1 << UInt64(list & 63)
    }
    heads[Int(list)] = UInt32(slot)
  }

  private mutating func unlink(_ slot: Int, _ records: inout ChunkedArray<LeaseRecord>) {
    let next = records[slot].next
    let previous = records[slot].previous
    if next != Slot.none { records[Int(next)].previous = previous }
    guard previous & Slot.listFlag != 0 else {
      records[Int(previous)].next = next
      return
    }
    let list = previous & ~Slot.listFlag
    heads[Int(list)] = next
    if next == Slot.none, list != Self.overdueList {
      occupied[Int(list) >> 6] &= ~(1 << UInt64(list & 63))
    }
  }
}

extension DeadlineWheel {
  /// What of the rules above is broken, nil when nothing is. Costs a walk over everything: for tests.
  func violation(count: Int, records: ChunkedArray<LeaseRecord>) -> String? {
    var seen = 0
    for list in 0...UInt32(Self.bucketCount) {
      let isOccupied = list != Self.overdueList && occupied[Int(list) >> 6] >> UInt64(list & 63) & 1 == 1
      if list != Self.overdueList, isOccupied != (heads[Int(list)] != Slot.none) { return "bucket \(list): wrong bit" }
      let offset = (Int64(list) - cursor) & Self.mask
      var previous = Slot.listFlag | list
      var slot = heads[Int(list)]
      while slot != Slot.none {
        let record = records[Int(slot)]
        let bucket = Self.bucket(ofMilliseconds: record.deadlineMilliseconds)
        if record.previous != previous { return "lease \(record.id): wrong link back" }
        if list == Self.overdueList ? bucket > cursor : bucket < cursor + offset {
          return "lease \(record.id): bucket \(bucket) stands in list \(list) at cursor \(cursor)"
        }
        seen += 1
        previous = slot
        slot = record.next
      }
    }
    return seen == count ? nil : "\(seen) leases in the wheel, \(count) in the table"
  }
}
