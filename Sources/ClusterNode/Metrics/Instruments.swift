import Synchronization

// What a place in the code holds on to: one relaxed atomic to count, a short lock to observe. Usable from any thread.

/// Only rises.
package final class MetricCounter: Sendable {
  private let count = Atomic<Int>(0)

  init() {}

  package func add(_ amount: Int = 1) { count.wrappingAdd(amount, ordering: .relaxed) }

  package var value: Int { count.load(ordering: .relaxed) }
}

/// Goes up and down.
package final class MetricGauge: Sendable {
  private let bits = Atomic<UInt64>(0)

  init() {}

  package func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

  package func add(_ amount: Double) {
    var old = bits.load(ordering: .relaxed)
    while true {
      let new = (Double(bitPattern: old) + amount).bitPattern
      let (exchanged, current) = bits.weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
      if exchanged { return }
      old = current
    }
  }

  package var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }
}

/// Observations (mostly seconds) counted into buckets.
package final class MetricHistogram: Sendable {
  struct Contents: Sendable {
    /// One per upper bound, not cumulative; the last counts what is above them all.
    var counts: [Int]
    var sum = 0.0
  }

  let upperBounds: [Double]
  private let contents: Mutex<Contents>

  init(upperBounds: [Double]) {
    self.upperBounds = upperBounds
    contents = Mutex(Contents(counts: Array(repeating: 0, count: upperBounds.count + 1)))
  }

  package func observe(_ value: Double) {
    let bucket = upperBounds.firstIndex { value <= $0 } ?? upperBounds.count
    contents.withLock {
      $0.counts[bucket] += 1
      $0.sum += value
    }
  }

  package func observe(nanoseconds: Int64) { observe(Double(nanoseconds) / 1e9) }

  /// Takes over what was counted elsewhere with the same bounds: one count per bound, not cumulative, and the rest.
  package func replace(counts: [Int], sum: Double) {
    precondition(
      counts.count == upperBounds.count + 1, "a histogram of \(upperBounds.count) bounds got \(counts.count) counts")
    contents.withLock { $0 = Contents(counts: counts, sum: sum) }
  }

  func copy(_ other: MetricHistogram) {
    let now = other.snapshot()
    replace(counts: now.counts, sum: now.sum)
  }

  func snapshot() -> Contents { contents.withLock { $0 } }

  package var observations: Int { snapshot().counts.reduce(0, +) }

  /// `count` bounds from `start`, each `factor` times the one before.
  package static func exponentialBounds(from start: Double, factor: Double, count: Int) -> [Double] {
    var bounds = [start]
    while bounds.count < count { bounds.append(bounds[bounds.count - 1] * factor) }
    return bounds
  }

  /// What Prometheus clients use for latencies when nothing else is said.
  package static let customaryBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
}
