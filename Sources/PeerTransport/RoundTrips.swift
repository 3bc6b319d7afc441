/// How long pings to one peer took, in the buckets of etcd's histogram.
package struct RoundTrips: Hashable, Sendable {
  /// From 0.1 ms, each twice the one before.
  package static let upperBoundsSeconds = (0..<16).map { 0.0001 * Double(1 << $0) }

  /// One for each bound, not cumulative, and one for what took longer.
  package private(set) var counts = Array(repeating: 0, count: upperBoundsSeconds.count + 1)
  package private(set) var sumSeconds = 0.0
  /// nil before the first.
  package private(set) var lastNanoseconds: UInt64?

  package init() {}

  package mutating func note(nanoseconds: UInt64) {
    let seconds = Double(nanoseconds) / 1e9
    counts[Self.upperBoundsSeconds.firstIndex { seconds <= $0 } ?? Self.upperBoundsSeconds.count] += 1
    sumSeconds += seconds
    lastNanoseconds = nanoseconds
  }
}
