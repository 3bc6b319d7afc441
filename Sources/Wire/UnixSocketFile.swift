#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The file of a listening Unix socket.
enum UnixSocketFile {
  /// What fits `sockaddr_un.sun_path` with its terminating zero.
  static let maxPathBytes = 107

  /// Whether a socket may be put at `path`: nothing is there, or a socket that nobody answers on (its process is gone).
  static func checkFree(_ path: String) throws(WireError) {
    guard path.utf8.count <= maxPathBytes else { throw .socketPathTooLong(path, maxBytes: maxPathBytes) }
    var status = stat()
    guard lstat(path, &status) == 0 else {
      let code = errno
      guard code == ENOENT else { throw .cannotListen(path, reason: describe(code)) }
      return
    }
    guard status.st_mode & S_IFMT == S_IFSOCK else { throw .notASocket(path) }
    if isAnswered(path) { throw .addressInUse(path) }
  }

  /// Whether a process listens on the socket. Only a refused connection proves that none does.
  private static func isAnswered(_ path: String) -> Bool {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { return true }
    defer { close(descriptor) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    return result == 0 || errno != ECONNREFUSED
  }

  /// A name beside `path` under which the socket is made before it is moved into place: with its mode set and over a
  /// stale file, without a moment in which either is wrong.
  static func temporaryPath(beside path: String) -> String {
    let directory = path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
    return directory + ".\(getpid()).\(UInt16.random(in: 0...UInt16.max))"
  }

  /// Gives the fresh socket its mode and its name.
  static func publish(_ temporary: String, as path: String, mode: UInt16) throws(WireError) {
    guard chmod(temporary, mode_t(mode)) == 0, rename(temporary, path) == 0 else {
      let reason = describe(errno)
      unlink(temporary)
      throw .cannotListen(path, reason: reason)
    }
  }

  static func remove(_ path: String) { unlink(path) }

  static func describe(_ code: Int32) -> String { String(cString: strerror(code)) }
}
