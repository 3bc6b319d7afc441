import PeerProtocol
import Primitives
import Testing

@Suite struct SnapshotProgressTests {
  private let offer = SnapshotOffer(transferID: 9, mark: [1], byteCount: nil)

  @Test("A transfer that is cut at random places arrives whole")
  func cuts() throws {
    for seed in 0..<200 as Range<UInt64> {
      var random = RandomFrames(seed: seed)
      let content = (0..<random.below(3_000)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      var sending = SnapshotSending(offer)
      var receiving = SnapshotReceiving(offer)
      var kept: [UInt8] = []
      var isDone = false
      while !isDone {
        var position = Int(sending.resume(held: receiving.offset))
        #expect(position == kept.count, "the receiver's place is one of the sender's")
        while true {
          let piece = Array(content[position...].prefix(random.below(200) + 1))
          position += piece.count
          let frame = sending.frame(piece)
          // What was sent may be lost.
          if random.below(6) == 0 { break }
          if case .chunk(let start, let bytes) = frame {
            #expect(receiving.step(start: start) == .append)
            receiving.append(bytes)
            kept += bytes
          } else if case .end(let byteCount, let checksum) = frame {
            #expect(receiving.isComplete(byteCount: byteCount, checksum: checksum))
            isDone = true
            break
          }
        }
      }
      #expect(kept == content)
    }
  }

  @Test("A receiver whose place the sender does not know is begun anew")
  func unknownPlace() {
    var sending = SnapshotSending(offer)
    var receiving = SnapshotReceiving(offer)
    receiving.append([1, 2, 3])
    let begin = sending.resume(held: receiving.offset)
    let frame = sending.frame([5])
    #expect(begin == 0)
    #expect(frame == .chunk(offset: 0, bytes: [5]))
    #expect(receiving.step(start: 0) == .restart)
    #expect(receiving.step(start: 2) == nil)
    receiving.restart()
    receiving.append([5])
    guard case .end(let byteCount, let checksum) = sending.frame([]) else {
      Issue.record("no end")
      return
    }
    #expect(receiving.isComplete(byteCount: byteCount, checksum: checksum))
    #expect(!receiving.isComplete(byteCount: byteCount, checksum: checksum ^ 1))
    var announced = SnapshotReceiving(SnapshotOffer(transferID: 9, mark: [], byteCount: 2))
    announced.append([5])
    #expect(!announced.isComplete(byteCount: byteCount, checksum: checksum))
  }

  @Test("The sender stays within its window")
  func window() {
    var sending = SnapshotSending(offer)
    _ = sending.resume(held: 0)
    let chunk = [UInt8](repeating: 0, count: Limits.snapshotChunkBytes)
    var sent = 0
    while sending.hasWindow {
      _ = sending.frame(chunk)
      sent += 1
    }
    #expect(sent == Limits.snapshotWindowBytes / Limits.snapshotChunkBytes)
    let (tooFar, one) = (sending.acknowledge(sending.offset + 1), sending.acknowledge(UInt64(chunk.count)))
    #expect(!tooFar && one)
    #expect(sending.hasWindow)
    _ = sending.frame([])
    #expect(!sending.hasWindow)
  }
}
