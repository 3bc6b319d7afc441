import Keyspace
import Primitives
import StateMachine
import Testing

@Suite("The codec of command batches")
struct CommandCodecTests {
  @Test("reads back what it wrote, for every shape of command")
  func roundTrip() throws {
    var random = RandomCommands(seed: 1)
    for _ in 0..<2_000 {
      let batch = random.batch()
      #expect(try CommandBatch(decoding: batch.encoded()[...]) == batch)
    }
  }

  @Test("reads a batch from the middle of a larger buffer")
  func slice() throws {
    let batch = CommandBatch(clock: LeaseClock(milliseconds: 5), commands: [.put(PutRequest("k", "v", lease: 9))])
    let encoded = batch.encoded()
    let buffer = [1, 2, 3] + encoded + [4]
    #expect(try CommandBatch(decoding: buffer[3..<3 + encoded.count]) == batch)
  }

  @Test("has a format that does not change by accident")
  func goldenBytes() {
    let batch = CommandBatch(
      clock: LeaseClock(milliseconds: 100),
      commands: [.put(PutRequest("key", "v", lease: 258)), .leaseRenew(ids: [1]), .tick])
    #expect(
      batch.encoded() == [
        2, 200, 1, 0, 3,
        1, 8, 3, 0x6b, 0x65, 0x79, 1, 0x76, 2, 1, 0, 0, 0, 0, 0, 0,
        7, 1, 1, 0, 0, 0, 0, 0, 0, 0,
        10,
      ])
  }

  @Test("names the origins of forwarded commands in a format that does not change by accident")
  func goldenOrigins() {
    let origin = ProposalOrigin(memberID: 0x0102, session: 3, sequence: 300)
    let batch = CommandBatch(
      clock: .zero, commands: [.tick, .tick, .tick], origins: [ForwardedPart(origin: origin, commandCount: 2)])
    #expect(
      batch.encoded() == [
        2, 0,
        1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0xac, 2, 2,
        3, 10, 10, 10,
      ])
  }

  @Test(
    "refuses origins of more commands than there are, and of none", arguments: [[4], [2, 2], [3, 1], [0], [1, 0]])
  func originsThatDoNotFit(counts: [Int]) {
    let origin = ProposalOrigin(memberID: 1, session: 2, sequence: 3)
    let batch = CommandBatch(
      clock: .zero, commands: [.tick, .tick, .tick],
      origins: counts.map { ForwardedPart(origin: origin, commandCount: $0) })
    #expect(throws: DecodingFailure.self) { try CommandBatch(decoding: batch.encoded()[...]) }
  }

  @Test("refuses every prefix of a batch, and bytes behind it")
  func wrongLength() {
    var random = RandomCommands(seed: 2)
    for _ in 0..<100 {
      let bytes = random.batch().encoded()
      for length in 0..<bytes.count {
        #expect(throws: DecodingFailure.self) { try CommandBatch(decoding: bytes[..<length]) }
      }
      #expect(throws: DecodingFailure.trailingBytes(offset: bytes.count)) {
        try CommandBatch(decoding: (bytes + [0])[...])
      }
    }
  }

  @Test("refuses the version of a newer build by its name")
  func newerVersion() {
    #expect(throws: DecodingFailure.unknownVersion(3)) { try CommandBatch(decoding: [3, 0, 0, 0]) }
  }

  @Test("reads transactions as deep as the limit and refuses deeper ones without going down")
  func depth() throws {
    func nested(_ depth: Int) -> TransactionRequest {
      depth == 1 ? TransactionRequest() : TransactionRequest(success: [.transaction(nested(depth - 1))])
    }
    let deepest = CommandBatch(clock: .zero, commands: [.transaction(nested(Limits.maxTransactionDepth))])
    #expect(try CommandBatch(decoding: deepest.encoded()[...]) == deepest)

    // version, clock, no origins, one command: a transaction without comparisons whose first operation is a transaction …
    let bottomless: [UInt8] = [2, 0, 0, 1, 3] + (0..<100_000).flatMap { _ in [0, 1, 4] as [UInt8] }
    #expect(throws: DecodingFailure.self) { try CommandBatch(decoding: bottomless[...]) }
  }

  @Test("reads damaged bytes as some batch or refuses them, and never crashes")
  func damaged() throws {
    var random = RandomCommands(seed: 3)
    var refused = 0
    for _ in 0..<4_000 {
      var bytes = random.batch().encoded()
      for _ in 0..<Int.random(in: 1...4, using: &random.random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random.random)] = UInt8.random(in: 0...255, using: &random.random)
      }
      bytes[0] = CommandBatch.formatVersion
      do {
        let batch = try CommandBatch(decoding: bytes[...])
        #expect(try CommandBatch(decoding: batch.encoded()[...]) == batch)
      } catch { refused += 1 }
    }
    #expect(refused > 1_000)
  }
}
