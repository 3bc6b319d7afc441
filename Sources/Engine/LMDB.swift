import CLMDB

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

// LMDB's calls as the engine uses them. Nothing here keeps a transaction or cursor alive or ends one by itself: whoever
// begins it ends it.

/// What LMDB refused: one of its codes (negative) or an errno.
struct LMDBFailure: Error, Hashable, CustomStringConvertible {
  var code: Int32
  /// What was tried, as an infinitive.
  var operation: String

  /// Signs of a damaged file, all of which a sound one cannot cause.
  var isDamage: Bool {
    switch code {
    case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_NOTFOUND, MDB_KEYEXIST, MDB_CURSOR_FULL, MDB_PAGE_FULL,
      MDB_INCOMPATIBLE, MDB_BAD_VALSIZE, MDB_BAD_TXN, MDB_MAP_RESIZED:
      true
    default: false
    }
  }

  var reason: String { String(cString: mdb_strerror(code)) }
  var description: String { "cannot \(operation): \(reason)" }
}

@inline(__always)
func check(_ code: Int32, _ operation: StaticString) throws(LMDBFailure) {
  if code != MDB_SUCCESS { throw LMDBFailure(code: code, operation: "\(operation)") }
}

/// A read or write transaction and the handles of the databases.
struct Transaction {
  let handle: OpaquePointer
  let databases: [MDB_dbi]

  func handle(of database: Database) -> MDB_dbi { databases[database.rawValue] }

  /// The record, where it lies in the map: valid until the transaction writes or ends.
  func get(_ database: Database, _ key: UnsafeRawBufferPointer) throws(LMDBFailure) -> UnsafeRawBufferPointer? {
    var key = MDB_val(key)
    var record = MDB_val()
    let code = mdb_get(handle, handle(of: database), &key, &record)
    if code == MDB_NOTFOUND { return nil }
    try check(code, "read a record")
    return record.bytes
  }

  func get(_ database: Database, _ key: UInt64) throws(LMDBFailure) -> UnsafeRawBufferPointer? {
    try withWord(key) { (key) throws(LMDBFailure) in try get(database, key) }
  }

  func put(_ database: Database, _ key: UnsafeRawBufferPointer, _ record: UnsafeRawBufferPointer) throws(LMDBFailure) {
    var key = MDB_val(key)
    var record = MDB_val(record)
    try check(mdb_put(handle, handle(of: database), &key, &record, 0), "write a record")
  }

  /// Deletes the key's record, or of a key with several the one that equals `record`; answers whether it was there.
  func delete(
    _ database: Database, _ key: UnsafeRawBufferPointer, _ record: UnsafeRawBufferPointer? = nil
  ) throws(LMDBFailure) -> Bool {
    var key = MDB_val(key)
    let code: Int32
    if let record {
      var record = MDB_val(record)
      code = mdb_del(handle, handle(of: database), &key, &record)
    } else {
      code = mdb_del(handle, handle(of: database), &key, nil)
    }
    if code == MDB_NOTFOUND { return false }
    try check(code, "delete a record")
    return true
  }

  func delete(_ database: Database, _ key: UInt64) throws(LMDBFailure) -> Bool {
    try withWord(key) { (key) throws(LMDBFailure) in try delete(database, key) }
  }

  func statistics(of database: Database) throws(LMDBFailure) -> MDB_stat {
    var statistics = MDB_stat()
    try check(mdb_stat(handle, handle(of: database), &statistics), "inspect a database")
    return statistics
  }

  func openCursor(_ database: Database) throws(LMDBFailure) -> Cursor {
    try Cursor(transaction: handle, database: handle(of: database))
  }

  /// LMDB's number of the transaction: of the one being written, or the last one that a reader sees.
  var id: UInt64 { UInt64(mdb_txn_id(handle)) }
}

/// A cursor. Close it before its transaction ends.
struct Cursor {
  let handle: OpaquePointer

  init(transaction: OpaquePointer, database: MDB_dbi) throws(LMDBFailure) {
    var cursor: OpaquePointer?
    try check(mdb_cursor_open(transaction, database, &cursor), "open a cursor")
    handle = cursor!
  }

  func close() { mdb_cursor_close(handle) }

  typealias Entry = (key: UnsafeRawBufferPointer, record: UnsafeRawBufferPointer)

  /// `MDB_FIRST`, `MDB_NEXT`, `MDB_LAST` and so on; nil at the end.
  @inline(__always)
  func move(_ operation: MDB_cursor_op) throws(LMDBFailure) -> Entry? {
    var key = MDB_val()
    var record = MDB_val()
    let code = mdb_cursor_get(handle, &key, &record, operation)
    if code == MDB_NOTFOUND { return nil }
    try check(code, "read a record")
    return (key.bytes, record.bytes)
  }

  /// `MDB_SET_KEY` (the key itself) or `MDB_SET_RANGE` (it or the next one); nil when there is none.
  @inline(__always)
  func seek(_ key: UnsafeRawBufferPointer, _ operation: MDB_cursor_op) throws(LMDBFailure) -> Entry? {
    var key = MDB_val(key)
    var record = MDB_val()
    let code = mdb_cursor_get(handle, &key, &record, operation)
    if code == MDB_NOTFOUND { return nil }
    try check(code, "read a record")
    return (key.bytes, record.bytes)
  }

  @inline(__always)
  func seek(_ key: UInt64, _ operation: MDB_cursor_op) throws(LMDBFailure) -> Entry? {
    try withWord(key) { (key) throws(LMDBFailure) in try seek(key, operation) }
  }

  /// - Parameter flags: `MDB_APPEND`, `MDB_APPENDDUP`, `MDB_CURRENT`, `MDB_NOOVERWRITE` or 0.
  @inline(__always)
  func put(_ key: UnsafeRawBufferPointer, _ record: UnsafeRawBufferPointer, _ flags: Int32) throws(LMDBFailure) {
    var key = MDB_val(key)
    var record = MDB_val(record)
    try check(mdb_cursor_put(handle, &key, &record, UInt32(flags)), "write a record")
  }

  @inline(__always)
  func put(_ key: UInt64, _ record: UnsafeRawBufferPointer, _ flags: Int32) throws(LMDBFailure) {
    try withWord(key) { (key) throws(LMDBFailure) in try put(key, record, flags) }
  }
}

/// An integer key as LMDB wants it: in the machine's order, aligned.
@inline(__always)
func withWord<R, E: Error>(
  _ word: UInt64, _ body: (UnsafeRawBufferPointer) throws(E) -> R
) throws(E) -> R {
  try withUnsafePointer(to: word) { (pointer) throws(E) in
    try body(UnsafeRawBufferPointer(start: pointer, count: 8))
  }
}

/// The integer of a key that LMDB handed out; nil when it is not one.
@inline(__always)
func word(_ key: UnsafeRawBufferPointer) -> UInt64? {
  key.count == 8 ? key.loadUnaligned(as: UInt64.self) : nil
}

@inline(__always)
func isEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
  left.count == right.count && (left.isEmpty || memcmp(left.baseAddress!, right.baseAddress!, left.count) == 0)
}

extension [UInt8] {
  /// As `withUnsafeBytes`, which does not tell what it throws.
  @inline(__always)
  func withRawBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    try withUnsafeBufferPointer { (buffer) throws(E) in try body(UnsafeRawBufferPointer(buffer)) }
  }
}

extension MDB_val {
  /// LMDB's type has no const; it writes to no key and no record that it is given.
  @inline(__always)
  init(_ bytes: UnsafeRawBufferPointer) {
    self.init(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
  }

  @inline(__always)
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: mv_data, count: mv_size) }
}
