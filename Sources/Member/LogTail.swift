import Primitives
import Raft

/// How much of what the engine has stored stays in memory for members that lag: so much that a short absence needs no
/// whole state, and no more than a bounded number of bytes.
package struct LogTail: Sendable {
  private let keptEntries: UInt64
  private var marks: [(index: LogIndex, logBytes: Int64)] = []
  /// The state for whose sake more is kept, and how long the log was when that began.
  private var held: (sending: LogIndex, logBytes: Int64)?

  package init(keptEntries: UInt64) { self.keptEntries = keptEntries }

  /// Answers up to where the log may be forgotten.
  /// - Parameter sending: the oldest state that is on its way to another member: what follows it is wanted next, unless
  ///   that takes so long that memory would suffer.
  package mutating func note(stored index: LogIndex, logBytes: Int64, sending: LogIndex?) -> LogIndex {
    let end = note(stored: index, logBytes: logBytes)
    guard let sending, sending < end else {
      held = nil
      return end
    }
    if held?.sending != sending { held = (sending, logBytes) }
    return logBytes - held!.logBytes < Limits.maxKeptLogBytes ? sending : end
  }

  private mutating func note(stored index: LogIndex, logBytes: Int64) -> LogIndex {
    marks.append((index, logBytes))
    var kept = 0
    for position in marks.indices.dropLast() {
      let next = marks[position + 1]
      let isFar = logBytes - next.logBytes >= Limits.keptLogBytes || index - next.index >= keptEntries
      if isFar { kept = position + 1 }
    }
    marks.removeFirst(kept)
    let oldest = marks[0]
    let isTooMuch =
      logBytes - oldest.logBytes >= Limits.keptLogBytes || index - oldest.index >= keptEntries
    return isTooMuch ? oldest.index : 0
  }
}
