import CLMDB
import Keyspace
import Storage
import Synchronization

/// The versions of one commit, held by read transactions on it: a few, so that threads rarely wait for each other. Letting
/// go of the archive ends them, and the pages that only it could see become free with the next commit.
final class Archive: VersionArchive {
  let environment: Environment
  private let blocks: BlockMap
  private let lanes: [ArchiveLane]
  private let nextLane = Atomic<Int>(0)

  /// Sees the last commit. To be made by the thread that commits, so that all lanes see the same one.
  init(of environment: Environment, _ blocks: BlockMap) throws(LMDBFailure) {
    self.environment = environment
    self.blocks = blocks
    var lanes: [ArchiveLane] = []
    for _ in 0..<EngineLimits.archiveLanes { lanes.append(try ArchiveLane(environment)) }
    self.lanes = lanes
  }

  func version(at ordinal: UInt64) -> StoredVersion {
    withLane { $0.version(at: ordinal) }
  }

  func forEachVersion(from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool) -> Bool {
    walk(fromBlock: blocks.index(from: main), at: 0, below: end) { ordinal, version in
      version.revision.main < main || body(ordinal, version)
    }
  }

  func forEachVersion(
    at start: UInt64, from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool
  ) -> Bool {
    walk(fromBlock: blocks.index(at: start), at: start, below: end, body)
  }

  /// Block by block. Whoever is called may read the archive too, so no lane is held meanwhile.
  private func walk(
    fromBlock first: Int, at start: UInt64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool
  ) -> Bool {
    var batch: [(ordinal: UInt64, version: StoredVersion)] = []
    for block in blocks.blocks[first...] {
      let first = max(start, block.firstOrdinal)
      let range = first..<max(first, min(end, block.endOrdinal))
      if range.isEmpty { return true }
      var remaining = withLane { $0.checkedCount(of: block, in: range) }
      var next = range.lowerBound
      while remaining > 0 {
        batch.removeAll(keepingCapacity: true)
        withLane { $0.readVersions(in: next..<range.upperBound, into: &batch) }
        for (ordinal, version) in batch where !body(ordinal, version) { return false }
        remaining -= batch.count
        next = batch[batch.count - 1].ordinal + 1
      }
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

/// One read transaction with its cursors. `@unchecked Sendable`: everything happens under `lock`.
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

  /// How many versions of the block lie in `range`, once count and sum of all of them have turned out right: a damaged page
  /// could leave some out.
  func checkedCount(of block: BlockMap.Block, in range: Range<UInt64>) -> Int {
    FaultGuard.inside(environment.faultMessage) {
      var tally = StoredTotals.Tally()
      var count = 0
      var found = seek(block.firstOrdinal, MDB_SET_RANGE)
      while let (ordinal, record) = found, ordinal < block.endOrdinal {
        guard let hash = VersionRecord.hash(of: record, at: ordinal) else { stop(ordinal, "makes no sense") }
        tally.add(hash)
        if range.contains(ordinal) { count += 1 }
        found = entry { () throws(LMDBFailure) in try cursor.move(MDB_NEXT) }
      }
      guard tally == block.record.tally else { stop(block.firstOrdinal, "or one soon behind it is missing") }
      return count
    }
  }

  /// Reads versions of the range from its start on, which there are: all of them, or a batch.
  func readVersions(in range: Range<UInt64>, into batch: inout [(ordinal: UInt64, version: StoredVersion)]) {
    FaultGuard.inside(environment.faultMessage) {
      var bytes = 0
      var found = seek(range.lowerBound, MDB_SET_RANGE)
      while let (ordinal, record) = found, ordinal < range.upperBound, bytes < EngineLimits.walkBytes {
        batch.append((ordinal, decode(record, at: ordinal)))
        bytes += record.count
        found = entry { () throws(LMDBFailure) in try cursor.move(MDB_NEXT) }
      }
      if batch.isEmpty { stop(range.lowerBound, "or one soon behind it is missing") }
    }
  }

  // MARK: Damage

  private func seek(_ key: UInt64, _ operation: MDB_cursor_op) -> Entry? {
    entry { () throws(LMDBFailure) in try cursor.seek(key, operation) }
  }

  private typealias Entry = (key: UInt64, record: UnsafeRawBufferPointer)

  private func entry(_ read: () throws(LMDBFailure) -> Cursor.Entry?) -> Entry? {
    do throws(LMDBFailure) {
      guard let (key, record) = try read() else { return nil }
      guard let key = word(key) else { stopProcess(damage("a key makes no sense")) }
      return (key, record)
    } catch {
      stopProcess(environment.storageError(error))
    }
  }

  private func decode(_ record: UnsafeRawBufferPointer, at ordinal: UInt64) -> StoredVersion {
    guard let version = VersionRecord.decode(record, at: ordinal) else { stop(ordinal, "fails its checksum") }
    return version
  }

  private func stop(_ ordinal: UInt64, _ what: String) -> Never { stopProcess(damage("version \(ordinal) \(what)")) }

  private func damage(_ reason: String) -> StorageError { .corruptState(file: environment.path, reason: reason) }
}
