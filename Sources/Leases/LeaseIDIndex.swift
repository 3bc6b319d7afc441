import Primitives

/// Lease ID to slot: open addressing with linear probing that stores only slots (4 bytes); the ID to compare with
/// stands in the record, which the caller is about to touch anyway.
///
/// Split into shards by the hash's upper bits, each of which grows by itself: at ten million leases the longest
/// pause of an insertion is the rehash of ten thousand. At most two thirds full, 6 to 9 bytes a lease.
struct LeaseIDIndex: Sendable {
  private struct Shard: Sendable {
    var slots: [UInt32] = []
    var count = 0
  }

  private static let shardBits = 10
  private static let smallestCapacity = 8
  private var shards = [Shard](repeating: Shard(), count: 1 << shardBits)

  init() {}

  /// An index of all records, none of which is free.
  init(of records: ChunkedArray<LeaseRecord>) {
    var counts = [Int](repeating: 0, count: shards.count)
    for slot in 0..<records.count { counts[Self.shard(mixed(records[slot].id))] += 1 }
    for shard in shards.indices where counts[shard] > 0 {
      // Three fifths full: room to grow by a tenth before the first rehash.
      let capacity = max(Self.smallestCapacity, counts[shard] * 5 / 3 + 1)
      shards[shard] = Shard(slots: [UInt32](repeating: Slot.none, count: capacity), count: counts[shard])
    }
    for slot in 0..<records.count {
      let hash = mixed(records[slot].id)
      Self.place(UInt32(slot), hash, in: &shards[Self.shard(hash)].slots)
    }
  }

  /// What stands where each ID would stand if no other had taken its place: right for most that are in the index. -1
  /// where nothing stands.
  func guesses(of ids: [LeaseID], into guesses: inout [Int]) {
    guesses.removeAll(keepingCapacity: true)
    for id in ids {
      let hash = mixed(id)
      let shard = Self.shard(hash)
      let capacity = shards[shard].slots.count
      let slot = capacity > 0 ? shards[shard].slots[Self.home(hash, capacity)] : Slot.none
      guesses.append(slot == Slot.none ? -1 : Int(slot))
    }
  }

  func slot(of id: LeaseID, in records: ChunkedArray<LeaseRecord>) -> Int? {
    let hash = mixed(id)
    let shard = Self.shard(hash)
    let capacity = shards[shard].slots.count
    if capacity == 0 { return nil }
    var position = Self.home(hash, capacity)
    while true {
      let slot = shards[shard].slots[position]
      if slot == Slot.none { return nil }
      if records[Int(slot)].id == id { return Int(slot) }
      position = Self.following(position, capacity)
    }
  }

  /// `id` must not be in the index; its record must already stand in `records`.
  mutating func insert(_ id: LeaseID, slot: Int, in records: ChunkedArray<LeaseRecord>) {
    let hash = mixed(id)
    let shard = Self.shard(hash)
    if (shards[shard].count + 1) * 3 > shards[shard].slots.count * 2 { grow(shard, in: records) }
    Self.place(UInt32(slot), hash, in: &shards[shard].slots)
    shards[shard].count += 1
  }

  /// The slot must be in the index, and its record still in `records`.
  mutating func remove(slot: Int, in records: ChunkedArray<LeaseRecord>) {
    let hash = mixed(records[slot].id)
    let shard = Self.shard(hash)
    let capacity = shards[shard].slots.count
    var hole = Self.home(hash, capacity)
    while shards[shard].slots[hole] != UInt32(slot) { hole = Self.following(hole, capacity) }
    // Moves the followers of the run back, as far as their home allows: no tombstones.
    var probe = Self.following(hole, capacity)
    while shards[shard].slots[probe] != Slot.none {
      let home = Self.home(mixed(records[Int(shards[shard].slots[probe])].id), capacity)
      if Self.distance(home, probe, capacity) >= Self.distance(hole, probe, capacity) {
        shards[shard].slots[hole] = shards[shard].slots[probe]
        hole = probe
      }
      probe = Self.following(probe, capacity)
    }
    shards[shard].slots[hole] = Slot.none
    shards[shard].count -= 1
  }

  private mutating func grow(_ shard: Int, in records: ChunkedArray<LeaseRecord>) {
    let old = shards[shard].slots
    var larger = [UInt32](repeating: Slot.none, count: max(Self.smallestCapacity, old.count * 3 / 2))
    for slot in old where slot != Slot.none { Self.place(slot, mixed(records[Int(slot)].id), in: &larger) }
    shards[shard].slots = larger
  }

  private static func place(_ slot: UInt32, _ hash: UInt64, in slots: inout [UInt32]) {
    var position = home(hash, slots.count)
    while slots[position] != Slot.none { position = following(position, slots.count) }
    slots[position] = slot
  }

  @inline(__always)
  private static func shard(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: hash >> UInt64(64 - shardBits)) }

  /// The lower half of the hash scaled to the capacity, which need not be a power of two.
  @inline(__always)
  private static func home(_ hash: UInt64, _ capacity: Int) -> Int {
    Int(truncatingIfNeeded: ((hash & 0xffff_ffff) &* UInt64(capacity)) >> 32)
  }

  @inline(__always)
  private static func following(_ position: Int, _ capacity: Int) -> Int {
    position + 1 == capacity ? 0 : position + 1
  }

  /// Steps forward from one position to another, around the end.
  @inline(__always)
  private static func distance(_ from: Int, _ to: Int, _ capacity: Int) -> Int {
    to >= from ? to - from : to - from + capacity
  }
}
