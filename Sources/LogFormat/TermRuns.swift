/// The term of every entry of a log, as runs: terms never fall along a log, and change seldom.
package struct TermRuns: Sendable {
  private var runs: [(firstIndex: UInt64, term: UInt64)] = []

  package init() {}

  package init(startingWith base: LogBase) {
    if base.index > 0 { runs = [(base.index, base.term)] }
  }

  /// Takes the entry behind the last one, or one that replaces the log from there on.
  package mutating func append(index: UInt64, term: UInt64) {
    while let last = runs.last, last.firstIndex >= index { runs.removeLast() }
    if runs.last?.term != term { runs.append((index, term)) }
  }

  /// The term at an index that is known to be in the log; nil below the first run.
  package func term(at index: UInt64) -> UInt64? {
    runs.last { $0.firstIndex <= index }?.term
  }

  /// Forgets what lies below `index`.
  package mutating func removeBelow(_ index: UInt64) {
    while runs.count > 1, runs[1].firstIndex <= index { runs.removeFirst() }
  }
}
