import Engine
import Keyspace
import Primitives
import StateMachine
import Testing

@Suite struct RecordTests {
  // MARK: Versions

  @Test(arguments: 1...200)
  func aVersionComesBack(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let ordinal = UInt64.random(in: 0...ReferenceRecord.maxOrdinal, using: &random)
    let version = Self.version(&random)
    let record = Self.encoded(version, at: ordinal)
    record.withUnsafeBytes { bytes in
      #expect(VersionRecord.decode(bytes, at: ordinal) == version)
      #expect(VersionRecord.decode(bytes, at: ordinal ^ 1) == nil, "another's place")
      let head = VersionRecord.head(of: bytes)
      #expect(head?.sizeInBytes == version.sizeInBytes)
      #expect(head?.lease == version.lease)
    }
  }

  @Test func aSmallVersionIsSmall() {
    let record = KeyRecord(key: "key", value: "value", createRevision: 5, modRevision: 7, version: 2, lease: 0x1234)
    let encoded = Self.encoded(StoredVersion(record, sub: 1, kind: .put), at: 9)
    let checksum = Array(encoded.prefix(4))
    #expect(
      encoded == checksum + [0x81, 7, 1, 3] + Array("key".utf8) + [2, 2, 0x34, 0x12, 0, 0, 0, 0, 0, 0]
        + Array("value".utf8))
    let tombstone = StoredVersion(
      KeyRecord(key: "key", value: "", createRevision: 0, modRevision: 300, version: 0), sub: 0,
      kind: .delete(.leaseExpired))
    #expect(Array(Self.encoded(tombstone, at: 10).dropFirst(4)) == [3, 0xac, 2, 0, 3] + Array("key".utf8))
  }

  /// Any change of any byte is noticed, and no bytes whatever lead out of bounds.
  @Test(arguments: 1...50)
  func aDamagedVersionIsNoVersion(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let sound = Self.encoded(Self.version(&random), at: seed)
    for _ in 0..<200 {
      var bytes = sound
      bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
      bytes.removeLast(Int.random(in: 0..<min(3, bytes.count), using: &random))
      bytes.withUnsafeBytes { record in
        #expect(VersionRecord.decode(record, at: seed) == nil)
        _ = VersionRecord.head(of: record)
      }
    }
    for count in 0..<sound.count {
      sound.withUnsafeBytes { record in
        _ = VersionRecord.head(of: UnsafeRawBufferPointer(rebasing: record.prefix(count)))
        #expect(VersionRecord.decode(UnsafeRawBufferPointer(rebasing: record.prefix(count)), at: seed) == nil)
      }
    }
  }

  // MARK: References and leases

  @Test(arguments: 1...50)
  func referencesSortAsTheirVersions(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var records: [ReferenceRecord] = (0..<50).map { _ in
      ReferenceRecord(
        main: Int64.random(in: 0...3, using: &random) << 40, ordinal: UInt64.random(in: 0...(1 << 62), using: &random),
        isTombstone: Bool.random(using: &random), lease: Int64.random(in: .min ... .max, using: &random))
    }
    records.sort { ($0.main, $0.ordinal) < ($1.main, $1.ordinal) }
    let encoded = records.map { $0.withBytes { Array($0) } }
    #expect(encoded.allSatisfy { $0.count == ReferenceRecord.byteCount })
    #expect(encoded == encoded.sorted { Bytes($0) < Bytes($1) })
    #expect(encoded.map { $0.withUnsafeBytes { ReferenceRecord($0) } } == records)
  }

  @Test func aLeaseComesBack() {
    let lease = LeaseRecord(ttlMilliseconds: 60_000, deadlineMilliseconds: .max)
    let bytes = lease.withBytes { Array($0) }
    #expect(bytes == [0x60, 0xea, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0xff, count: 7) + [0x7f])
    #expect(bytes.withUnsafeBytes { LeaseRecord($0) } == lease)
    #expect(bytes.dropLast().withUnsafeBytes { LeaseRecord($0) } == nil)
  }

  @Test func leaseKeysSortAsTheirIDs() {
    let ids: [LeaseID] = [.min, -5, -1, 0, 1, 7, 1 << 40, .max]
    let keys = ids.map(LeaseRecord.key)
    #expect(keys == keys.sorted())
    #expect(keys.map(LeaseRecord.id) == ids)
  }

  @Test func aBlockComesBack() {
    let block = BlockRecord(firstMain: 0x0102, tally: .init(count: 256, sum: 0xff00))
    let bytes = block.withBytes { Array($0) }
    #expect(
      bytes == [2, 1] + [UInt8](repeating: 0, count: 7) + [1] + [UInt8](repeating: 0, count: 7) + [0xff]
        + [UInt8](repeating: 0, count: 6))
    #expect(bytes.withUnsafeBytes { BlockRecord($0) } == block)
    #expect(bytes.dropLast().withUnsafeBytes { BlockRecord($0) } == nil)
  }

  // MARK: Sums

  /// One bit of a record, a byte moved from key to record, a record of another database: another hash.
  @Test func hashesTellRecordsApart() {
    let record = ReferenceRecord(main: 5, ordinal: 9, isTombstone: false, lease: 3)
    func hash(_ key: [UInt8], _ record: ReferenceRecord) -> UInt64 { key.withUnsafeBytes { record.hash(key: $0) } }
    var hashes: Set<UInt64> = [record.longHash, LeaseRecord(ttlMilliseconds: 5, deadlineMilliseconds: 18).hash(id: 3)]
    let key = Array("some/key/of/19bytes".utf8)
    for bit in 0..<key.count * 8 {
      var other = key
      other[bit / 8] ^= 1 << UInt8(bit % 8)
      hashes.insert(hash(other, record))
    }
    for count in 0...key.count { hashes.insert(hash(Array(key.prefix(count)), record)) }
    hashes.insert(hash(key, ReferenceRecord(main: 5, ordinal: 9, isTombstone: true, lease: 3)))
    hashes.insert(hash(key, ReferenceRecord(main: 4, ordinal: 9, isTombstone: false, lease: 3)))
    hashes.insert(hash(key, ReferenceRecord(main: 5, ordinal: 9, isTombstone: false, lease: 4)))
    #expect(hashes.count == 2 + key.count * 8 + key.count + 1 + 3)
  }

  // MARK: Head

  @Test func theHeadComesBack() throws {
    let record = Self.head
    let bytes = record.encoded()
    #expect(try MetaRecord(decoding: bytes) == record)
    for index in bytes.indices {
      var damaged = bytes
      damaged[index] ^= 0x10
      #expect(throws: DecodingFailure.self) { try MetaRecord(decoding: damaged) }
      #expect(throws: DecodingFailure.self) { try MetaRecord(decoding: Array(bytes.prefix(index))) }
    }
  }

  @Test func aHeadOfAnotherFormatIsNamed() {
    var bytes = Self.head.encoded()
    bytes[4] = 1
    let body = Array(bytes.dropLast(4))
    let sealed = body + withUnsafeBytes(of: CRC32C.checksum(body).littleEndian) { Array($0) }
    #expect(throws: DecodingFailure.unknownVersion(1)) { try MetaRecord(decoding: sealed) }
  }

  /// What a member of the format before users has stored opens, with none.
  @Test func aHeadFromBeforeThereWereUsersIsRead() throws {
    var old = Self.head.encoded()
    old[4] = 2
    old.removeLast(8)
    withUnsafeBytes(of: CRC32C.checksum(old).littleEndian) { old += $0 }
    var record = try MetaRecord(decoding: old)
    #expect(record.authChecksum == nil)
    try record.addAuth(nil)
    #expect(record.head == Self.head.head && record.head.auth == AuthState())
  }

  private static let totals: StoredTotals = {
    var totals = StoredTotals()
    totals.versions = .init(count: 1, sum: 2)
    totals.keys = .init(count: 3, sum: 4)
    totals.long = .init(count: 5, sum: 6)
    totals.leases = .init(count: 7, sum: 8)
    totals.blocks = .init(count: 17, sum: 18)
    totals.archivedBytes = 9
    return totals
  }()

  private static let head = MetaRecord(
    transaction: 77,
    totals: totals,
    head: StateHead(
      appliedIndex: 10, appliedTerm: 11, clock: LeaseClock(milliseconds: 12), revision: 13, compactedRevision: -1,
      keyCount: 14, leaseCount: 15, nextOrdinal: 16,
      alarms: [Alarm(memberID: 1, kind: .noSpace), Alarm(memberID: 2, kind: .corrupt)],
      cluster: ClusterState(
        id: 17,
        members: [
          ClusterMember(id: 19, name: "b", peerURLs: ["http://b:2380"], isLearner: true),
          ClusterMember(id: 18, name: "a", peerURLs: ["http://a:2380"], clientURLs: ["http://a:2379"]),
        ], membershipBytes: [20, 21]),
      hash: StateHash(value: 22, checkpoints: [.init(index: 64, hash: 23), .init(index: 128, hash: 24)])))

  // MARK: Making versions

  private static func encoded(_ version: StoredVersion, at ordinal: UInt64) -> [UInt8] {
    var writer = ByteWriter()
    VersionRecord.encode(version, at: ordinal, into: &writer)
    return writer.bytes
  }

  private static func version(_ random: inout SeededGenerator) -> StoredVersion {
    func bytes(upTo most: Int) -> Bytes {
      Bytes((0..<Int.random(in: 0...most, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
    }
    let main = Int64.random(in: 1...(1 << 62), using: &random)
    let sub = Int64.random(in: 0...300, using: &random)
    if Int.random(in: 0..<3, using: &random) == 0 {
      let cause = DeletionCause(rawValue: UInt8.random(in: 0...2, using: &random))!
      let record = KeyRecord(key: bytes(upTo: 600), value: [], createRevision: 0, modRevision: main, version: 0)
      return StoredVersion(record, sub: sub, kind: .delete(cause))
    }
    let record = KeyRecord(
      key: bytes(upTo: 600), value: bytes(upTo: 900), createRevision: Int64.random(in: 1...main, using: &random),
      modRevision: main, version: Int64.random(in: 1...1_000, using: &random),
      lease: [0, 1, -9, .max][Int.random(in: 0..<4, using: &random)])
    return StoredVersion(record, sub: sub, kind: .put)
  }
}
