#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A cache's directory as the janitor may touch it: every path is walked from the open directory down, one component a
/// time, without following a symbolic link, so that nothing outside is ever reached.
package final class CacheDirectory {
  package enum Removal: Hashable, Sendable {
    case moved(bytes: Int64)
    case absent
    /// Written after the time given: not the file that was meant.
    case newer
    /// A link or a folder stands in the way: never to be removed by us.
    case refused(String)
    case failed(String)
  }

  package enum Restoration: Hashable, Sendable {
    case restored
    /// Unlinked already, or never moved.
    case notInTrash
    /// A newer file has its place; the one in the trash stays there.
    case replaced
    case failed(String)
  }

  package struct TrashedFile: Hashable, Sendable {
    package var name: String
    package var bytes: Int64
    /// When it was moved, milliseconds since 1970.
    package var movedAtMilliseconds: Int64
  }

  package static let trashName = ".leasehold-trash"
  private static let directoryFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC

  package let path: String
  private let root: Int32
  private let trash: Int32

  /// `path` itself may be a link. The trash folder is made when it is missing.
  package init(path: String) throws(JanitorError) {
    self.path = path
    let root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard root >= 0 else { throw .directory(path, describe(errno)) }
    if mkdirat(root, Self.trashName, 0o700) != 0, errno != EEXIST {
      let reason = describe(errno)
      close(root)
      throw .directory("\(path)/\(Self.trashName)", reason)
    }
    let trash = openat(root, Self.trashName, Self.directoryFlags)
    guard trash >= 0 else {
      let reason = describe(errno)
      close(root)
      throw .directory("\(path)/\(Self.trashName)", reason)
    }
    self.root = root
    self.trash = trash
  }

  deinit {
    close(trash)
    close(root)
  }

  /// Moves the file into the trash under `name`, unless it was modified after `newest` (milliseconds since 1970).
  package func remove(_ components: [[UInt8]], as name: String, newest: Int64, dryRun: Bool) -> Removal {
    withParent(of: components) { parent, file in
      switch look(parent, file) {
      case .failure(let code): return code == ENOENT ? .absent : .failed(describe(code))
      case .success(let status):
        guard status.st_mode & S_IFMT == S_IFREG else { return .refused("not a regular file") }
        guard modifiedAt(status) <= newest else { return .newer }
        if dryRun { return .moved(bytes: size(status)) }
        guard renameat(parent, file, trash, name) == 0 else {
          let code = errno
          if code == ENOENT { return .absent }
          return code == EXDEV ? .refused("on another file system than the cache's directory") : .failed(describe(code))
        }
        return confirm(status, parent, file, name)
      }
    } orElse: { code in
      switch code {
      case ENOENT: .absent
      case ELOOP, ENOTDIR: .refused("a folder on its way is a link or a file")
      default: .failed(describe(code))
      }
    }
  }

  /// What was moved may be a newer file that took the name after the look: that one goes back.
  private func confirm(
    _ meant: stat, _ parent: Int32, _ file: UnsafePointer<CChar>, _ name: String
  ) -> Removal {
    guard case .success(let moved) = look(trash, name) else { return .failed("lost in the trash") }
    if moved.st_ino == meant.st_ino, modifiedAt(moved) == modifiedAt(meant) { return .moved(bytes: size(moved)) }
    // When yet another file stands there, that one is the newest.
    if linkat(trash, name, parent, file, 0) == 0 || errno == EEXIST {
      unlinkat(trash, name, 0)
      return .newer
    }
    return .failed("cannot be put back: \(describe(errno))")
  }

  /// Puts a file back from the trash, never over another one.
  package func restore(_ components: [[UInt8]], from name: String) -> Restoration {
    guard case .success = look(trash, name) else { return .notInTrash }
    return withParent(of: components) { parent, file in
      guard linkat(trash, name, parent, file, 0) == 0 else {
        return errno == EEXIST ? .replaced : .failed(describe(errno))
      }
      guard unlinkat(trash, name, 0) == 0 else { return .failed(describe(errno)) }
      return .restored
    } orElse: { code in
      .failed(describe(code))
    }
  }

  /// Whether something stands in the file's place. True as well when that cannot be found out.
  package func hasFile(_ components: [[UInt8]]) -> Bool {
    withParent(of: components) { parent, file in
      if case .failure(let code) = look(parent, file) { return code != ENOENT }
      return true
    } orElse: { code in
      code != ENOENT
    }
  }

  /// Unlinks a file in the trash; the bytes freed, nil when it is not there (restored meanwhile).
  package func discard(_ name: String) throws(JanitorError) -> Int64? {
    guard case .success(let status) = look(trash, name) else { return nil }
    guard unlinkat(trash, name, 0) == 0 else {
      if errno == ENOENT { return nil }
      throw .directory("\(path)/\(Self.trashName)/\(name)", describe(errno))
    }
    // Other names keep the bytes.
    return status.st_nlink > 1 ? 0 : size(status)
  }

  /// What lies in the trash, from earlier runs too.
  package func trashedFiles() throws(JanitorError) -> [TrashedFile] {
    let copy = openat(trash, ".", Self.directoryFlags)
    guard copy >= 0, let stream = fdopendir(copy) else {
      if copy >= 0 { close(copy) }
      throw .directory("\(path)/\(Self.trashName)", describe(errno))
    }
    defer { closedir(stream) }
    var files: [TrashedFile] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard case .success(let status) = look(trash, name), status.st_mode & S_IFMT == S_IFREG else { continue }
      files.append(
        TrashedFile(
          name: name, bytes: size(status),
          movedAtMilliseconds: Int64(status.st_ctim.tv_sec) * 1_000 + Int64(status.st_ctim.tv_nsec) / 1_000_000))
    }
    return files
  }

  /// Opens the folder that holds the file. `body` gets it with the file's name.
  private func withParent<Result>(
    of components: [[UInt8]], _ body: (Int32, UnsafePointer<CChar>) -> Result, orElse: (Int32) -> Result
  ) -> Result {
    var folder = root
    defer { if folder != root { close(folder) } }
    for component in components.dropLast() {
      let next = withName(component) { openat(folder, $0, Self.directoryFlags) }
      let code = errno
      guard next >= 0 else { return orElse(code) }
      if folder != root { close(folder) }
      folder = next
    }
    guard let last = components.last else { return orElse(ENOENT) }
    return withName(last) { body(folder, $0) }
  }

  private func withName<Result>(_ component: [UInt8], _ body: (UnsafePointer<CChar>) -> Result) -> Result {
    (component + [0]).withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
  }

  private enum Look {
    case success(stat)
    case failure(Int32)
  }

  private func look(_ folder: Int32, _ name: UnsafePointer<CChar>) -> Look {
    var status = stat()
    return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? .success(status) : .failure(errno)
  }

  private func size(_ status: stat) -> Int64 { Int64(status.st_size) }

  private func modifiedAt(_ status: stat) -> Int64 {
    Int64(status.st_mtim.tv_sec) * 1_000 + Int64(status.st_mtim.tv_nsec) / 1_000_000
  }
}

func describe(_ code: Int32) -> String { String(cString: strerror(code)) }
