import ClusterNode
import EtcdAPI
import struct Foundation.Data
import Keyspace
import NIOCore
import Primitives
import Testing

/// The hand-written protobuf coding against the generated messages: the same meaning, the same refusals, the same bytes.
@Suite("Hand-written protobuf coding")
struct HandWrittenCodingTests {
  @Test("Requests made by the generated messages are read alike by both", arguments: RequestKind.allCases)
  func requests(kind: RequestKind) throws {
    var messages = RandomMessages(random: SeededGenerator(seed: 11))
    for _ in 0..<3_000 {
      let bytes = messages.message(kind)
      #expect(try kind.byHand(bytes) == kind.generated(bytes))
    }
  }

  /// What a decoder makes of bytes: its error, printed, counts as well as its result.
  static func outcome(_ decode: (ByteBuffer) throws -> Decoded, _ bytes: ByteBuffer) -> Result<Decoded, Refusal> {
    do { return .success(try decode(bytes)) } catch { return .failure(Refusal(text: "\(error)")) }
  }

  struct Refusal: Error, Equatable { var text: String }

  @Test(
    "Mutated requests: what one refuses the other refuses, in the same words; what one reads the other reads alike",
    arguments: RequestKind.allCases)
  func mutations(kind: RequestKind) {
    var messages = RandomMessages(random: SeededGenerator(seed: 12))
    var refused = 0
    for round in 0..<20_000 {
      var bytes = RequestFuzzTests.mutated(messages.message(kind), &messages.random)
      if round % 5 == 0 { bytes = Self.joined(bytes, messages.message(kind)) }
      if round % 11 == 0 { bytes = RequestFuzzTests.noise(&messages.random) }
      let (own, oracle) = (Self.outcome(kind.byHand, bytes), Self.outcome(kind.generated, bytes))
      #expect(own == oracle, "\(bytes.readableBytesView.map { String($0, radix: 16) })")
      if case .failure = own { refused += 1 }
    }
    #expect(refused > 500)
  }

  static func joined(_ first: ByteBuffer, _ second: ByteBuffer) -> ByteBuffer {
    var both = first
    both.writeImmutableBuffer(second)
    return both
  }

  @Test("Two messages after each other are one, merged", arguments: RequestKind.allCases)
  func merging(kind: RequestKind) throws {
    var messages = RandomMessages(random: SeededGenerator(seed: 13))
    for _ in 0..<1_000 {
      let bytes = Self.joined(messages.message(kind), messages.message(kind))
      #expect(try kind.byHand(bytes) == kind.generated(bytes))
    }
  }

