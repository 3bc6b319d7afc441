import Keyspace
import Primitives
import SidecarCore
import Testing

@Suite struct EntryCodecTests {
  private func someRecord(_ random: inout SeededGenerator) -> EntryRecord {
    var record = EntryRecord(
      generation: UInt64.random(in: 1...(1 << 40), using: &random),
      sizeBytes: .random(in: 0...Int64.max, using: &random),
      refs: (0..<Int.random(in: 0...3, using: &random)).map { Bytes("ref-\($0)") },
      labels: Bool.random(using: &random) ? ["a": "b", "ä": "ö"] : [:],
      registeredAtMilliseconds: .random(in: 0...(1 << 45), using: &random),
      ttlMilliseconds: .random(in: 1_000...(1 << 40), using: &random))
    if Bool.random(using: &random) {
      record.state = .evicting(sequence: .random(in: 1...(1 << 50), using: &random), reason: .cascade)
    }
    record.acknowledged = Bool.random(using: &random)
    return record
  }

  @Test func everythingStoredReadsBack() throws {
    var random = SeededGenerator(seed: 1)
    for number in 0..<300 {
      let record = someRecord(&random)
      #expect(try EntryRecord(decoding: record.encoded()) == record)
      let marker = EntryMarker(generation: record.generation, grantedMilliseconds: record.ttlMilliseconds)
      #expect(try EntryMarker(decoding: marker.encoded()) == marker)
      let head = JournalHead(epoch: random.next(upperBound: UInt32.max), next: 50, first: 7, appendID: random.next())
      #expect(try JournalHead(decoding: head.encoded()) == head)
      let chunk = JournalChunk(
        firstSequence: UInt64(number),
        items: [
          .evict(
            EntryName(cache: "c", key: [0, 255, 1]), generation: 3, reason: .size, sizeBytes: 4, idleMilliseconds: 5,
            registeredAtMilliseconds: 6), .cancel(EntryName(cache: "d", key: "k"), of: 8, generation: 9),
        ])
      #expect(try JournalChunk(decoding: chunk.encoded()) == chunk)
    }
  }

  /// No input crashes a decoder: random bytes, and good ones with flipped, cut and inserted bytes.
  @Test func decodersSurviveAnyInput() {
    var random = SeededGenerator(seed: 2)
    let seeds: [[UInt8]] = [
      someRecord(&random).encoded().array, EntryMarker(generation: 1, grantedMilliseconds: 2).encoded().array,
      JournalHead(epoch: 1, next: 9, first: 3).encoded().array,
      JournalChunk(firstSequence: 1, items: [.cancel(EntryName(cache: "d", key: "k"), of: 8, generation: 9)]).encoded()
        .array,
    ]
    for _ in 0..<20_000 {
      var bytes = seeds.randomElement(using: &random)!
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        switch Int.random(in: 0...2, using: &random) {
        case 0 where !bytes.isEmpty:
          bytes[Int.random(in: bytes.indices, using: &random)] = UInt8(truncatingIfNeeded: random.next())
        case 1 where !bytes.isEmpty: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
        default:
          bytes.insert(
            UInt8(truncatingIfNeeded: random.next()), at: Int.random(in: 0...bytes.count, using: &random))
        }
      }
      _ = try? EntryRecord(decoding: Bytes(bytes))
      _ = try? EntryMarker(decoding: Bytes(bytes))
      _ = try? JournalHead(decoding: Bytes(bytes))
      _ = try? JournalChunk(decoding: Bytes(bytes))
    }
  }

  @Test func aKeyTravelsPercentEncodedOrInBase64() throws {
    #expect(try KeyEncoding.key(fromPath: "cas/ab%20c%25") == "cas/ab c%")
    #expect(try KeyEncoding.key(fromBase64: "_-8") == [0xff, 0xef])
    #expect(throws: KeyEncoding.Problem.badPercentEncoding) { try KeyEncoding.key(fromPath: "a%2") }
    #expect(throws: KeyEncoding.Problem.notUTF8) { try KeyEncoding.key(fromPath: "%ff") }
    #expect(throws: KeyEncoding.Problem.empty) { try KeyEncoding.key(fromPath: "") }
    #expect(throws: KeyEncoding.Problem.badBase64) { try KeyEncoding.key(fromBase64: "!") }
    #expect(throws: KeyEncoding.Problem.tooLong) {
      try KeyEncoding.key(fromPath: Substring(String(repeating: "x", count: 1_025)))
    }
  }

  @Test func theScanFindsLivingRecordsWithoutMarker() throws {
    let layout = StoreLayout()
    var scan = OwedScan(layout: layout)
    var dead = EntryRecord(registeredAtMilliseconds: 0, ttlMilliseconds: 1_000)
    dead.state = .evicting(sequence: 1, reason: .expired)
    let live = EntryRecord(sizeBytes: 5, registeredAtMilliseconds: 0, ttlMilliseconds: 1_000)
    func stored(_ key: Bytes, _ record: EntryRecord) -> KeyRecord {
      KeyRecord(
        key: layout.record(EntryName(cache: "c", key: key)), value: record.encoded(), createRevision: 1, modRevision: 3,
        version: 1)
    }
    let records = [stored("a", live), stored("b", live), stored("b2", dead), stored("c", live)]
    let markers: [Bytes] = ["a", "a2", "c"].map { layout.marker(EntryName(cache: "c", key: $0)) }
    scan.add(records: records, markerKeys: markers)
    #expect(scan.owed.map(\.entry.key) == ["b"])
    #expect(scan.totals["c"]?.liveEntries == 3)
    #expect(scan.totals["c"]?.liveBytes == 15)
    #expect(scan.totals["c"]?.evictingEntries == 1)
  }

  @Test func totalsTakeChangesDuringACountIntoAccountOnce() {
    var book = TotalsBook()
    let record = EntryRecord(sizeBytes: 1, registeredAtMilliseconds: 0, ttlMilliseconds: 1_000)
    book.beginCount()
    book.note(cache: "c", before: nil, after: record, revision: 4)
    book.note(cache: "c", before: nil, after: record, revision: 6)
    var counted = CacheTotals()
    counted.liveEntries = 10
    counted.liveBytes = 10
    book.finishCount(["c": counted], at: 5)
    #expect(book.totals["c"]?.liveEntries == 11)
    book.note(cache: "c", before: record, after: nil, revision: 7)
    #expect(book.totals["c"]?.liveEntries == 10)
  }
}

extension SeededGenerator {
  fileprivate mutating func next(upperBound: UInt32) -> UInt32 { UInt32.random(in: 0..<upperBound, using: &self) }
}
