import CLMDB
import Keyspace
import Primitives
import StateMachine
import Storage

struct LoadedState {
  var machine: StateMachine
  /// nil for an environment that nothing has been committed to.
  var record: MetaRecord?
  var blocks = BlockMap()
  var sizes: EngineSizes
}

/// Reads the whole state except for the values, compares it with the sums in `meta`, and builds the state machine. Damage
/// is refused: nothing of it is ever served.
struct StateReading {
  let environment: Environment
  let transaction: Transaction

  static func load(_ environment: Environment) throws(StorageError) -> LoadedState {
    // Its transaction ends last, also where nothing else is left of the state.
    defer { withExtendedLifetime(environment) {} }
    return try FaultGuard.inside(environment.faultMessage) { () throws(StorageError) in
      let transaction: Transaction
      do throws(LMDBFailure) {
        transaction = try environment.begin(writing: false)
      } catch {
        throw environment.storageError(error)
      }
      defer { transaction.abort() }
      let reading = StateReading(environment: environment, transaction: transaction)
      let sizes = try reading.attempt { () throws(LMDBFailure) in
        try environment.checkFreeList(seenBy: transaction)
        return try environment.sizes(seenBy: transaction)
      }
      guard let record = try reading.readMeta() else {
        try reading.checkEmpty()
        var machine = StateMachine()
        machine.recordChanges()
        return LoadedState(machine: machine, record: nil, sizes: sizes)
      }
      let blocks = try reading.readBlocks(record.totals)
      let archive = try reading.attempt { () throws(LMDBFailure) in try Archive(of: environment, blocks) }
      let machine = try reading.buildMachine(record, archive)
      return LoadedState(machine: machine, record: record, blocks: blocks, sizes: sizes)
    }
  }

  // MARK: Head

  private func readMeta() throws(StorageError) -> MetaRecord? {
    try Self.readMeta(transaction, of: environment)
  }

  /// nil when there is none.
  static func readMeta(_ transaction: Transaction, of environment: Environment) throws(StorageError) -> MetaRecord? {
    guard let bytes = try meta(StateFormat.metaKey, transaction, of: environment) else { return nil }
    let auth = try meta(StateFormat.authKey, transaction, of: environment)
    var record: MetaRecord
    do throws(DecodingFailure) {
      record = try MetaRecord(decoding: bytes)
      try record.addAuth(auth)
    } catch {
      if case .unknownVersion(let version) = error {
        throw .otherVersion(path: environment.path, found: "\(version)", supported: "\(StateFormat.version)")
      }
      throw .corruptState(file: environment.path, reason: "its head: \(error)")
    }
    guard record.transaction == transaction.id else {
      throw .corruptState(
        file: environment.path,
        reason: "transaction \(transaction.id) leads to the head that transaction \(record.transaction) wrote")
    }
    return record
  }

  private static func meta(
    _ key: [UInt8], _ transaction: Transaction, of environment: Environment
  ) throws(StorageError) -> [UInt8]? {
    do throws(LMDBFailure) {
      return try key.withRawBytes { (key) throws(LMDBFailure) in
        try transaction.get(.meta, key).map { [UInt8]($0) }
      }
    } catch {
      throw environment.storageError(error)
    }
  }

  /// Without a head nothing may be there.
  func checkEmpty() throws(StorageError) {
    for database in Database.allCases where try entryCount(of: database) != 0 {
      throw damage("it has \(database.name) and no head")
    }
  }

  private func entryCount(of database: Database) throws(StorageError) -> UInt64 {
    do { return UInt64(try transaction.statistics(of: database).ms_entries) } catch {
      throw environment.storageError(error)
    }
  }

  // MARK: Content

  private func buildMachine(_ record: MetaRecord, _ archive: Archive) throws(StorageError) -> StateMachine {
    var loader = StateLoader(head: record.head)
    try readLeases(record.totals.leases, into: &loader)
    try readKeys(record.totals.keys, into: &loader)
    try readLong(record.totals.long, into: &loader)
    let versions = record.totals.versions.count
    guard try entryCount(of: .versions) == versions, record.totals.keys.count &+ record.totals.long.count == versions
    else { throw damage("versions and references to them differ in number") }
    do { return try loader.finish(archive: archive, archivedBytes: record.totals.archivedBytes) } catch {
      throw damage("\(error)")
    }
  }

