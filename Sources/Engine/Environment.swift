import CLMDB
import Storage
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// An open LMDB environment; closed when the last one lets go of it (the engine and every archive).
///
/// `@unchecked Sendable`: all is set at the start. LMDB itself admits one write transaction at a time (the engine's
/// thread) and read transactions on any thread beside it (`MDB_NOTLS` ties them to their object, not to a thread).
final class Environment: @unchecked Sendable {
  let handle: OpaquePointer
  /// The data file, for messages; after a rename its new name.
  let path: String
  /// What the process says when the map cannot be read; for `FaultGuard`.
  let faultMessage: FaultMessage
  private(set) var databases: [MDB_dbi] = []
  let mapBytes: Int
  private let file: FileIdentity

  /// Opens a file that is there.
  static func open(path: String, mapBytes: Int, unsafeNoSync: Bool) throws(StorageError) -> Environment {
    let environment = try Environment(
      path: path, shownPath: path, flags: unsafeNoSync ? UInt32(MDB_NOSYNC) : 0, mapBytes: mapBytes, creating: false)
    try environment.openDatabases(creating: false)
    return environment
  }

  /// Opens a file that nobody writes, without touching anything beside it.
  static func openForReading(path: String, mapBytes: Int) throws(StorageError) -> Environment {
    let environment = try Environment(
      path: path, shownPath: path, flags: UInt32(MDB_RDONLY | MDB_NOLOCK), mapBytes: mapBytes, creating: false)
    try environment.openDatabases(creating: false)
    return environment
  }

  /// Makes a new file with empty databases. It does not sync until `beginSyncing`.
  /// - Parameter shownPath: the name that it is to get, for messages.
  static func create(path: String, shownPath: String, mapBytes: Int) throws(StorageError) -> Environment {
    let environment = try Environment(
      path: path, shownPath: shownPath, flags: UInt32(MDB_NOSYNC), mapBytes: mapBytes, creating: true)
    try environment.openDatabases(creating: true)
    return environment
  }

  private init(
    path: String, shownPath: String, flags: UInt32, mapBytes: Int, creating: Bool
  ) throws(StorageError) {
    self.path = shownPath
    if !creating { try Self.checkHead(of: path) }
    if let known = FileIdentity(path: path), OpenFiles.contains(known) {
      // LMDB's locks are the process's: a second environment on the file would release those of the first.
      throw .locked(path: path, process: getpid())
    }
    (handle, self.mapBytes) = try Self.openHandle(path: path, flags: flags, mapBytes: mapBytes)
    guard let identity = FileIdentity(path: path) else {
      mdb_env_close(handle)
      throw .io(DiskFailure(operation: "inspect", path: path, code: errno))
    }
    file = identity
    OpenFiles.insert(file)
    faultMessage = FaultMessage(path: shownPath)
    mdb_env_set_userctx(handle, UnsafeMutableRawPointer(mutating: faultMessage.text))
    mdb_env_set_assert(handle) { environment, _ in FaultMessage.write(mdb_env_get_userctx(environment)) }
  }

  deinit {
    // In one step: as soon as a file without a name is closed, its inode can be a new file's.
    OpenFiles.remove(file) { mdb_env_close(handle) }
  }

  private static func openHandle(
    path: String, flags: UInt32, mapBytes: Int
  ) throws(StorageError) -> (OpaquePointer, mapBytes: Int) {
    var mapBytes = mapBytes
    while true {
      var created: OpaquePointer?
      var code = mdb_env_create(&created)
      guard code == MDB_SUCCESS, let handle = created else { throw failure(code, "open", path) }
      mdb_env_set_maxdbs(handle, UInt32(Database.allCases.count))
      mdb_env_set_maxreaders(handle, EngineLimits.maxReaders)
      mdb_env_set_mapsize(handle, mapBytes)
      code = mdb_env_open(handle, path, flags | UInt32(MDB_NOSUBDIR | MDB_NOTLS), 0o600)
      if code == MDB_SUCCESS { return (handle, mapBytes) }
      mdb_env_close(handle)
      guard code == ENOMEM, mapBytes / 2 >= EngineLimits.minimumMapBytes else { throw failure(code, "open", path) }
      mapBytes /= 2
    }
  }

