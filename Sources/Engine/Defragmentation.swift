import CLMDB
import Keyspace
import Primitives
import Storage

/// Copies everything, in the order of each database, into a fresh environment: full pages, no free ones, smallest file.
/// (LMDB's own compacting copy keeps half-empty pages.) It reads and compares every record on the way.
///
/// What a crash leaves behind:
///
///     while `next.mdb` is being written          the old environment; the next start removes `next.mdb`
///     after it was synced, before the rename     the same
///     after the rename, before the directory     the old environment under the name or the new one: both complete, of
///     was synced                                 the same content
///     after that                                 the new one
///
/// Commits to the new one begin after that.
struct Defragmentation {
  struct Outcome {
    var environment: Environment
    var record: MetaRecord?
  }

  private let source: Transaction
  private let target: Environment
  private var writing: Transaction
  /// Put since `writing` began.
  private var pendingBytes = 0
  private var totals = StoredTotals()

  /// - Parameter record: the source's, nil when nothing has been committed to it.
  static func run(
    from environment: Environment, _ record: MetaRecord?, files: StateFiles, mapBytes: Int
  ) throws(StorageError) -> Outcome {
    try files.remove(StateFormat.nextFileName)
    let target = try Environment.create(path: files.nextPath, shownPath: files.path, mapBytes: mapBytes)
    let copied: MetaRecord?
    do throws(StorageError) {
      copied = try copy(record, from: environment, to: target)
      try files.install(target, from: StateFormat.nextFileName)
    } catch {
      try files.remove(StateFormat.nextFileName)
      throw error
    }
    return Outcome(environment: target, record: copied)
  }

  private static func copy(
    _ record: MetaRecord?, from environment: Environment, to target: Environment
  ) throws(StorageError) -> MetaRecord? {
    guard let record else { return nil }
    do throws(LMDBFailure) {
      return try FaultGuard.inside(environment.faultMessage) { () throws(LMDBFailure) in
        let source = try environment.begin(writing: false)
        defer { source.abort() }
        var copy = Defragmentation(source: source, target: target, writing: try target.begin(writing: true))
        return try copy.run(record)
      }
    } catch {
      throw target.isOutOfSpace(error) ? target.outOfSpace(error) : environment.storageError(error)
    }
  }

  private init(source: Transaction, target: Environment, writing: Transaction) {
    self.source = source
    self.target = target
    self.writing = writing
  }

  private mutating func run(_ record: MetaRecord) throws(LMDBFailure) -> MetaRecord {
    // Ended transactions are not open any more; the one that fails to end is.
    do throws(LMDBFailure) {
      totals.archivedBytes = record.totals.archivedBytes
      try copy(.versions)
      try copy(.blocks)
      try copy(.leases)
      try copy(.long)
      try copy(.keys)
      guard totals == record.totals else { throw Self.damage("copy records that differ from their sum") }
      let copied = MetaRecord(transaction: writing.id, totals: totals, head: record.head)
      try ChangeWriter.putAuth(of: copied, writing)
      try ChangeWriter.put(copied, writing)
      try commitPending(beginningAnother: false)
      return copied
    } catch {
      if isWriting { writing.abort() }
      throw error
    }
  }

  private var isWriting = true

  private mutating func commitPending(beginningAnother: Bool) throws(LMDBFailure) {
    isWriting = false
    try writing.commit()
    pendingBytes = 0
    if beginningAnother {
      writing = try target.begin(writing: true)
      isWriting = true
    }
  }

  private mutating func copy(_ database: Database) throws(LMDBFailure) {
    let from = try source.openCursor(database)
    defer { from.close() }
    var to = try writing.openCursor(database)
    var lastKey: [UInt8] = []
    var entry = try from.move(MDB_FIRST)
    while let (key, record) = entry {
      try note(key, record, of: database)
      let isNewKey = !(database == .keys && lastKey.withRawBytes { isEqual($0, key) })
      if isNewKey, database == .keys {
        lastKey.removeAll(keepingCapacity: true)
        lastKey.append(contentsOf: key)
      }
      try to.put(key, record, isNewKey ? MDB_APPEND : MDB_APPENDDUP)
      pendingBytes += key.count + record.count
      if pendingBytes >= EngineLimits.copyTransactionBytes {
        // The transaction's end closes its cursors.
        try commitPending(beginningAnother: true)
        to = try writing.openCursor(database)
      }
      entry = try from.move(MDB_NEXT)
    }
    to.close()
  }

  private mutating func note(
    _ key: UnsafeRawBufferPointer, _ record: UnsafeRawBufferPointer, of database: Database
  ) throws(LMDBFailure) {
    switch database {
    case .meta: break
    case .versions:
      guard let ordinal = word(key), VersionRecord.isIntact(record, at: ordinal) else {
        throw Self.damage("copy a version that fails its checksum")
      }
      totals.versions.add(VersionRecord.hash(checksum: record.loadUnaligned(as: UInt32.self).littleEndian, at: ordinal))
    case .keys:
      guard let reference = ReferenceRecord(record) else { throw Self.damage("copy a reference") }
      totals.keys.add(reference.hash(key: key))
    case .long:
      guard let reference = ReferenceRecord(record), word(key) == reference.ordinal else {
        throw Self.damage("copy a reference")
      }
      totals.long.add(reference.longHash)
    case .blocks:
      guard let number = word(key), let block = BlockRecord(record) else { throw Self.damage("copy a block") }
      totals.blocks.add(block.hash(number: number))
    case .leases:
      guard let id = word(key), let lease = LeaseRecord(record) else { throw Self.damage("copy a lease") }
      totals.leases.add(lease.hash(id: LeaseRecord.id(id)))
    }
  }

  private static func damage(_ operation: String) -> LMDBFailure {
    LMDBFailure(code: MDB_CORRUPTED, operation: operation)
  }
}
