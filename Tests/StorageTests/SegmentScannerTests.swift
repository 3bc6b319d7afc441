import LogFormat
import Primitives
import Testing

/// A segment with the given batches of entries, filled up with zeros, and where each batch starts.
private func segment(_ batches: [[LogRecord]], fileBytes: Int = 8_192) -> (bytes: [UInt8], starts: [Int]) {
  let head = SegmentHead(number: 3, firstIndex: 1, previousChain: 0xabcd, salt: 0x1234_5678_9abc)
  var bytes = head.encoded()
  var starts: [Int] = []
  var encoder = BatchEncoder()
  var chain = head.chain
  for (order, batch) in batches.enumerated() {
    encoder.begin(number: UInt64(order + 1), chain: chain)
    for record in batch { encoder.append(record) }
    encoder.seal(in: head)
    chain = encoder.chain
    starts.append(bytes.count)
    bytes += encoder.bytes
  }
  starts.append(bytes.count)
  bytes += [UInt8](repeating: 0, count: max(0, fileBytes - bytes.count))
  return (bytes, starts)
}

private func scan(_ bytes: [UInt8], isNewest: Bool = true) throws -> (indexes: [UInt64], verdict: SegmentVerdict) {
  var indexes: [UInt64] = []
  let scan = try SegmentScanner.scan(bytes, isNewest: isNewest) { record in
    if case .entry(let index, _, _, _) = record { indexes.append(index) }
  }
  return (indexes, scan.verdict)
}

private let threeBatches = [records(1...2, bytes: 700), records(3...5, bytes: 900), records(6...7, bytes: 800)]

@Suite("Segment scanner")
struct SegmentScannerTests {
  @Test("Reads back what was written; the zeros behind it are a clean end")
  func cleanEnd() throws {
    let (bytes, starts) = segment(threeBatches)
    var found: [LogRecord] = []
    let scan = try SegmentScanner.scan(bytes, isNewest: true) { record in
      guard case .entry(let index, let term, let kind, let payload) = record else { return }
      found.append(LogRecord(index: index, term: term, kind: kind, payload: Array(bytes[payload])))
    }
    #expect(found == threeBatches.flatMap { $0 })
    #expect(scan.verdict == .clean(end: starts[3]))
    #expect(scan.nextBatch == 4)
  }

  @Test("A full segment and an empty one end cleanly")
  func extremes() throws {
    let (full, starts) = segment(threeBatches, fileBytes: 0)
    #expect(try scan(full).verdict == .clean(end: starts[3]))
    let (empty, _) = segment([], fileBytes: 0)
    #expect(try scan(empty).verdict == .clean(end: LogLayout.segmentHeadBytes))
  }

  @Test("The last batch without one of its sectors is torn, whichever it is, and is cut as a whole")
  func tornTail() throws {
    let (bytes, starts) = segment(threeBatches)
    var sector = starts[2]
    while sector < starts[3] {
      let end = min((sector / 512 + 1) * 512, starts[3])
      var torn = bytes
      torn.replaceSubrange(sector..<end, with: repeatElement(0, count: end - sector))
      let result = try scan(torn)
      #expect(result.verdict == .torn(at: starts[2]))
      #expect(result.indexes == [1, 2, 3, 4, 5])
      sector = end
    }
  }

  @Test("A blank sector with a durable batch behind it is corruption")
  func blankSectorInTheMiddle() throws {
    let (bytes, starts) = segment(threeBatches)
    var damaged = bytes
    let sector = (starts[1] / 512 + 1) * 512
    damaged.replaceSubrange(sector..<sector + 512, with: repeatElement(0, count: 512))
    guard case .corrupt(let offset, .durableDataFollows) = try scan(damaged).verdict else {
      Issue.record("not refused")
      return
    }
    #expect(offset >= starts[1] && offset < starts[2])
  }

  @Test("Each bit of a durable batch, when flipped, is found, at the place of the record that it is in")
  func flipInTheMiddle() throws {
    let (bytes, starts) = segment([records(1...1, bytes: 40), records(2...3, bytes: 40), records(4...4, bytes: 40)])
    for offset in LogLayout.segmentHeadBytes..<starts[2] {
      for bit in 0..<8 {
        var damaged = bytes
        damaged[offset] ^= 1 << UInt8(bit)
        guard case .corrupt(let at, .durableDataFollows) = try scan(damaged).verdict else {
          Issue.record("flip at \(offset), bit \(bit), is not refused")
          continue
        }
        #expect(at <= offset && offset - at < 75)
      }
    }
  }

