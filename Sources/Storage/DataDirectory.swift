#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Who a data directory belongs to.
package struct MemberIdentity: Hashable, Sendable {
  package var clusterID: UInt64
  package var memberID: UInt64
  package var name: String

  package init(clusterID: UInt64, memberID: UInt64, name: String) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.name = name
  }
}

/// A member's place on the disk, held by one process: `<data-dir>/member` with `wal`, `state`, `VERSION`, `IDENTITY` and
/// `LOCK`, all of mode 0700 and 0600. The lock is flock's, so it ends with the process, however that ends.
package final class DataDirectory: Sendable {
  package static let version = "leasehold 2"

  package let path: String
  package var memberPath: String { "\(path)/member" }
  package var walPath: String { "\(memberPath)/wal" }
  package var statePath: String { "\(memberPath)/state" }
  /// nil until `establish` has been called once.
  package let recordedIdentity: MemberIdentity?
  private let lockDescriptor: Int32

  /// Creates the directory when it is missing, takes the lock, checks the version and reads the identity.
  package static func open(path: String) throws(StorageError) -> DataDirectory {
    let member = "\(path)/member"
    do throws(DiskFailure) {
      try createDirectories(path)
      try POSIXDisk().createDirectory(member)
      try POSIXDisk().syncDirectory(path)
      // Also when an earlier process made the directory and ended before this.
      if !Paths.exists("\(member)/VERSION") { try POSIXDisk().syncDirectory(Paths.parent(of: path)) }
    } catch {
      throw .io(error)
    }
    let descriptor = try lock("\(member)/LOCK", directory: path)
    do throws(StorageError) {
      try settleVersion(member)
      return DataDirectory(path: path, identity: try readIdentity(member), lockDescriptor: descriptor)
    } catch {
      _ = closeFile(descriptor)
      throw error
    }
  }

  /// Whether a member has begun there, without taking the lock.
  package static func isEstablished(at path: String) -> Bool { Paths.exists("\(path)/member/IDENTITY") }

  private init(path: String, identity: MemberIdentity?, lockDescriptor: Int32) {
    self.path = path
    self.recordedIdentity = identity
    self.lockDescriptor = lockDescriptor
  }

  /// Writes the identity into a fresh directory, or checks it against the one that is there.
  package func establish(_ identity: MemberIdentity) throws(StorageError) {
    guard let found = recordedIdentity else { return try write(identity) }
    let fields: [(String, String, String)] = [
      ("cluster", hex(found.clusterID), hex(identity.clusterID)),
      ("member", hex(found.memberID), hex(identity.memberID)),
      ("member name", found.name, identity.name),
    ]
    for (field, found, expected) in fields where found != expected {
      throw .identityMismatch(path: path, field: field, found: found, expected: expected)
    }
  }

  /// Releases the lock. Also done by the end of the process.
  package func close() { _ = closeFile(lockDescriptor) }

  private func write(_ identity: MemberIdentity) throws(StorageError) {
    let file = "\(memberPath)/IDENTITY"
    guard !identity.name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) else {
      throw .corruptIdentity(file: file, reason: "a member's name must not contain control characters")
    }
    let text = "cluster \(hex(identity.clusterID))\nmember \(hex(identity.memberID))\nname \(identity.name)\n"
    try Self.replaceFile(file, with: text)
  }

  private static func readIdentity(_ member: String) throws(StorageError) -> MemberIdentity? {
    let file = "\(member)/IDENTITY"
    guard let text = try readFile(file) else { return nil }
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count == 4, lines[3].isEmpty,
      let cluster = field("cluster ", lines[0]).flatMap({ UInt64($0, radix: 16) }),
      let memberID = field("member ", lines[1]).flatMap({ UInt64($0, radix: 16) }),
      let name = field("name ", lines[2])
    else { throw .corruptIdentity(file: file, reason: "it is not of the form cluster, member, name") }
    return MemberIdentity(clusterID: cluster, memberID: memberID, name: String(name))
  }

  private static func field(_ label: String, _ line: Substring) -> Substring? {
    line.hasPrefix(label) ? line.dropFirst(label.count) : nil
  }

  /// A fresh directory gets our version; one with content and without it is somebody else's.
  private static func settleVersion(_ member: String) throws(StorageError) {
    let file = "\(member)/VERSION"
    guard let text = try readFile(file) else {
      // etcd has wal and snap.
      for name in ["wal", "snap", "state"] {
        if let first = try content("\(member)/\(name)").min() {
          throw .foreignDirectory(path: member, reason: "it has \(name)/\(first) and no VERSION file")
        }
      }
      return try replaceFile(file, with: version + "\n")
    }
    let found = text.hasSuffix("\n") ? String(text.dropLast()) : text
    if found != version {
      throw .otherVersion(path: member, found: "\"\(found.prefix(40))\"", supported: "\"\(version)\"")
    }
  }

  /// Names in a directory; none when it does not exist.
  private static func content(_ path: String) throws(StorageError) -> [String] {
    do throws(DiskFailure) {
      return try POSIXDisk().list(path)
    } catch {
      if error.code == ENOENT { return [] }
      throw .io(error)
    }
  }

  /// Takes the lock or says who has it.
  private static func lock(_ file: String, directory: String) throws(StorageError) -> Int32 {
    let descriptor = openFile(file, O_RDWR | O_CREAT | O_CLOEXEC)
    guard descriptor >= 0 else { throw .io(DiskFailure(operation: "open", path: file, code: errno)) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      let holder = holder(descriptor)
      _ = closeFile(descriptor)
      if code == EWOULDBLOCK { throw .locked(path: directory, process: holder) }
      throw .io(DiskFailure(operation: "lock", path: file, code: code))
    }
    let text = Array("\(getpid())\n".utf8)
    guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, text, text.count, 0) == text.count else {
      let failure = DiskFailure(operation: "write", path: file, code: errno)
      _ = closeFile(descriptor)
      throw .io(failure)
    }
    return descriptor
  }

  private static func holder(_ descriptor: Int32) -> Int32? {
    var buffer = [UInt8](repeating: 0, count: 32)
    let count = pread(descriptor, &buffer, buffer.count, 0)
    guard count > 0 else { return nil }
    return Int32(String(decoding: buffer[..<count].prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
  }

  /// Creates what is missing of a path, each directory durably.
  private static func createDirectories(_ path: String) throws(DiskFailure) {
    var status = stat()
    if stat(path, &status) == 0 {
      if status.st_mode & S_IFMT != S_IFDIR { throw DiskFailure(operation: "use", path: path, code: ENOTDIR) }
      return
    }
    let parent = Paths.parent(of: path)
    try createDirectories(parent)
    try POSIXDisk().createDirectory(path)
    try POSIXDisk().syncDirectory(parent)
  }

  private static func readFile(_ path: String) throws(StorageError) -> String? {
    do throws(DiskFailure) {
      let file = try POSIXDisk().open(path, create: false)
      defer { file.close() }
      return String(decoding: try file.readAll(), as: UTF8.self)
    } catch {
      if error.code == ENOENT { return nil }
      throw .io(error)
    }
  }

  /// After a crash the file has its old content or the new.
  private static func replaceFile(_ path: String, with text: String) throws(StorageError) {
    let disk = POSIXDisk()
    do throws(DiskFailure) {
      let file = try disk.open(path + temporarySuffix, create: true)
      defer { file.close() }
      try file.write(Array(text.utf8), at: 0)
      try file.sync()
      try disk.rename(path + temporarySuffix, to: path)
      try disk.syncDirectory(Paths.parent(of: path))
    } catch {
      throw .io(error)
    }
  }
}

private func hex(_ value: UInt64) -> String { String(value, radix: 16) }