  private static func checkHead(of path: String) throws(StorageError) {
    let descriptor = openReadOnly(path)
    guard descriptor >= 0 else { throw .io(DiskFailure(operation: "open", path: path, code: errno)) }
    defer { _ = close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw .io(DiskFailure(operation: "inspect", path: path, code: errno))
    }
    var prefix = [UInt8](repeating: 0, count: FileHead.prefixBytes)
    let count = prefix.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    guard count >= 0 else { throw .io(DiskFailure(operation: "read", path: path, code: errno)) }
    prefix.removeLast(prefix.count - count)
    do { _ = try FileHead(prefix: prefix, fileBytes: Int(status.st_size)) } catch {
      throw .corruptState(file: path, reason: "\(error)")
    }
  }

  private func openDatabases(creating: Bool) throws(StorageError) {
    try FaultGuard.inside(faultMessage) { () throws(StorageError) in try lookUpDatabases(creating: creating) }
  }

  private func lookUpDatabases(creating: Bool) throws(StorageError) {
    do throws(LMDBFailure) {
      let transaction = try begin(writing: creating)
      do throws(LMDBFailure) {
        for database in Database.allCases {
          var handle: MDB_dbi = 0
          let flags = creating ? UInt32(MDB_CREATE) | database.flags : 0
          try check(mdb_dbi_open(transaction.handle, database.name, flags, &handle), "open a database")
          var found: UInt32 = 0
          try check(mdb_dbi_flags(transaction.handle, handle, &found), "inspect a database")
          guard found == database.flags else {
            throw LMDBFailure(code: MDB_INCOMPATIBLE, operation: "open database \(database.name)")
          }
          databases.append(handle)
        }
      } catch {
        transaction.abort()
        throw error
      }
      try transaction.commit()
    } catch {
      throw storageError(error)
    }
  }

  func begin(writing: Bool) throws(LMDBFailure) -> Transaction {
    var transaction: OpaquePointer?
    try check(
      mdb_txn_begin(handle, nil, writing ? 0 : UInt32(MDB_RDONLY), &transaction), "begin a transaction")
    return Transaction(handle: transaction!, databases: databases)
  }

  func sync() throws(LMDBFailure) { try check(mdb_env_sync(handle, 1), "sync") }

  /// What has been written without syncing is on the disk after this, and each commit from here on.
  func beginSyncing() throws(LMDBFailure) {
    try sync()
    try check(mdb_env_set_flags(handle, UInt32(MDB_NOSYNC), 0), "sync")
  }

  /// Pages in the free list as a read transaction sees it, by the counts that its records begin with.
  func sizes(seenBy transaction: Transaction) throws(LMDBFailure) -> EngineSizes {
    let freeList: MDB_dbi = 0
    let cursor = try Cursor(transaction: transaction.handle, database: freeList)
    defer { cursor.close() }
    var freePages: UInt64 = 0
    var entry = try cursor.move(MDB_FIRST)
    while let (_, record) = entry {
      guard record.count >= 8 else { throw LMDBFailure(code: MDB_CORRUPTED, operation: "read the free list") }
      freePages &+= record.loadUnaligned(as: UInt64.self)
      entry = try cursor.move(MDB_NEXT)
    }
    var info = MDB_envinfo()
    try check(mdb_env_info(handle, &info), "inspect")
    var statistics = MDB_stat()
    try check(mdb_env_stat(handle, &statistics), "inspect")
    guard freePages <= info.me_last_pgno else {
      throw LMDBFailure(code: MDB_CORRUPTED, operation: "read the free list")
    }
    let pageBytes = Int64(statistics.ms_psize)
    let usedBytes = Int64(info.me_last_pgno + 1) * pageBytes
    var status = stat()
    let fileBytes = fstat(descriptor, &status) == 0 ? Int64(status.st_size) : usedBytes
    return EngineSizes(
      fileBytes: fileBytes, inUseBytes: usedBytes - Int64(freePages) * pageBytes)
  }

