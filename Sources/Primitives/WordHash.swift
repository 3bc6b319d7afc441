/// A 64-bit hash of words, fed one by one. Each step is a bijection of the state, so a change within one word always
/// changes the hash. It guards against damage, not against malice. Part of the disk format.
@usableFromInline
package struct WordHash: Hashable, Sendable {
  /// All of it, for whoever writes it down and goes on with it later.
  @usableFromInline package var state: UInt64

  /// - Parameter seed: tells apart what is hashed.
  @inlinable @inline(__always)
  package init(seed: UInt64) { self.init(state: seed &* 0x9e37_79b9_7f4a_7c15 &+ 0x2545_f491_4f6c_dd1d) }

  @inlinable @inline(__always)
  package init(state: UInt64) { self.state = state }

  @inlinable @inline(__always)
  package mutating func mix(_ word: UInt64) {
    state = (state ^ word) &* 0xd6e8_feb8_6659_fd93
    state ^= state >> 32
  }

  /// The bytes as little-endian words, the last one filled up with zeros, then their count.
  @inlinable @inline(__always)
  package mutating func mix(_ bytes: UnsafeRawBufferPointer) {
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

  @inlinable @inline(__always)
  package var value: UInt64 {
    var mixed = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
