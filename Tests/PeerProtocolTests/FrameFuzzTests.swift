import PeerProtocol
import Primitives
import Raft
import Testing

/// Whatever bytes come, the decoder answers with a frame, with "more" or with an error.
@Suite struct FrameFuzzTests {
  /// Reads to the end or the first error.
  /// - Returns: whether there was one.
  private func read(_ bytes: [UInt8], _ random: inout RandomFrames) -> Bool {
    var reader = FrameReader()
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = random.below(rest.count) + 1
      reader.append(rest.prefix(count))
      rest = rest.dropFirst(count)
      do throws(PeerProtocolError) {
        while try reader.next() != nil {}
      } catch {
        return true
      }
    }
    return false
  }

  /// Takes the frame's parts without their checksum, which would hide most of the decoder.
  private func decode(_ type: UInt8, _ payload: [UInt8]) -> PeerFrame? {
    try? PeerFrame(type: type, payload: payload[...])
  }

  @Test("Random payloads of every type")
  func randomPayloads() {
    var random = RandomFrames(seed: 1)
    var decoded = 0
    for type in PeerFrameType.allCases {
      for _ in 0..<3_000 {
        if decode(type.rawValue, random.bytes()) != nil { decoded += 1 }
      }
    }
    for type in UInt8.min...UInt8.max where PeerFrameType(rawValue: type) == nil {
      #expect(decode(type, []) == nil)
    }
    #expect(decoded > 0)
  }

  @Test("Truncated payloads are errors, except where the rest of the payload is the value")
  func truncations() throws {
    let open: Set<PeerFrameType> = [.description, .snapshotOffer, .snapshotChunk]
    for seed in 0..<400 as Range<UInt64> {
      var random = RandomFrames(seed: seed)
      let bytes = try random.frame().encoded().bytes
      let type = try #require(PeerFrameType(rawValue: bytes[4]))
      let payload = Array(bytes[5..<bytes.count - 4])
      guard !payload.isEmpty else { continue }
      let cut = decode(type.rawValue, Array(payload.prefix(random.below(payload.count))))
      if !open.contains(type) { #expect(cut == nil, "seed \(seed)") }
    }
  }

  @Test("A flipped bit anywhere in a stream never passes unnoticed")
  func bitFlips() throws {
    for seed in 0..<1_000 as Range<UInt64> {
      var random = RandomFrames(seed: seed)
      let frame = random.frame()
      var bytes = try frame.encoded().bytes
      bytes[random.below(bytes.count)] ^= 1 << UInt8(random.below(8))
      var reader = FrameReader()
      reader.append(bytes)
      // A flip in the length may make the reader wait for more; then nothing has been taken for a frame.
      #expect((try? reader.next()) == nil, "seed \(seed)")
    }
  }

  @Test("Flipped bits behind a right checksum: no trap")
  func maliciousPayloads() throws {
    for seed in 0..<4_000 as Range<UInt64> {
      var random = RandomFrames(seed: seed)
      let bytes = try random.frame().encoded().bytes
      var payload = Array(bytes[5..<bytes.count - 4])
      guard !payload.isEmpty else { continue }
      for _ in 0...random.below(4) {
        payload[random.below(payload.count)] = UInt8.random(in: 0...255, using: &random.random)
      }
      _ = decode(bytes[4], payload)
    }
  }

  @Test("Noise between frames ends the stream with an error")
  func noise() throws {
    for seed in 0..<300 as Range<UInt64> {
      var random = RandomFrames(seed: seed)
      let stream = try random.frame().encoded().bytes
      // 0xff as the last byte of the length: more than is allowed.
      let noise = random.bytes().prefix(3) + [UInt8](repeating: 0xff, count: 8)
      #expect(read(stream + noise, &random), "seed \(seed)")
    }
  }

  @Test("Forged counts and lengths are errors at once")
  func forgedCounts() {
    func varint(_ value: UInt64) -> [UInt8] {
      var writer = ByteWriter()
      writer.writeVarint(value)
      return writer.bytes
    }
    let message: [UInt8] = [3] + [UInt8](repeating: 0, count: 16) + [1]
    for count in [1, 1_000, UInt64(Limits.maxPeerMessageEntries) + 1, .max] {
      // previous index, previous term, commit, count of entries, then nothing
      #expect(decode(PeerFrameType.raft.rawValue, message + [0, 0, 0] + varint(count)) == nil)
      // one entry whose payload is longer than all that follows
      let table = [1, 1] + varint(count)
      let payload = message + [0, 0, 0, 1] + varint(UInt64(table.count)) + table
      #expect(decode(PeerFrameType.raft.rawValue, payload) == nil)
    }
    // The last index would not fit.
    let late = message + varint(.max) + [0, 0, 1, 2, 1, 0]
    #expect(decode(PeerFrameType.raft.rawValue, late) == nil)
    #expect(decode(PeerFrameType.raft.rawValue, message + [0, 0, 0, 1, 2, 1, 0]) != nil)
    // A membership too large to be looked at.
    var large = ByteWriter()
    Membership(voters: Array(1...UInt64(Limits.maxMembershipBytes / 8))).encode(into: &large)
    let mark: [UInt8] = [9] + message.dropFirst() + [1, 1] + varint(UInt64(large.count)) + large.bytes
    #expect(decode(PeerFrameType.raft.rawValue, mark) == nil)
    // More entries than are allowed, every one of them there.
    let many = Limits.maxPeerMessageEntries + 1
    let table = [UInt8](repeating: 0, count: many * 2)
    let crowd = message + [0, 0, 0] + varint(UInt64(many)) + varint(UInt64(table.count)) + table
    #expect(decode(PeerFrameType.raft.rawValue, crowd) == nil)
  }
}