  /// A free list that is damaged would have LMDB write over pages in use. Each record is a count and so many page numbers
  /// that fall; no page is there twice.
  func checkFreeList(seenBy transaction: Transaction) throws(LMDBFailure) {
    let freeList: MDB_dbi = 0
    let damage = LMDBFailure(code: MDB_CORRUPTED, operation: "read the free list")
    var info = MDB_envinfo()
    try check(mdb_env_info(handle, &info), "inspect")
    var isFree = [Bool](repeating: false, count: info.me_last_pgno + 1)
    let cursor = try Cursor(transaction: transaction.handle, database: freeList)
    defer { cursor.close() }
    var entry = try cursor.move(MDB_FIRST)
    while let (_, record) = entry {
      guard record.count >= 8, record.loadUnaligned(as: UInt64.self) < UInt64(record.count / 8) else { throw damage }
      var above = UInt64(info.me_last_pgno) + 1
      for position in 1..<(Int(record.loadUnaligned(as: UInt64.self)) + 1) {
        let page = record.loadUnaligned(fromByteOffset: position * 8, as: UInt64.self)
        guard page > 1, page < above, !isFree[Int(page)] else { throw damage }
        isFree[Int(page)] = true
        above = page
      }
      entry = try cursor.move(MDB_NEXT)
    }
  }

  private var descriptor: Int32 {
    var descriptor: mdb_filehandle_t = -1
    mdb_env_get_fd(handle, &descriptor)
    return descriptor
  }

  // MARK: Failures

  /// Whether a failed write means that space ran out, of the disk, the quota or the map. LMDB reports the short write that
  /// a full disk answers with as an I/O error, so the file system is asked whether it could give more.
  func isOutOfSpace(_ failure: LMDBFailure) -> Bool {
    switch failure.code {
    case ENOSPC, EDQUOT, MDB_MAP_FULL: return true
    case EIO:
      var status = stat()
      guard fstat(descriptor, &status) == 0 else { return false }
      let code = posix_fallocate(descriptor, status.st_size, off_t(EngineLimits.spaceProbeBytes))
      if code == 0 { ftruncate(descriptor, status.st_size) }
      return code == ENOSPC || code == EDQUOT
    default: return false
    }
  }

  /// Whether a head page could not be written: LMDB admits no transaction from then on.
  var hasFailed: Bool {
    do {
      try begin(writing: false).abort()
      return false
    } catch {
      return true
    }
  }

  func outOfSpace(_ failure: LMDBFailure) -> StorageError {
    let isMap = failure.code == MDB_MAP_FULL
    return .io(
      DiskFailure(
        operation: isMap ? "grow beyond the \(mapBytes) bytes of address space" : failure.operation, path: path,
        code: failure.code == EDQUOT ? EDQUOT : ENOSPC))
  }

  /// Any other failure.
  func storageError(_ failure: LMDBFailure) -> StorageError {
    if isOutOfSpace(failure) { return outOfSpace(failure) }
    if failure.isDamage { return .corruptState(file: path, reason: failure.reason) }
    return .io(DiskFailure(operation: failure.operation, path: path, code: failure.code > 0 ? failure.code : EIO))
  }

  private static func failure(_ code: Int32, _ operation: String, _ path: String) -> StorageError {
    switch code {
    case MDB_INVALID, MDB_CORRUPTED, MDB_VERSION_MISMATCH:
      .corruptState(file: path, reason: String(cString: mdb_strerror(code)))
    default: .io(DiskFailure(operation: operation, path: path, code: code > 0 ? code : EIO))
    }
  }
}

extension Transaction {
  func abort() { mdb_txn_abort(handle) }

  /// The transaction is over afterwards, whether it throws or not.
  func commit() throws(LMDBFailure) { try check(mdb_txn_commit(handle), "commit") }
}

private func openReadOnly(_ path: String) -> Int32 { open(path, O_RDONLY | O_CLOEXEC) }

/// A file, whatever its name.
private struct FileIdentity: Hashable {
  var device: dev_t
  var inode: ino_t

  init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    device = status.st_dev
    inode = status.st_ino
  }
}

/// The files that this process has open as environments.
private enum OpenFiles {
  private static let all = Mutex<Set<FileIdentity>>([])

  static func contains(_ file: FileIdentity) -> Bool { all.withLock { $0.contains(file) } }
  static func insert(_ file: FileIdentity) { _ = all.withLock { $0.insert(file) } }

  static func remove(_ file: FileIdentity, closing: () -> Void) {
    all.withLock { all in
      closing()
      all.remove(file)
    }
  }
}