  @Test(
    "Corners of the format",
    arguments: [
      // Field 0; field numbers too large; wire types 6 and 7; a group's end without a beginning.
      [0x00], [0x02, 0x00], [0xff, 0xff, 0xff, 0xff, 0x0f], [0xfa, 0xff, 0xff, 0xff, 0x1f, 0x00], [0x0e], [0x0f], [0x0c],
      // A tag written longer than need be, and cut short.
      [0x8a, 0x00, 0x01, 0x61], [0x8a, 0x80, 0x80, 0x80, 0x00, 0x01, 0x61], [0x8a], [0x8a, 0x80, 0x80, 0x80, 0x80, 0x00],
      // Integers of ten bytes (-1), of eleven, and cut short; wrong wire types for known fields.
      [0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
      [0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
      [0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
      [0x18], [0x18, 0x80], [0x08, 0x05], [0x1a, 0x02, 0x61, 0x62], [0x09, 1, 2, 3, 4, 5, 6, 7, 8], [0x0d, 1, 2, 3, 4],
      [0x09, 1, 2], [0x0d, 1],
      // Lengths beyond the message, beyond 2 GiB, beyond 64 bits.
      [0x0a, 0x05, 0x61], [0x0a, 0xff, 0xff, 0xff, 0xff, 0x07], [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
      [0x7a, 0xff, 0xff, 0xff, 0xff, 0x07], [0x0a, 0x80],
      // Unknown fields of every kind, groups in groups, groups without an end or with another's.
      [0xf8, 0x01, 0x05], [0x7a, 0x02, 0x61, 0x62], [0x0b, 0x0c], [0x0b, 0x13, 0x14, 0x0c], [0x0b, 0x08, 0x01, 0x0c, 0x18, 0x07],
      [0x0b], [0x0b, 0x14], [0x0b, 0x13, 0x0c, 0x14], [0x0b, 0x88, 0x00, 0x01, 0x0c], [0x0b, 0x00, 0x0c], [0x0b, 0x0e, 0x0c],
      [0x0b, 0xfc, 0xff, 0xff, 0xff, 0x0f],
    ] as [[UInt8]])
  func corners(bytes: [UInt8]) {
    let buffer = ByteBuffer(bytes: bytes)
    for kind in RequestKind.allCases {
      #expect(Self.outcome(kind.byHand, buffer) == Self.outcome(kind.generated, buffer), "\(kind)")
    }
  }

  @Test("Nesting ends at the same depth, with messages, with groups and with both")
  func depth() {
    for depth in [100, 148, 149, 150, 151, 200] {
      var message: [UInt8] = []
      for _ in 0..<depth {
        for tag: UInt8 in [0x22, 0x12] { message = [tag] + Self.length(message.count) + message }
      }
      let buffer = ByteBuffer(bytes: message)
      #expect(
        Self.outcome(RequestKind.transaction.byHand, buffer) == Self.outcome(RequestKind.transaction.generated, buffer))
    }
    for depth in [298, 299, 300, 301, 10_000] {
      let groups = ByteBuffer(bytes: Array(repeating: 0x0b, count: depth) + Array(repeating: 0x0c, count: depth))
      #expect(Self.outcome(RequestKind.range.byHand, groups) == Self.outcome(RequestKind.range.generated, groups))
      let nested = ByteBuffer(bytes: [0x12] + Self.length(2 * depth) + Array(groups.readableBytesView))
      #expect(
        Self.outcome(RequestKind.transaction.byHand, nested) == Self.outcome(RequestKind.transaction.generated, nested))
    }
  }

  static func length(_ count: Int) -> [UInt8] {
    var (rest, bytes) = (count, [UInt8]())
    while rest >= 0x80 {
      bytes.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }

  @Test("Answers are, byte for byte, those that the generated messages make")
  func answers() throws {
    var messages = RandomMessages(random: SeededGenerator(seed: 14))
    for _ in 0..<3_000 {
      let header = AnswerHeader(
        clusterID: UInt64(bitPattern: messages.integer()), memberID: UInt64(bitPattern: messages.integer()),
        revision: Int64.random(in: 1...300, using: &messages.random), term: UInt64(bitPattern: messages.integer()))
      let generated = EtcdResponseHeader(header)
      let range = messages.rangeResult()
      #expect(RangeAnswer(header: header, result: range).wireBuffer == EtcdRangeResponse(range, generated).wireBuffer)
      let previous = messages.chance(50) ? messages.record() : nil
      #expect(PutAnswer(header: header, previous: previous).wireBuffer == EtcdPutResponse(previous, generated).wireBuffer)
      let deleted = messages.deleteResult()
      #expect(
        DeleteAnswer(header: header, result: deleted).wireBuffer == EtcdDeleteRangeResponse(deleted, generated).wireBuffer)
      let (id, ttl) = (messages.integer(), messages.integer())
      #expect(
        KeepAliveAnswer(header: header, id: id, ttlSeconds: ttl).wireBuffer
          == EtcdLeaseKeepAliveResponse.with {
            $0.header = generated
            $0.id = id
            $0.ttl = ttl
          }.wireBuffer)
    }
  }

  @Test("A transaction's answer too, with the revisions inside it, at lengths that differ between old and new")
  func transactionAnswers() {
    var messages = RandomMessages(random: SeededGenerator(seed: 15))
    for round in 0..<3_000 {
      let revision: Int64 = round % 2 == 0 ? 128 : 16_384
      let header = AnswerHeader(clusterID: 1, memberID: 2, revision: revision, term: 3)
      let result = messages.transactionResult()
      var changes = false
      _ = EtcdTxnResponse(result, EtcdResponseHeader(), old: 0, new: 0, changed: &changes)
      var changed = false
      let generated = EtcdTxnResponse(
        result, EtcdResponseHeader(header), old: changes ? revision - 1 : revision, new: revision, changed: &changed)
      #expect(TransactionAnswer(header: header, result: result).wireBuffer == generated.wireBuffer)
    }
  }
}
