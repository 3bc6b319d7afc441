import Primitives

/// The share of time that a loop has worked, over windows of a second or more.
struct BusyRatio {
  private static let windowNanoseconds: Int64 = 1_000_000_000

  private var windowStart: MonotonicTime
  private var busyNanoseconds: Int64 = 0
  private var last = 0.0

  init(openedAt now: MonotonicTime) { windowStart = now }

  /// Takes one turn's work and gives the ratio of the last whole window.
  mutating func note(from start: MonotonicTime, to end: MonotonicTime) -> Double {
    busyNanoseconds += end.nanoseconds - start.nanoseconds
    let elapsed = end.nanoseconds - windowStart.nanoseconds
    if elapsed >= Self.windowNanoseconds {
      last = Double(busyNanoseconds) / Double(elapsed)
      windowStart = end
      busyNanoseconds = 0
    }
    return last
  }
}