  /// Together the blocks must have all versions.
  private func readBlocks(_ totals: StoredTotals) throws(StorageError) -> BlockMap {
    var blocks = BlockMap()
    var versions = StoredTotals.Tally()
    try compare(.blocks, totals.blocks) { (entry, tally) throws(ReadingFailure) in
      guard let number = word(entry.key), let block = BlockRecord(entry.record) else { throw .malformed }
      tally.add(block.hash(number: number))
      blocks.append(BlockMap.Block(number: number, record: block))
      versions.count &+= block.tally.count
      versions.sum &+= block.tally.sum
    }
    guard versions == totals.versions else { throw damage("the blocks differ from the versions' sum") }
    return blocks
  }

  private func readLeases(_ expected: StoredTotals.Tally, into loader: inout StateLoader) throws(StorageError) {
    try compare(.leases, expected) { (entry, tally) throws(ReadingFailure) in
      guard let key = word(entry.key), let record = LeaseRecord(entry.record) else { throw .malformed }
      let id = LeaseRecord.id(key)
      tally.add(record.hash(id: id))
      do throws(DecodingFailure) {
        try loader.addLease(
          id: id, ttlMilliseconds: record.ttlMilliseconds, deadlineMilliseconds: record.deadlineMilliseconds)
      } catch {
        throw .refused(error)
      }
    }
  }

  private func readKeys(_ expected: StoredTotals.Tally, into loader: inout StateLoader) throws(StorageError) {
    try compare(.keys, expected) { (entry, tally) throws(ReadingFailure) in
      guard let record = ReferenceRecord(entry.record) else { throw .malformed }
      tally.add(record.hash(key: entry.key))
      do throws(DecodingFailure) {
        try loader.addVersion(key: entry.key, record.reference, lease: record.lease)
      } catch {
        throw .refused(error)
      }
    }
  }

  private func readLong(_ expected: StoredTotals.Tally, into loader: inout StateLoader) throws(StorageError) {
    try compare(.long, expected) { (entry, tally) throws(ReadingFailure) in
      guard let record = ReferenceRecord(entry.record), word(entry.key) == record.ordinal else { throw .malformed }
      tally.add(record.longHash)
      let stored: UnsafeRawBufferPointer?
      do throws(LMDBFailure) { stored = try transaction.get(.versions, record.ordinal) } catch { throw .engine(error) }
      guard let stored, VersionRecord.isIntact(stored, at: record.ordinal), let head = VersionRecord.head(of: stored)
      else { throw .malformed }
      do throws(DecodingFailure) {
        try loader.addVersion(key: head.key, record.reference, lease: record.lease)
      } catch {
        throw .refused(error)
      }
    }
  }

  /// Why one record ends the reading.
  private enum ReadingFailure: Error {
    case malformed
    case refused(DecodingFailure)
    case engine(LMDBFailure)
  }

  /// Visits every record of a database and compares what `body` has counted with what commits have counted. Damage can
  /// lead in circles: the count ends them.
  private func compare(
    _ database: Database, _ expected: StoredTotals.Tally,
    _ body: (Cursor.Entry, inout StoredTotals.Tally) throws(ReadingFailure) -> Void
  ) throws(StorageError) {
    let cursor = try attempt { () throws(LMDBFailure) in try transaction.openCursor(database) }
    defer { cursor.close() }
    var tally = StoredTotals.Tally()
    var entry = try attempt { () throws(LMDBFailure) in try cursor.move(MDB_FIRST) }
    while let now = entry, tally.count <= expected.count {
      do throws(ReadingFailure) { try body(now, &tally) } catch { throw reason(error, in: database) }
      entry = try attempt { () throws(LMDBFailure) in try cursor.move(MDB_NEXT) }
    }
    guard tally == expected else { throw damage("the \(database.name) differ from their sum") }
  }

  private func reason(_ failure: ReadingFailure, in database: Database) -> StorageError {
    switch failure {
    case .malformed: damage("a record among the \(database.name) makes no sense")
    case .refused(let problem): damage("the \(database.name): \(problem)")
    case .engine(let problem): environment.storageError(problem)
    }
  }

  @inline(__always)
  private func attempt<R>(_ body: () throws(LMDBFailure) -> R) throws(StorageError) -> R {
    do { return try body() } catch { throw environment.storageError(error) }
  }

  private func damage(_ reason: String) -> StorageError {
    .corruptState(file: environment.path, reason: reason)
  }
}
