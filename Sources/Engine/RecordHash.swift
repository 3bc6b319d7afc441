/// A 64-bit hash of one stored record. The sum (with wrap-around) of the hashes of all records of a database does not
/// depend on their order, so each commit adds what it puts and subtracts what it removes; reading everything gives the
/// sum again. Each step is a bijection of the state, so a change within one word of a record always changes its hash.
///
/// It guards against damage, not against malice. Part of the disk format.
struct RecordHash {
  private var state: UInt64

  /// - Parameter seed: tells databases apart.
  @inline(__always)
  init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 &+ 0x2545_f491_4f6c_dd1d }

  @inline(__always)
  mutating func mix(_ word: UInt64) {
    state = (state ^ word) &* 0xd6e8_feb8_6659_fd93
    state ^= state >> 32
  }

  /// The bytes as little-endian words, the last one filled up with zeros, then their count.
  @inline(__always)
  mutating func mix(_ bytes: UnsafeRawBufferPointer) {
    var offset = 0
    while offset + 8 <= bytes.count {
      mix(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
      offset += 8
    }
    if offset < bytes.count {
      var tail: UInt64 = 0
      var shift: UInt64 = 0
      while offset < bytes.count {
        tail |= UInt64(bytes[offset]) << shift
        shift += 8
        offset += 1
      }
      mix(tail)
    }
    mix(UInt64(truncatingIfNeeded: bytes.count))
  }

  @inline(__always)
  var value: UInt64 {
    var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
