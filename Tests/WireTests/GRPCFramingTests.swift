import NIOCore
import Testing
import Wire

@Suite struct GRPCFramingTests {
  /// Three messages, one of them empty, cut at every possible place: always the same three.
  @Test func messagesSurviveEveryCut() throws {
    let messages: [[UInt8]] = [[1, 2, 3], [], Array(repeating: 9, count: 300)]
    let bytes = messages.flatMap(grpcFramed)
    for cut in 0...bytes.count {
      var deframer = GRPCDeframer()
      var found: [[UInt8]] = []
      for part in [bytes[..<cut], bytes[cut...]] {
        deframer.append(ByteBuffer(bytes: part))
        while let message = try deframer.next(limit: 1_000, encoding: { nil }) { found.append(Array(buffer: message)) }
      }
      #expect(found == messages)
      #expect(deframer.heldBytes == 0)
    }
  }

  @Test func byteByByteHoldsNoMoreThanOneMessage() throws {
    var deframer = GRPCDeframer()
    for _ in 0..<1_000 {
      for byte in grpcFramed([1, 2, 3]) {
        deframer.append(ByteBuffer(bytes: [byte]))
        #expect(deframer.heldBytes <= 8)
        _ = try deframer.next(limit: 10, encoding: { nil })
      }
    }
    #expect(deframer.heldBytes == 0)
  }

  /// The texts are grpc-go's, which clients of etcd print.
  @Test func refusals() {
    func refusal(_ bytes: [UInt8], encoding: String? = nil) -> GRPCStatus? {
      var deframer = GRPCDeframer()
      deframer.append(ByteBuffer(bytes: bytes))
      do {
        _ = try deframer.next(limit: 100, encoding: { encoding })
        return nil
      } catch {
        return error
      }
    }
    #expect(
      refusal([0, 0, 0, 0, 101])
        == GRPCStatus(.resourceExhausted, "grpc: received message larger than max (101 vs. 100)"))
    #expect(refusal([0, 0, 0, 0, 100]) == nil)
    #expect(
      refusal([1, 0, 0, 0, 1], encoding: "gzip")
        == GRPCStatus(.unimplemented, "grpc: Decompressor is not installed for grpc-encoding \"gzip\""))
    #expect(refusal([1, 0, 0, 0, 1])?.code == .internal)
    #expect(refusal([2, 0, 0, 0, 1])?.code == .internal)
  }

  @Test func timeouts() {
    func timeout(_ text: String) -> TimeAmount? { Array(text.utf8).withUnsafeBytes { grpcTimeout($0) } }
    #expect(timeout("5S") == .seconds(5))
    #expect(timeout("4999783u") == .microseconds(4_999_783))
    #expect(timeout("100m") == .milliseconds(100))
    #expect(timeout("99999999n") == .nanoseconds(99_999_999))
    #expect(timeout("1M") == .minutes(1))
    #expect(timeout("99999999H") != nil)
    for broken in ["", "S", "5", "-5S", "5x", "999999999S", "5 S"] { #expect(timeout(broken) == nil, "\(broken)") }
  }

  @Test func messagesOfStatusesArePercentEncoded() {
    let encoded = GRPCStatus(.unknown, "50% of ü\n").encodedMessage
    #expect(String(decoding: encoded, as: UTF8.self) == "50%25 of %C3%BC%0A")
  }

  @Test func queuedBytesComeOutInOrderWhateverThePortions() {
    for portion in 1...40 {
      var queue = OutgoingQueue()
      var expected: [UInt8] = []
      for index in 0..<200 {
        let message = [UInt8](repeating: UInt8(index), count: index % 23)
        queue.appendMessage(ByteBuffer(bytes: message))
        expected += grpcFramed(message)
      }
      var out = ByteBuffer()
      while queue.count > 0 { queue.move(min(portion, queue.count), to: &out) }
      #expect(Array(buffer: out) == expected)
    }
  }
}
