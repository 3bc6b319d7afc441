import Member
import Primitives
import Raft
import Testing

/// How much of the stored log stays for members that lag. Answers are indexes up to which it may be forgotten.
@Suite struct LogTailTests {
  private static let bytes = Limits.keptLogBytes

  /// The engine has stored up to `index`, the log is `bytes` long.
  private static func run(
    _ tail: inout LogTail, _ steps: [(index: LogIndex, bytes: Int64)], sending: LogIndex? = nil
  ) -> [LogIndex] {
    steps.map { tail.note(stored: $0.index, logBytes: $0.bytes, sending: sending) }
  }

  @Test("As long as there is little, all of it stays")
  func little() {
    var tail = LogTail(keptEntries: 100)
    #expect(Self.run(&tail, [(10, 1), (50, 2), (109, 3)]) == [0, 0, 0])
  }

  @Test("Behind the newest stored entry at least the kept number stays, and no more than one commit's worth above it")
  func entries() {
    var tail = LogTail(keptEntries: 100)
    #expect(Self.run(&tail, [(10, 1), (60, 2), (110, 3)]) == [0, 0, 10], "10 is 100 behind")
    #expect(Self.run(&tail, [(150, 4)]) == [10], "60 is only 90 behind")
    #expect(Self.run(&tail, [(160, 5), (400, 6)]) == [60, 160], "of several that are far enough behind the last one")
  }

  @Test("Long entries count by their bytes, however few they are")
  func bytes() {
    var tail = LogTail(keptEntries: 100)
    let steps: [(LogIndex, Int64)] = [
      (1, 10), (2, Self.bytes), (3, Self.bytes + 9), (4, Self.bytes + 10), (5, 2 * Self.bytes),
    ]
    #expect(Self.run(&tail, steps) == [0, 0, 0, 1, 2])
  }

  @Test("While a state is on its way, what follows it stays")
  func sending() {
    var tail = LogTail(keptEntries: 100)
    #expect(Self.run(&tail, [(10, 1), (200, 2)], sending: 8) == [0, 8])
    #expect(Self.run(&tail, [(300, 3)], sending: 8) == [8])
    #expect(Self.run(&tail, [(300, 3)]) == [200], "it has arrived")
    #expect(Self.run(&tail, [(500, 4)], sending: 450) == [300], "one that needs no more than is kept anyway")
  }

  @Test("A state that takes too long holds the log no longer, and the next one has its own time")
  func slowState() {
    var tail = LogTail(keptEntries: 100)
    let most = Limits.maxKeptLogBytes
    #expect(Self.run(&tail, [(10, 1), (200, 2), (400, most + 1)], sending: 8) == [0, 8, 8])
    #expect(Self.run(&tail, [(500, most + 2)], sending: 8) == [400], "as long as all that is allowed")
    #expect(Self.run(&tail, [(600, most + 3)], sending: 300) == [300])
    #expect(Self.run(&tail, [(700, 2 * most + 2)], sending: 300) == [300])
    #expect(Self.run(&tail, [(800, 2 * most + 3)], sending: 300) == [700])
  }
}
