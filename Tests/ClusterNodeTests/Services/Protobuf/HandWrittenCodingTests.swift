import ClusterNode
import EtcdAPI
import Keyspace
import NIOCore
import Primitives
import Testing

import struct Foundation.Data

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
      "00", "02 00", "ff ff ff ff 0f", "fa ff ff ff 1f 00", "0e", "0f", "0c",
      // A tag written longer than need be, and cut short.
      "8a 00 01 61", "8a 80 80 80 00 01 61", "8a", "8a 80 80 80 80 00",
      // Integers of ten bytes (-1), of eleven, and cut short; wrong wire types for known fields.
      "18 ff ff ff ff ff ff ff ff ff 01", "18 ff ff ff ff ff ff ff ff ff 7f", "18 ff ff ff ff ff ff ff ff ff ff 01",
      "18", "18 80", "08 05", "1a 02 61 62", "09 01 02 03 04 05 06 07 08", "0d 01 02 03 04", "09 01 02", "0d 01",
      // Lengths beyond the message, beyond 2 GiB, beyond 64 bits.
      "0a 05 61", "0a ff ff ff ff 07", "0a ff ff ff ff ff ff ff ff 7f", "7a ff ff ff ff 07", "0a 80",
      // Unknown fields of every kind, groups in groups, groups without an end or with another's.
      "f8 01 05", "7a 02 61 62", "0b 0c", "0b 13 14 0c", "0b 08 01 0c 18 07", "0b", "0b 14", "0b 13 0c 14",
      "0b 88 00 01 0c", "0b 00 0c", "0b 0e 0c", "0b fc ff ff ff 0f",
    ])
  func corners(hex: String) {
    let buffer = ByteBuffer(bytes: hex.split(separator: " ").map { UInt8($0, radix: 16)! })
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
      #expect(
        PutAnswer(header: header, previous: previous).wireBuffer == EtcdPutResponse(previous, generated).wireBuffer)
      let deleted = messages.deleteResult()
      #expect(
        DeleteAnswer(header: header, result: deleted).wireBuffer
          == EtcdDeleteRangeResponse(deleted, generated).wireBuffer)
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