  @Test("A flip in the last batch is no torn write, and is not cut away")
  func flipInTheLastBatch() throws {
    let (bytes, starts) = segment(threeBatches)
    for offset in starts[2]..<starts[3] {
      var damaged = bytes
      damaged[offset] ^= 0x10
      guard case .corrupt(_, .notTorn) = try scan(damaged).verdict else {
        Issue.record("flip at \(offset) is not refused")
        continue
      }
    }
  }

  @Test("A torn batch is possible only in the newest segment")
  func tornInOlderSegment() throws {
    var (bytes, starts) = segment(threeBatches)
    bytes.replaceSubrange(starts[2]..<starts[3], with: repeatElement(0, count: starts[3] - starts[2]))
    #expect(try scan(bytes, isNewest: false).verdict == .clean(end: starts[2]))
    bytes[starts[2] + 600] = 1
    #expect(try scan(bytes, isNewest: true).verdict == .torn(at: starts[2]))
    #expect(try scan(bytes, isNewest: false).verdict == .corrupt(at: starts[2], .durableDataFollows))
  }

  @Test("A value that contains a segment's bytes does not pass for a later batch")
  func plantedMark() throws {
    let (inner, _) = segment([records(1...1), records(2...2), records(3...3)], fileBytes: 0)
    let other = SegmentHead(number: 3, firstIndex: 1, previousChain: 0xabcd, salt: 99)
    var encoder = BatchEncoder()
    encoder.begin(number: 1, chain: other.chain)
    encoder.append(LogRecord(index: 1, term: 1, kind: 1, payload: inner + [UInt8](repeating: 7, count: 2_000)))
    encoder.seal(in: other)
    var bytes = other.encoded() + encoder.bytes
    bytes.replaceSubrange(1_024..<1_536, with: repeatElement(0, count: 512))
    #expect(try scan(bytes).verdict == .torn(at: LogLayout.segmentHeadBytes))
  }

  @Test("A damaged head, another version and something else are told apart")
  func heads() throws {
    let (bytes, _) = segment(threeBatches)
    for offset in 0..<LogLayout.segmentHeadBytes {
      var damaged = bytes
      damaged[offset] ^= 4
      #expect(throws: DecodingFailure.self) { try scan(damaged) }
    }
    var newer = bytes
    newer[8] = 2
    #expect(throws: DecodingFailure.unknownVersion(2)) { try scan(newer) }
  }

  @Test("Fuzz: no input makes the scanner crash, and records come out in whole batches", arguments: 0..<8)
  func fuzz(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let (bytes, starts) = segment(
      [records(1...2, bytes: 90), records(3...5, bytes: 30), records(6...9)], fileBytes: 1_500)
    for _ in 0..<1_500 {
      var mutated = bytes
      for _ in 0..<Int.random(in: 1...6, using: &generator) { mutate(&mutated, from: starts, &generator) }
      guard let result = try? scan(mutated, isNewest: Bool.random(using: &generator)) else { continue }
      #expect([[], [1, 2], [1, 2, 3, 4, 5], Array(1...9)].contains(result.indexes))
    }
    for _ in 0..<300 {
      let noise = (0..<Int.random(in: 0...600, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      _ = try? scan(noise)
      _ = try? scan(Array(bytes.prefix(LogLayout.segmentHeadBytes)) + noise)
    }
  }

  private func mutate(_ bytes: inout [UInt8], from starts: [Int], _ generator: inout SeededGenerator) {
    guard bytes.count > LogLayout.segmentHeadBytes + 1 else { return }
    let offset = Int.random(in: LogLayout.segmentHeadBytes..<bytes.count, using: &generator)
    switch Int.random(in: 0..<6, using: &generator) {
    case 0: bytes[offset] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
    case 1: bytes[offset] = UInt8.random(in: 0...255, using: &generator)
    case 2: bytes.removeLast(bytes.count - offset)
    case 3: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: offset)
    case 4:
      let end = min(offset + Int.random(in: 1...600, using: &generator), bytes.count)
      bytes.replaceSubrange(offset..<end, with: repeatElement(0, count: end - offset))
    default:
      let start = starts.randomElement(using: &generator)!
      if start + 4 <= bytes.count { bytes.replaceSubrange(start..<start + 4, with: [0xff, 0xff, 0xff, 0xff]) }
    }
  }
}
