import Synchronization

/// What the log has cost so far, for `etcd_disk_wal_fsync_duration_seconds` and its like.
package struct LogMetrics: Hashable, Sendable {
  /// Upper bounds in seconds: etcd's, 0.001 · 2^n. The last bucket of `fsyncBuckets` is beyond them all.
  package static let bucketBoundsSeconds: [Double] = (0..<14).map { 0.001 * Double(1 << $0) }

  package var fsyncCount: UInt64 = 0
  package var fsyncSecondsSum: Double = 0
  /// Counts per bucket, not cumulative.
  package var fsyncBuckets = [UInt64](repeating: 0, count: bucketBoundsSeconds.count + 1)
  package var batchCount: UInt64 = 0
  package var recordCount: UInt64 = 0
  /// Bytes written to the log since the process started.
  package var writtenBytes: Int64 = 0
  package var segmentCount = 0

  mutating func noteSync(_ duration: Duration) {
    let seconds = Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
    fsyncCount += 1
    fsyncSecondsSum += seconds
    fsyncBuckets[Self.bucketBoundsSeconds.firstIndex { seconds <= $0 } ?? Self.bucketBoundsSeconds.count] += 1
  }
}

/// The metrics' home: written by the log thread, read by anybody.
final class LogGauges: Sendable {
  private struct State {
    var metrics = LogMetrics()
    var appendedBytes: Int64 = 0
  }

  private let state = Mutex(State())

  var metrics: LogMetrics { state.withLock { $0.metrics } }
  /// Recovered or written since.
  var appendedBytes: Int64 { state.withLock { $0.appendedBytes } }

  func noteBatch(bytes: Int, records: Int, sync: Duration?) {
    state.withLock { state in
      state.appendedBytes += Int64(bytes)
      state.metrics.writtenBytes += Int64(bytes)
      state.metrics.batchCount += 1
      state.metrics.recordCount += UInt64(records)
      if let sync { state.metrics.noteSync(sync) }
    }
  }

  func noteSegments(_ count: Int) { state.withLock { $0.metrics.segmentCount = count } }
  func noteRecovered(bytes: Int64) { state.withLock { $0.appendedBytes += bytes } }
}
