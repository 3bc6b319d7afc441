import CLMDB
import Primitives
import StateMachine

// The state on disk, format 3: one LMDB environment, the file `data.mdb` with `data.mdb-lock` beside it.
//
//   database   key                                  record
//   meta       "state"                              MetaRecord: the head of the state, counts and sums of all that follows
//   meta       "auth"                               users and roles (`AuthCodec`), as of their last change; absent in
//                                                   format 2, which is read and becomes format 3 at the first commit
//   versions   ordinal, u64 of the machine          VersionRecord with its checksum; ordinals rise as versions are made
//   blocks     ordinal / 256, u64 of the machine    BlockRecord: count and sum of the versions in there
//   keys       key of 1...511 bytes, in order       ReferenceRecord of each kept version, several to a key, in order
//   long       ordinal, u64 of the machine          ReferenceRecord of a version whose key is longer (or empty); the
//                                                   key is read from the version
//   leases     lease ID, u64 of the machine         LeaseRecord
//
// Every transaction writes the `meta` record, so that head, keyspace and leases can only move together.
//
// What a crash leaves behind. LMDB never overwrites a page that the last two commits can reach. A commit writes its pages
// beside them, waits for the disk (fdatasync), then writes the other one of two head pages at the file's start, which
// names the new roots, and waits again (O_DSYNC; the changed bytes lie inside one disk sector).
//
//   in the middle of the pages, or before they are on the disk   the old state; the pages are free
//   while the head page is written                               the old state or the new one
//   after that                                                   the new state
//   while a fresh environment is made                            nothing: it gets its name when it is complete
//   during defragmentation                                       see `Defragmentation`
//   while a leader's state takes the place of ours               see `Replacement`
//
// The log in front of the engine holds every entry since the old state, so either is a place to start from.
//
// What damage is found where. LMDB has no checksums. Opening reads the head pages (`FileHead`), `meta`, and all of `keys`,
// `long`, `leases` and `blocks`, and compares them with the sums in `meta`; a version is compared with its checksum, which
// covers its ordinal, at each read; a walk over versions, which a damaged page could make skip some, compares each block
// with its count and sum. `StateVerification` (offline) and defragmentation read everything.

enum StateFormat {
  static let version: UInt32 = 3
  /// Without users and roles.
  static let versionBeforeAuth: UInt32 = 2
  static let fileName = "data.mdb"
  /// Where a fresh state and defragmentation build. Left over from a crash: removed at the next start.
  static let nextFileName = "next.mdb"
  /// Where states are built that a leader sends, with a number and `.mdb` behind it. As above.
  static let receivedFilePrefix = "received-"
  static let lockSuffix = "-lock"

  static let metaKey: [UInt8] = Array("state".utf8)
  static let authKey: [UInt8] = Array("auth".utf8)
}

/// The databases of the format, with the flags that LMDB keeps for each.
enum Database: Int, CaseIterable {
  case meta, versions, keys, long, leases, blocks

  var name: String {
    switch self {
    case .meta: "meta"
    case .versions: "versions"
    case .keys: "keys"
    case .long: "long"
    case .leases: "leases"
    case .blocks: "blocks"
    }
  }

  var flags: UInt32 {
    switch self {
    case .meta: 0
    case .versions, .long, .leases, .blocks: UInt32(MDB_INTEGERKEY)
    case .keys: UInt32(MDB_DUPSORT | MDB_DUPFIXED)
    }
  }
}

/// How much is stored, and of each record its `WordHash`, summed with wrap-around: the sum does not depend on the order, so
/// each commit adds what it puts and subtracts what it removes, and reading everything gives the sum again.
package struct StoredTotals: Hashable, Sendable {
  package var versions = Tally()
  package var keys = Tally()
  package var long = Tally()
  package var leases = Tally()
  package var blocks = Tally()
  /// Logical bytes of all versions.
  package var archivedBytes = 0

  package init() {}

  package struct Tally: Hashable, Sendable {
    package var count: UInt64
    package var sum: UInt64

    package init(count: UInt64 = 0, sum: UInt64 = 0) {
      self.count = count
      self.sum = sum
    }

    mutating func add(_ hash: UInt64) {
      count &+= 1
      sum &+= hash
    }

    mutating func remove(_ hash: UInt64) {
      count &-= 1
      sum &-= hash
    }
  }
}

