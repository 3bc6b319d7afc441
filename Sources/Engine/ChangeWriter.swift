import CLMDB
import Keyspace
import Primitives
import StateMachine

/// Puts one cut's changes into a write transaction, in the order of each database, so that neighbours share their pages
/// and the way to them.
///
/// Deletions go through `mdb_del`, which opens a cursor of its own each time: LMDB before 0.9.27 could lose track of a
/// cursor that deletes again and again from a database with several records to a key (ITS#9376).
struct ChangeWriter {
  private let transaction: Transaction
  private(set) var totals: StoredTotals
  private(set) var blocks: BlockMap
  private var encoder = ByteWriter(reserving: 4_096)
  private var blockChanges = BlockChanges()
  private let former: MetaRecord?

  /// - Parameter former: what the last commit wrote; nil for the first one.
  init(transaction: Transaction, former: MetaRecord?, blocks: BlockMap) {
    self.transaction = transaction
    self.blocks = blocks
    self.former = former
    totals = former?.totals ?? StoredTotals()
  }

  mutating func write(_ changes: StateChanges) throws(LMDBFailure) -> MetaRecord {
    var references = try appendVersions(of: changes.keyspace)
    references.sort(by: Self.precedes)
    try put(references)
    try applyBlockChanges()
    try remove(changes.keyspace.removals)
    try apply(changes.leases)
    return try putMeta(changes.head)
  }

  // MARK: Versions

  private struct Reference {
    var key: Bytes
    var record: ReferenceRecord
  }

  private static func precedes(_ left: Reference, _ right: Reference) -> Bool {
    let order = left.key.compare(right.key)
    return order == 0 ? left.record.ordinal < right.record.ordinal : order < 0
  }

