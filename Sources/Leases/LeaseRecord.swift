import Primitives

/// One lease in the table: 32 bytes, half a cache line, so that a renewal touches one.
struct LeaseRecord: Sendable {
  /// 0 when the slot is free.
  var id: LeaseID
  /// On the lease clock.
  var deadlineMilliseconds: Int64
  var ttlMilliseconds: Int64
  /// The neighbours in the wheel's list. `next` is `Slot.none` at the end (in a free slot it chains the free ones);
  /// `previous` of a list's first lease is the list's number with `Slot.listFlag` set.
  var next: UInt32
  var previous: UInt32
}

/// Places in the table's record array, as 31-bit numbers.
enum Slot {
  static let none = UInt32.max
  static let listFlag: UInt32 = 1 << 31
  static let limit = Int(listFlag)
}

/// Spreads IDs, which clients may choose in sequence, over 64 bits.
@inline(__always)
func mixed(_ id: LeaseID) -> UInt64 {
  var bits = UInt64(bitPattern: id) &* 0x9e37_79b9_7f4a_7c15
  bits = (bits ^ (bits >> 32)) &* 0xd6e8_feb8_6659_fd93
  return bits ^ (bits >> 32)
}
