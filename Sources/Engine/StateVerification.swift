import CLMDB
import Keyspace
import Primitives
import StateMachine
import Storage

/// Reads everything that an engine has stored, without changing anything beside it: formats, every checksum, the sums and
/// counts, whether references and versions belong to each other one to one, and whether the leases of living keys are
/// there. For files that no process has open.
package struct StateVerification {
  package struct Report: Sendable {
    package var versionCount: UInt64 = 0
    package var keyCount: UInt64 = 0
    package var leaseCount: UInt64 = 0
    package var appliedIndex: UInt64 = 0
    package var appliedTerm: UInt64 = 0
    package var cluster = ClusterState()
    package var revision: Int64 = 0
    package var archivedBytes = 0
    package var sizes = EngineSizes()
    /// The first problem found; nil when the state is sound.
    package var problem: StorageError?
  }

  private let environment: Environment
  private let transaction: Transaction
  private let record: MetaRecord
  private var report = Report()

  /// Throws what keeps it from looking: no file, no access, a foreign format. What is wrong inside is in the report.
  package static func verify(directory: String) throws(StorageError) -> Report {
    FaultGuard.install()
    let files = StateFiles(directory: directory, unsafeNoSync: true)
    let environment: Environment
    do throws(StorageError) {
      environment = try Environment.openForReading(path: files.path, mapBytes: EngineLimits.mapBytes)
    } catch {
      guard case .corruptState = error else { throw error }
      return Report(problem: error)
    }
    return try FaultGuard.inside(environment.faultMessage) { () throws(StorageError) in
      var report = Report()
      do throws(StorageError) { try look(at: environment, &report) } catch {
        guard case .corruptState = error else { throw error }
        report.problem = error
      }
      return report
    }
  }

  private static func look(at environment: Environment, _ report: inout Report) throws(StorageError) {
    defer { withExtendedLifetime(environment) {} }
    let transaction: Transaction
    do throws(LMDBFailure) {
      transaction = try environment.begin(writing: false)
      report.sizes = try environment.sizes(seenBy: transaction)
    } catch {
      throw environment.storageError(error)
    }
    defer { transaction.abort() }
    guard let record = try StateReading.readMeta(transaction, of: environment) else {
      return try StateReading(environment: environment, transaction: transaction).checkEmpty()
    }
    report.appliedIndex = record.head.appliedIndex
    report.appliedTerm = record.head.appliedTerm
    report.cluster = record.head.cluster
    report.revision = record.head.revision
    report.archivedBytes = record.totals.archivedBytes
    var verification = StateVerification(
      environment: environment, transaction: transaction, record: record, report: report)
    defer { report = verification.report }
    try verification.run()
  }

  private init(environment: Environment, transaction: Transaction, record: MetaRecord, report: Report) {
    self.environment = environment
    self.transaction = transaction
    self.record = record
    self.report = report
  }

  private mutating func run() throws(StorageError) {
    try checkVersions()
    try checkLeases()
    let long = try checkReferences(in: .long, record.totals.long)
    let keys = try checkReferences(in: .keys, record.totals.keys)
    // Every reference names a version of its own key, no two the same, so equal numbers mean one to one.
    guard long + keys == report.versionCount else {
      throw damage("\(report.versionCount) versions and \(long + keys) references to them")
    }
    guard report.keyCount == UInt64(record.head.keyCount) else {
      throw damage("\(report.keyCount) living keys where the head counts \(record.head.keyCount)")
    }
  }

  private mutating func checkVersions() throws(StorageError) {
    var tally = StoredTotals.Tally()
    var bytes = 0
    var last = (ordinal: UInt64?.none, main: Int64(0))
    var block = (number: UInt64.max, tally: StoredTotals.Tally())
    var blockCount: UInt64 = 0
    try visit(.versions) { (entry) throws(StorageError) in
      guard let ordinal = word(entry.key), last.ordinal.map({ $0 < ordinal }) ?? true else {
        throw damage("version numbers out of order")
      }
      guard VersionRecord.isIntact(entry.record, at: ordinal), let head = VersionRecord.head(of: entry.record) else {
        throw damage("version \(ordinal) fails its checksum")
      }
      guard ordinal < record.head.nextOrdinal, head.main >= last.main, head.main <= record.head.revision else {
        throw damage("version \(ordinal) is of a revision that cannot be")
      }
      last = (ordinal, head.main)
      bytes += head.sizeInBytes
      let hash = VersionRecord.hash(checksum: head.checksum, at: ordinal)
      tally.add(hash)
      if BlockRecord.number(of: ordinal) != block.number {
        try check(block.number, block.tally)
        block = (BlockRecord.number(of: ordinal), StoredTotals.Tally())
        blockCount += 1
      }
      block.tally.add(hash)
    }
    try check(block.number, block.tally)
    guard blockCount == record.totals.blocks.count else { throw damage("the blocks differ from their sum") }
    report.versionCount = tally.count
    guard tally == record.totals.versions else { throw damage("the versions differ from their sum") }
    guard bytes == record.totals.archivedBytes else {
      throw damage("\(bytes) bytes of versions where the head counts \(record.totals.archivedBytes)")
    }
  }

  private func check(_ number: UInt64, _ tally: StoredTotals.Tally) throws(StorageError) {
    guard tally.count > 0 else { return }
    guard let bytes = try stored(.blocks, number), BlockRecord(bytes)?.tally == tally else {
      throw damage("the versions from \(BlockRecord.firstOrdinal(of: number)) on differ from their block's sum")
    }
  }

  private mutating func checkLeases() throws(StorageError) {
    var tally = StoredTotals.Tally()
    try visit(.leases) { (entry) throws(StorageError) in
      guard let id = word(entry.key), let lease = LeaseRecord(entry.record), lease.ttlMilliseconds > 0 else {
        throw damage("a lease that makes no sense")
      }
      tally.add(lease.hash(id: LeaseRecord.id(id)))
    }
    report.leaseCount = tally.count
    guard tally == record.totals.leases, tally.count == UInt64(record.head.leaseCount) else {
      throw damage("the leases differ from their sum")
    }
  }

  /// Answers how many there are.
  private mutating func checkReferences(
    in database: Database, _ expected: StoredTotals.Tally
  ) throws(StorageError) -> UInt64 {
    var tally = StoredTotals.Tally()
    var keyCount: UInt64 = 0
    /// The latest reference of the key that is being read.
    var latest: (key: [UInt8], record: ReferenceRecord)?
    func settle() throws(StorageError) {
      guard let (key, reference) = latest, !reference.isTombstone else { return }
      keyCount += 1
      if reference.lease == 0 { return }
      guard try stored(.leases, LeaseRecord.key(reference.lease)) != nil else {
        throw damage("key \(Bytes(key)) hangs on lease \(reference.lease), which is not there")
      }
    }
    var longKeys: [[UInt8]: ReferenceRecord] = [:]
    try visit(database) { (entry) throws(StorageError) in
      guard let reference = ReferenceRecord(entry.record) else { throw damage("a reference that makes no sense") }
      let key = try checkVersion(of: reference, key: database == .keys ? entry.key : nil)
      if database == .keys {
        tally.add(reference.hash(key: entry.key))
        if latest.map({ $0.key.withRawBytes { !isEqual($0, key) } }) ?? true {
          try settle()
          latest = ([UInt8](key), reference)
        } else {
          latest?.record = reference
        }
      } else {
        guard word(entry.key) == reference.ordinal else { throw damage("a reference in another's place") }
        tally.add(reference.longHash)
        longKeys[[UInt8](key)] = reference
      }
    }
    try settle()
    for (key, reference) in longKeys {
      latest = (key, reference)
      try settle()
    }
    guard tally == expected else { throw damage("the \(database.name) differ from their sum") }
    report.keyCount += keyCount
    return tally.count
  }

  /// Answers the version's key, which must be `key` when that is given.
  private func checkVersion(
    of reference: ReferenceRecord, key: UnsafeRawBufferPointer?
  ) throws(StorageError) -> UnsafeRawBufferPointer {
    guard let bytes = try stored(.versions, reference.ordinal), let head = VersionRecord.head(of: bytes) else {
      throw damage("a reference to version \(reference.ordinal), which is not there")
    }
    guard head.main == reference.main, head.isTombstone == reference.isTombstone, head.lease == reference.lease,
      key.map({ isEqual($0, head.key) }) ?? !ReferenceRecord.isShort(head.key.count)
    else { throw damage("version \(reference.ordinal) is not the one that its reference describes") }
    return head.key
  }

  // MARK: Reading

  private func stored(_ database: Database, _ key: UInt64) throws(StorageError) -> UnsafeRawBufferPointer? {
    do { return try transaction.get(database, key) } catch { throw environment.storageError(error) }
  }

  /// Damage can lead in circles: the count that LMDB keeps ends them.
  private func visit(
    _ database: Database, _ body: (Cursor.Entry) throws(StorageError) -> Void
  ) throws(StorageError) {
    let cursor: Cursor
    var remaining: Int
    var entry: Cursor.Entry?
    do throws(LMDBFailure) {
      remaining = Int(try transaction.statistics(of: database).ms_entries)
      cursor = try transaction.openCursor(database)
    } catch {
      throw environment.storageError(error)
    }
    defer { cursor.close() }
    do { entry = try cursor.move(MDB_FIRST) } catch { throw environment.storageError(error) }
    while let now = entry {
      remaining -= 1
      guard remaining >= 0 else { throw damage("more \(database.name) than it counts") }
      try body(now)
      do { entry = try cursor.move(MDB_NEXT) } catch { throw environment.storageError(error) }
    }
  }

  private func damage(_ reason: String) -> StorageError { .corruptState(file: environment.path, reason: reason) }
}
