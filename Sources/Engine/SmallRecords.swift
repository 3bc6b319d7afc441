import Keyspace
import Primitives

/// A kept version as its key's entry in `keys`, or as its own in `long`, 24 bytes:
///
///     main u64 · ordinal × 2 + (1 for a tombstone) u64 · lease of the version i64, 0 for none and for tombstones
///
/// Big-endian, so that LMDB's bytewise order of a key's records is the order of its versions. The lease is there for the
/// start, which puts keys and leases together without reading a version.
package struct ReferenceRecord: Hashable, Sendable {
  package static let byteCount = 24
  package static let maxOrdinal = UInt64.max >> 1

  package var main: Int64
  package var ordinal: UInt64
  package var isTombstone: Bool
  package var lease: LeaseID

  package init(main: Int64, ordinal: UInt64, isTombstone: Bool, lease: LeaseID) {
    precondition(ordinal <= Self.maxOrdinal, "an ordinal of 64 bits")
    self.main = main
    self.ordinal = ordinal
    self.isTombstone = isTombstone
    self.lease = lease
  }

  /// nil when the size is wrong; any 24 bytes are a record.
  @inline(__always)
  package init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count == Self.byteCount else { return nil }
    main = Int64(bigEndian: bytes.loadUnaligned(as: Int64.self))
    let tagged = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    ordinal = tagged >> 1
    isTombstone = tagged & 1 == 1
    lease = Int64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: Int64.self))
  }

  var reference: VersionReference { VersionReference(main: main, ordinal: ordinal, isTombstone: isTombstone) }

  private var words: (Int64, UInt64, Int64) {
    (main.bigEndian, (ordinal << 1 | (isTombstone ? 1 : 0)).bigEndian, lease.bigEndian)
  }

  @inline(__always)
  package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    let words = words
    return try withUnsafePointer(to: words) { (pointer) throws(E) in
      try body(UnsafeRawBufferPointer(start: pointer, count: Self.byteCount))
    }
  }

  /// The share in the sum of `keys`.
  @inline(__always)
  package func hash(key: UnsafeRawBufferPointer) -> UInt64 {
    var hash = WordHash(seed: UInt64(Database.keys.rawValue))
    hash.mix(key)
    return finished(hash)
  }

  /// The share in the sum of `long`.
  package var longHash: UInt64 { finished(WordHash(seed: UInt64(Database.long.rawValue))) }

  @inline(__always)
  private func finished(_ start: WordHash) -> UInt64 {
    var hash = start
    hash.mix(UInt64(bitPattern: main))
    hash.mix(ordinal << 1 | (isTombstone ? 1 : 0))
    hash.mix(UInt64(bitPattern: lease))
    return hash.value
  }

  /// Whether the key has its place in `keys`; in `long` otherwise.
  @inline(__always)
  static func isShort(_ keyCount: Int) -> Bool { (1...EngineLimits.maxKeyBytes).contains(keyCount) }
}

/// 256 ordinals in a row, as far as versions are kept there, 24 bytes:
///
///     main u64 of the first version that was ever put there · count u64 · sum u64 of the versions' hashes
///
/// Little-endian. A block without versions has no record. The first main revision tells where a walk from a revision has to
/// begin, without a look at any version.
package struct BlockRecord: Hashable, Sendable {
  package static let byteCount = 24
  static let ordinalBits: UInt64 = 8

  package var firstMain: Int64
  package var tally: StoredTotals.Tally

  package init(firstMain: Int64, tally: StoredTotals.Tally) {
    self.firstMain = firstMain
    self.tally = tally
  }

  package init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count == Self.byteCount else { return nil }
    firstMain = Int64(littleEndian: bytes.loadUnaligned(as: Int64.self))
    tally = StoredTotals.Tally(
      count: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
      sum: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
  }

  package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    let words = (firstMain.littleEndian, tally.count.littleEndian, tally.sum.littleEndian)
    return try withUnsafePointer(to: words) { (pointer) throws(E) in
      try body(UnsafeRawBufferPointer(start: pointer, count: Self.byteCount))
    }
  }

  package func hash(number: UInt64) -> UInt64 {
    var hash = WordHash(seed: UInt64(Database.blocks.rawValue))
    hash.mix(number)
    hash.mix(UInt64(bitPattern: firstMain))
    hash.mix(tally.count)
    hash.mix(tally.sum)
    return hash.value
  }

  static func number(of ordinal: UInt64) -> UInt64 { ordinal >> ordinalBits }
  static func firstOrdinal(of number: UInt64) -> UInt64 { number << ordinalBits }
}

/// A lease in `leases`. Its key is the ID with the sign bit turned over, so that unsigned order is that of IDs; the record
/// has 16 bytes:
///
///     TTL i64 (ms) · deadline i64 (ms on the lease clock)
///
/// Little-endian.
package struct LeaseRecord: Hashable, Sendable {
  package static let byteCount = 16

  package var ttlMilliseconds: Int64
  package var deadlineMilliseconds: Int64

  package init(ttlMilliseconds: Int64, deadlineMilliseconds: Int64) {
    self.ttlMilliseconds = ttlMilliseconds
    self.deadlineMilliseconds = deadlineMilliseconds
  }

  @inline(__always)
  package init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count == Self.byteCount else { return nil }
    ttlMilliseconds = Int64(littleEndian: bytes.loadUnaligned(as: Int64.self))
    deadlineMilliseconds = Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: Int64.self))
  }

  @inline(__always)
  package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    let words = (ttlMilliseconds.littleEndian, deadlineMilliseconds.littleEndian)
    return try withUnsafePointer(to: words) { (pointer) throws(E) in
      try body(UnsafeRawBufferPointer(start: pointer, count: Self.byteCount))
    }
  }

  @inline(__always)
  package static func key(_ id: LeaseID) -> UInt64 { UInt64(bitPattern: id) ^ (1 << 63) }

  @inline(__always)
  package static func id(_ key: UInt64) -> LeaseID { LeaseID(bitPattern: key ^ (1 << 63)) }

  @inline(__always)
  package func hash(id: LeaseID) -> UInt64 {
    var hash = WordHash(seed: UInt64(Database.leases.rawValue))
    hash.mix(UInt64(bitPattern: id))
    hash.mix(UInt64(bitPattern: ttlMilliseconds))
    hash.mix(UInt64(bitPattern: deadlineMilliseconds))
    return hash.value
  }
}
