/// Builds the log from its records in the order in which they were written: an entry at or below the last index
/// replaces it and all behind it; the mark of a base that the log did not lead up to restarts it.
package struct LogReplay: Sendable {
  /// The log holds the entries `start + 1 ... last`. The state that it continues must reach to `start` at least.
  package private(set) var start: UInt64
  package private(set) var vote = PersistentVote.none
  /// Entries from `start + 1` on; those at or below `payloadFloor` without payload, since the base covers them.
  package private(set) var records: [LogRecord] = []
  private let payloadFloor: UInt64

  package enum Failure: Error, Hashable, Sendable, CustomStringConvertible {
    case gap(index: UInt64, expected: UInt64)
    case zeroIndex

    package var description: String {
      switch self {
      case .gap(let index, let expected): "entry \(index) where \(expected) is due"
      case .zeroIndex: "an entry without an index"
      }
    }
  }

  /// - Parameter firstIndex: of the oldest segment's head.
  package init(firstIndex: UInt64, payloadFloor: UInt64) {
    start = firstIndex - 1
    self.payloadFloor = payloadFloor
  }

  package var last: UInt64 { start + UInt64(records.count) }

  /// The term of an entry that the log holds.
  package func term(at index: UInt64) -> UInt64? {
    index > start && index <= last ? records[Int(index - start - 1)].term : nil
  }

  package mutating func apply(_ record: ScannedRecord, from bytes: [UInt8]) throws(Failure) {
    switch record {
    case .vote(let vote):
      self.vote = vote
    case .base(let base, let restartsLog):
      if restartsLog { reset(to: base.index) }
    case .entry(let index, let term, let kind, let payload):
      guard index > 0 else { throw .zeroIndex }
      guard index - 1 <= last else { throw .gap(index: index, expected: last + 1) }
      if index <= start {
        // The segment was begun at a higher index than it then rewrote the log from, and its elders are gone.
        reset(to: index - 1)
      } else if index <= last {
        records.removeLast(Int(last - index + 1))
      }
      records.append(
        LogRecord(index: index, term: term, kind: kind, payload: index > payloadFloor ? Array(bytes[payload]) : []))
    }
  }

  /// Whether a base agrees with the log (thesis §5.3: only then is the log behind it kept). One that ends where the log
  /// starts, or before, does: it was recorded when older segments went.
  package func contains(_ base: LogBase) -> Bool {
    base.index <= start || term(at: base.index) == base.term
  }

  package mutating func reset(to index: UInt64) {
    start = index
    records = []
  }

  /// The entries behind one that the log reaches back to (`start <= index`).
  package func records(behind index: UInt64) -> [LogRecord] {
    precondition(index >= start)
    return Array(records.dropFirst(Int(min(index - start, UInt64(records.count)))))
  }
}