/// The one record of `meta`:
///
///     magic "LHST" · format u32 · transaction u64 · archived bytes u64 · 5 × (count u64 · sum u64) ·
///     applied index u64 · applied term u64 · clock i64 (ms) · revision i64 · compacted revision i64 · keys u64 ·
///     leases u64 · next ordinal u64 · alarms: count varint, each member u64 · kind u8 · cluster · hash (`ClusterCodec`) ·
///     crc32c u32 of the record of users and roles · crc32c u32 of all before it
///
/// Integers are little-endian; the tallies are those of versions, keys, long, leases, blocks.
package struct MetaRecord: Hashable, Sendable {
  /// LMDB's number of the transaction that wrote the record: a head page that leads to an older tree is found out.
  package var transaction: UInt64
  package var totals: StoredTotals
  /// Users and roles among it, which have a record of their own: they are seldom changed, and may be many.
  package var head: StateHead
  /// Of that record; nil in the format that had none.
  package var authChecksum: UInt32?

  private static let magic: [UInt8] = Array("LHST".utf8)

  package func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 192 + head.alarms.count * 9)
    writer.bytes += Self.magic
    writer.writeFixed(StateFormat.version)
    writer.writeFixed(transaction)
    writer.writeFixed(UInt64(totals.archivedBytes))
    for tally in [totals.versions, totals.keys, totals.long, totals.leases, totals.blocks] {
      writer.writeFixed(tally.count)
      writer.writeFixed(tally.sum)
    }
    writer.writeFixed(head.appliedIndex)
    writer.writeFixed(head.appliedTerm)
    writer.writeFixed(head.clock.milliseconds)
    writer.writeFixed(head.revision)
    writer.writeFixed(head.compactedRevision)
    writer.writeFixed(UInt64(head.keyCount))
    writer.writeFixed(UInt64(head.leaseCount))
    writer.writeFixed(head.nextOrdinal)
    writer.writeCount(head.alarms.count)
    for alarm in head.alarms { writer.write(alarm) }
    writer.write(head.cluster)
    writer.write(head.hash)
    writer.writeFixed(authChecksum ?? Self.checksum(of: head.auth))
    writer.writeFixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  /// - Parameter authChecksum: nil when it is not known yet.
  package init(transaction: UInt64, totals: StoredTotals, head: StateHead, authChecksum: UInt32? = nil) {
    self.transaction = transaction
    self.totals = totals
    self.head = head
    self.authChecksum = authChecksum ?? Self.checksum(of: head.auth)
  }

  static func encoded(_ auth: AuthState) -> [UInt8] {
    var writer = ByteWriter(reserving: 256)
    writer.write(auth)
    return writer.bytes
  }

  private static func checksum(of auth: AuthState) -> UInt32 { CRC32C.checksum(encoded(auth)) }

  /// Takes in the record of users and roles, nil when there is none.
  package mutating func addAuth(_ bytes: [UInt8]?) throws(DecodingFailure) {
    guard let authChecksum else { return }
    guard let bytes, CRC32C.checksum(bytes) == authChecksum else {
      throw .malformed(offset: 0, "users and roles that fail their checksum")
    }
    var reader = ByteReader(bytes)
    head.auth = try reader.readAuth()
    try reader.finish()
  }

  /// Leaves out users and roles (`addAuth`). Throws `.unknownVersion` on a record of another format.
  package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    guard bytes.starts(with: Self.magic), bytes.count >= Self.magic.count + 8 else {
      throw .malformed(offset: 0, "not a state's head")
    }
    var reader = ByteReader(bytes[..<(bytes.count - 4)])
    _ = try reader.readFixed(UInt32.self)
    let version = try reader.readFixed(UInt32.self)
    var trailer = ByteReader(bytes[(bytes.count - 4)...])
    guard try trailer.readFixed(UInt32.self) == CRC32C.checksum(reader.bytes) else {
      throw .malformed(offset: bytes.count - 4, "a head that fails its checksum")
    }
    guard version == StateFormat.version || version == StateFormat.versionBeforeAuth else {
      throw .unknownVersion(UInt64(version))
    }
    transaction = try reader.readFixed()
    totals = StoredTotals()
    totals.archivedBytes = try Self.readSize(&reader)
    totals.versions = try Self.readTally(&reader)
    totals.keys = try Self.readTally(&reader)
    totals.long = try Self.readTally(&reader)
    totals.leases = try Self.readTally(&reader)
    totals.blocks = try Self.readTally(&reader)
    head = try Self.readHead(&reader)
    if version != StateFormat.versionBeforeAuth { authChecksum = try reader.readFixed() }
    try reader.finish()
  }

  private static func readTally(_ reader: inout ByteReader) throws(DecodingFailure) -> StoredTotals.Tally {
    StoredTotals.Tally(count: try reader.readFixed(), sum: try reader.readFixed())
  }

  private static func readSize(_ reader: inout ByteReader) throws(DecodingFailure) -> Int {
    let offset = reader.offset
    guard let size = Int(exactly: try reader.readFixed(UInt64.self)) else {
      throw .malformed(offset: offset, "a size over 63 bits")
    }
    return size
  }

  private static func readHead(_ reader: inout ByteReader) throws(DecodingFailure) -> StateHead {
    var head = StateHead(
      appliedIndex: try reader.readFixed(), appliedTerm: try reader.readFixed(),
      clock: LeaseClock(milliseconds: try reader.readFixed()), revision: try reader.readFixed(),
      compactedRevision: try reader.readFixed(), keyCount: try readSize(&reader), leaseCount: try readSize(&reader),
      nextOrdinal: try reader.readFixed(), alarms: [], cluster: ClusterState(),
      hash: StateHash(value: 0, checkpoints: []))
    for _ in 0..<(try reader.readCount(minimumSize: 9)) { head.alarms.append(try reader.readAlarm()) }
    head.cluster = try reader.readCluster()
    head.hash = try reader.readHash()
    return head
  }
}