  private mutating func appendVersions(of changes: KeyspaceChanges) throws(LMDBFailure) -> [Reference] {
    let cursor = try transaction.openCursor(.versions)
    defer { cursor.close() }
    var references: [Reference] = []
    var failure: LMDBFailure?
    changes.forEachVersion { ordinal, version in
      guard failure == nil else { return }
      do throws(LMDBFailure) {
        try append(version, at: ordinal, cursor)
        let record = ReferenceRecord(
          main: version.revision.main, ordinal: ordinal, isTombstone: version.kind != .put, lease: version.lease)
        references.append(Reference(key: version.key, record: record))
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return references
  }

  private mutating func append(_ version: StoredVersion, at ordinal: UInt64, _ cursor: Cursor) throws(LMDBFailure) {
    VersionRecord.encode(version, at: ordinal, into: &encoder)
    let checksum = try encoder.bytes.withRawBytes { (record) throws(LMDBFailure) in
      try cursor.put(ordinal, record, MDB_APPEND)
      return UInt32(littleEndian: record.loadUnaligned(as: UInt32.self))
    }
    let hash = VersionRecord.hash(checksum: checksum, at: ordinal)
    totals.versions.add(hash)
    blockChanges.note(ordinal, main: version.revision.main) { $0.add(hash) }
    totals.archivedBytes += version.sizeInBytes
  }

  private mutating func put(_ references: [Reference]) throws(LMDBFailure) {
    let keys = try transaction.openCursor(.keys)
    defer { keys.close() }
    let long = try transaction.openCursor(.long)
    defer { long.close() }
    for reference in references {
      let (key, record) = (reference.key.array, reference.record)
      if ReferenceRecord.isShort(key.count) {
        try key.withRawBytes { (key) throws(LMDBFailure) in
          try record.withBytes { (bytes) throws(LMDBFailure) in try keys.put(key, bytes, MDB_APPENDDUP) }
          totals.keys.add(record.hash(key: key))
        }
      } else {
        try record.withBytes { (bytes) throws(LMDBFailure) in
          try long.put(record.ordinal, bytes, MDB_NOOVERWRITE)
        }
        totals.long.add(record.longHash)
      }
    }
  }

  /// What is removed leaves `versions` in the order of ordinals, then `keys` in that of keys.
  private mutating func remove(_ removals: [KeyspaceChanges.Removal]) throws(LMDBFailure) {
    guard !removals.isEmpty else { return }
    var references: [Reference] = []
    references.reserveCapacity(removals.count)
    for removal in removals.sorted(by: { $0.reference.ordinal < $1.reference.ordinal }) {
      references.append(try removeVersion(removal))
    }
    references.sort(by: Self.precedes)
    for reference in references { try remove(reference) }
    try applyBlockChanges()
  }

  /// The version itself tells its lease, which its reference's record ends with.
  private mutating func removeVersion(_ removal: KeyspaceChanges.Removal) throws(LMDBFailure) -> Reference {
    let ordinal = removal.reference.ordinal
    guard let stored = try transaction.get(.versions, ordinal), let head = VersionRecord.head(of: stored),
      head.main == removal.reference.main, head.isTombstone == removal.reference.isTombstone,
      removal.key.array.withRawBytes({ isEqual($0, head.key) })
    else { throw LMDBFailure(code: MDB_CORRUPTED, operation: "remove version \(ordinal)") }
    let hash = VersionRecord.hash(checksum: head.checksum, at: ordinal)
    totals.versions.remove(hash)
    blockChanges.note(ordinal, main: head.main) { $0.remove(hash) }
    totals.archivedBytes -= head.sizeInBytes
    let record = ReferenceRecord(
      main: head.main, ordinal: ordinal, isTombstone: head.isTombstone, lease: head.lease)
    guard try transaction.delete(.versions, ordinal) else {
      throw LMDBFailure(code: MDB_CORRUPTED, operation: "remove version \(ordinal)")
    }
    return Reference(key: removal.key, record: record)
  }

  private mutating func remove(_ reference: Reference) throws(LMDBFailure) {
    let record = reference.record
    let wasThere: Bool
    if ReferenceRecord.isShort(reference.key.count) {
      wasThere = try reference.key.array.withRawBytes { (key) throws(LMDBFailure) in
        totals.keys.remove(record.hash(key: key))
        return try record.withBytes { (bytes) throws(LMDBFailure) in try transaction.delete(.keys, key, bytes) }
      }
    } else {
      totals.long.remove(record.longHash)
      wasThere = try transaction.delete(.long, record.ordinal)
    }
    guard wasThere else {
      throw LMDBFailure(code: MDB_CORRUPTED, operation: "remove the reference to version \(record.ordinal)")
    }
  }

  // MARK: Blocks

  /// What versions that come or go in the order of their ordinals change of the blocks.
  private struct BlockChanges {
    /// The tally counts and sums with wrap-around, so that it can stand for a loss.
    var changes: [BlockMap.Block] = []

    mutating func note(_ ordinal: UInt64, main: Int64, _ change: (inout StoredTotals.Tally) -> Void) {
      let number = BlockRecord.number(of: ordinal)
      if changes.last?.number != number {
        changes.append(.init(number: number, record: BlockRecord(firstMain: main, tally: StoredTotals.Tally())))
      }
      change(&changes[changes.count - 1].record.tally)
    }
  }

  private mutating func applyBlockChanges() throws(LMDBFailure) {
    for change in blockChanges.changes {
      let number = change.number
      let (old, new) = blocks.apply(change)
      if let old { totals.blocks.remove(old.hash(number: number)) }
      if let new {
        try withWord(number) { (key) throws(LMDBFailure) in
          try new.withBytes { (bytes) throws(LMDBFailure) in try transaction.put(.blocks, key, bytes) }
        }
        totals.blocks.add(new.hash(number: number))
      } else {
        _ = try transaction.delete(.blocks, number)
      }
    }
    blocks.removeEmpty()
    blockChanges.changes.removeAll(keepingCapacity: true)
  }

  // MARK: Leases

  private mutating func apply(_ changes: [LeaseChange]) throws(LMDBFailure) {
    guard !changes.isEmpty else { return }
    let last = Self.lastChanges(changes)
    let cursor = try transaction.openCursor(.leases)
    do throws(LMDBFailure) {
      for change in last where change.ttlMilliseconds != 0 { try put(change, cursor) }
    } catch {
      cursor.close()
      throw error
    }
    cursor.close()
    for change in last where change.ttlMilliseconds == 0 { try removeLease(change.id) }
  }

  /// Of several changes to one lease the last one, in the order of IDs.
  static func lastChanges(_ changes: [LeaseChange]) -> [LeaseChange] {
    var order = Array(changes.indices)
    order.sort { changes[$0].id != changes[$1].id ? changes[$0].id < changes[$1].id : $0 > $1 }
    var last: [LeaseChange] = []
    last.reserveCapacity(order.count)
    for index in order where last.last?.id != changes[index].id { last.append(changes[index]) }
    return last
  }

  private mutating func put(_ change: LeaseChange, _ cursor: Cursor) throws(LMDBFailure) {
    let key = LeaseRecord.key(change.id)
    let record = LeaseRecord(
      ttlMilliseconds: change.ttlMilliseconds, deadlineMilliseconds: change.deadlineMilliseconds)
    let old = try cursor.seek(key, MDB_SET_KEY)
    if let old { try forget(old.record, of: change.id) }
    try record.withBytes { (bytes) throws(LMDBFailure) in
      try cursor.put(key, bytes, old == nil ? MDB_NOOVERWRITE : MDB_CURRENT)
    }
    totals.leases.add(record.hash(id: change.id))
  }

  /// A lease that came and went within one cut is not there.
  private mutating func removeLease(_ id: LeaseID) throws(LMDBFailure) {
    let key = LeaseRecord.key(id)
    guard let old = try transaction.get(.leases, key) else { return }
    try forget(old, of: id)
    _ = try transaction.delete(.leases, key)
  }

  private mutating func forget(_ bytes: UnsafeRawBufferPointer, of id: LeaseID) throws(LMDBFailure) {
    guard let record = LeaseRecord(bytes) else {
      throw LMDBFailure(code: MDB_CORRUPTED, operation: "change lease \(id)")
    }
    totals.leases.remove(record.hash(id: id))
  }

  // MARK: Head

  private mutating func putMeta(_ head: StateHead) throws(LMDBFailure) -> MetaRecord {
    if let former, let authChecksum = former.authChecksum, former.head.auth == head.auth {
      let record = MetaRecord(
        transaction: transaction.id, totals: totals, head: head, authChecksum: authChecksum)
      try Self.put(record, transaction)
      return record
    }
    let record = MetaRecord(transaction: transaction.id, totals: totals, head: head)
    try Self.putAuth(of: record, transaction)
    try Self.put(record, transaction)
    return record
  }

  static func putAuth(of record: MetaRecord, _ transaction: Transaction) throws(LMDBFailure) {
    let bytes = MetaRecord.encoded(record.head.auth)
    try StateFormat.authKey.withRawBytes { (key) throws(LMDBFailure) in
      try bytes.withRawBytes { (bytes) throws(LMDBFailure) in try transaction.put(.meta, key, bytes) }
    }
  }

  static func put(_ record: MetaRecord, _ transaction: Transaction) throws(LMDBFailure) {
    let bytes = record.encoded()
    try StateFormat.metaKey.withRawBytes { (key) throws(LMDBFailure) in
      try bytes.withRawBytes { (bytes) throws(LMDBFailure) in try transaction.put(.meta, key, bytes) }
    }
  }
}
