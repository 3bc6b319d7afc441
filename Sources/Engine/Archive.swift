import CLMDB
import Keyspace
import Storage
import Synchronization

/// The versions of one commit, held by read transactions on it: a few, so that threads rarely wait for each other. Letting
/// go of the archive ends them, and the pages that only it could see become free with the next commit.
final class Archive: VersionArchive {
  let environment: Environment
  private let lanes: [ArchiveLane]
  private let nextLane = Atomic<Int>(0)

  /// Sees the last commit. To be made by the thread that commits, so that all lanes see the same one.
  init(of environment: Environment) throws(LMDBFailure) {
    self.environment = environment
    var lanes: [ArchiveLane] = []
    for _ in 0..<EngineLimits.archiveLanes { lanes.append(try ArchiveLane(environment)) }
    self.lanes = lanes
  }

  func version(at ordinal: UInt64) -> StoredVersion {
    withLane { $0.version(at: ordinal) }
  }

  func forEachVersion(from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool) -> Bool {
    walk(from: withLane { $0.firstOrdinal(from: main) }, below: end, body)
  }

  func forEachVersion(
    at start: UInt64, from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool
  ) -> Bool {
    walk(from: start, below: end, body)
  }

  private func walk(from start: UInt64?, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool) -> Bool {
    var next = start
    var batch: [(ordinal: UInt64, version: StoredVersion)] = []
    while let start = next, start < end {
      // Whoever is called here may read the archive too, so no lane is held meanwhile.
      batch.removeAll(keepingCapacity: true)
      next = withLane { $0.readVersions(from: start, below: end, into: &batch) }
      for (ordinal, version) in batch where !body(ordinal, version) { return false }
    }
    return true
  }

  /// The file's sizes as of the archive's commit.
  func sizes() throws(LMDBFailure) -> EngineSizes { try lanes[0].sizes() }

  private func withLane<R: Sendable>(_ body: (ArchiveLane) -> R) -> R {
    for lane in lanes {
      if let result = lane.lock.withLockIfAvailable({ _ in body(lane) }) { return result }
    }
    // All are taken: wait for one, not all for the same.
    let lane = lanes[nextLane.wrappingAdd(1, ordering: .relaxed).oldValue & (lanes.count - 1)]
    return lane.lock.withLock { _ in body(lane) }
  }
}

/// One read transaction with a cursor. `@unchecked Sendable`: everything happens under `lock`.
final class ArchiveLane: @unchecked Sendable {
  let lock = Mutex(())
  private let environment: Environment
  private let transaction: Transaction
  private let cursor: Cursor

  init(_ environment: Environment) throws(LMDBFailure) {
    self.environment = environment
    transaction = try environment.begin(writing: false)
    do { cursor = try transaction.openCursor(.versions) } catch {
      transaction.abort()
      throw error
    }
  }

  deinit {
    cursor.close()
    transaction.abort()
  }

  func sizes() throws(LMDBFailure) -> EngineSizes {
    try lock.withLock { (_) throws(LMDBFailure) in try environment.sizes(seenBy: transaction) }
  }

  func version(at ordinal: UInt64) -> StoredVersion {
    FaultGuard.inside(environment.faultMessage) {
      guard let (_, record) = seek(ordinal, MDB_SET_KEY) else { stop(ordinal, "is missing") }
      return decode(record, at: ordinal)
    }
  }

  /// The ordinal of the first version made at main revision `main` or later. Revisions rise with ordinals, so halving
  /// finds it.
  func firstOrdinal(from main: Int64) -> UInt64? {
    FaultGuard.inside(environment.faultMessage) {
      guard let last = entry({ () throws(LMDBFailure) in try cursor.move(MDB_LAST) }) else { return nil }
      guard self.main(of: last.record, at: last.ordinal) >= main else { return nil }
      // Invariant: no version below `low` is late enough, the first one at or above `high` is.
      var low: UInt64 = 0
      var high = last.ordinal
      while low < high {
        let middle = low + (high - low) / 2
        guard let (ordinal, record) = seek(middle, MDB_SET_RANGE) else { stop(middle, "has no successor") }
        if self.main(of: record, at: ordinal) >= main {
          high = middle
        } else {
          low = ordinal + 1
        }
      }
      return seek(low, MDB_SET_RANGE)?.ordinal
    }
  }

  /// Reads a batch; answers where the next one starts, nil at the end.
  func readVersions(
    from start: UInt64, below end: UInt64, into batch: inout [(ordinal: UInt64, version: StoredVersion)]
  ) -> UInt64? {
    FaultGuard.inside(environment.faultMessage) {
      var bytes = 0
      var found = seek(start, MDB_SET_RANGE)
      while let (ordinal, record) = found {
        if ordinal >= end { return nil }
        if batch.count == EngineLimits.walkVersions || bytes >= EngineLimits.walkBytes { return ordinal }
        batch.append((ordinal, decode(record, at: ordinal)))
        bytes += record.count
        found = entry { () throws(LMDBFailure) in try cursor.move(MDB_NEXT) }
      }
      return nil
    }
  }

  // MARK: Damage

  private func seek(_ ordinal: UInt64, _ operation: MDB_cursor_op) -> (ordinal: UInt64, record: UnsafeRawBufferPointer)? {
    entry { () throws(LMDBFailure) in try cursor.seek(ordinal, operation) }
  }

  private func entry(
    _ read: () throws(LMDBFailure) -> Cursor.Entry?
  ) -> (ordinal: UInt64, record: UnsafeRawBufferPointer)? {
    do throws(LMDBFailure) {
      guard let (key, record) = try read() else { return nil }
      return (word(key) ?? 0, record)
    } catch {
      stopProcess(environment.storageError(error))
    }
  }

  private func decode(_ record: UnsafeRawBufferPointer, at ordinal: UInt64) -> StoredVersion {
    guard let version = VersionRecord.decode(record, at: ordinal) else { stop(ordinal, "fails its checksum") }
    return version
  }

  private func main(of record: UnsafeRawBufferPointer, at ordinal: UInt64) -> Int64 {
    guard VersionRecord.isIntact(record, at: ordinal), let head = VersionRecord.head(of: record) else {
      stop(ordinal, "fails its checksum")
    }
    return head.main
  }

  private func stop(_ ordinal: UInt64, _ what: String) -> Never {
    stopProcess(StorageError.corruptState(file: environment.path, reason: "version \(ordinal) \(what)"))
  }
}
