import Primitives
import Raft

/// Delay, loss, repetition and partitions, in each direction by itself. Messages overtake each other, as they do over
/// several connections.
struct Network {
  private struct Way: Hashable {
    var from: NodeID
    var to: NodeID
  }

  private var closed: Set<Way> = []
  /// Of a thousand messages.
  var lostPerMille = 0
  var repeatedPerMille = 0
  var maxDelayMicroseconds: Int64 = 2_000

  func isOpen(_ from: NodeID, _ to: NodeID) -> Bool { !closed.contains(Way(from: from, to: to)) }

  mutating func close(from: NodeID, to: NodeID) { closed.insert(Way(from: from, to: to)) }

  mutating func heal() {
    closed = []
    lostPerMille = 0
    repeatedPerMille = 0
    maxDelayMicroseconds = 2_000
  }

  /// When copies of a message arrive, in microseconds from now: none, one, or two.
  func delays(_ from: NodeID, _ to: NodeID, _ generator: inout SeededGenerator) -> [Int64] {
    guard isOpen(from, to), Int.random(in: 0..<1_000, using: &generator) >= lostPerMille else { return [] }
    let copies = Int.random(in: 0..<1_000, using: &generator) < repeatedPerMille ? 2 : 1
    return (0..<copies).map { _ in Int64.random(in: 50...maxDelayMicroseconds, using: &generator) }
  }
}
