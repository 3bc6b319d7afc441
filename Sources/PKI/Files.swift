#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The few file operations of this target.
enum Files {
  static let maxFileBytes = 16 * 1024 * 1024

  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  static func read(_ path: String) throws(PKIError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw errno == ENOENT ? .missingFile(path) : .cannotRead(path: path, reason: reason())
    }
    defer { _ = close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = readSome(descriptor, &buffer, buffer.count)
      if count == 0 { return bytes }
      if count < 0 {
        if errno == EINTR { continue }
        throw .cannotRead(path: path, reason: reason())
      }
      bytes += buffer[..<count]
      guard bytes.count <= maxFileBytes else { throw .cannotRead(path: path, reason: "it is too large") }
    }
  }

  /// Writes a file that must not exist yet.
  static func create(_ path: String, _ bytes: [UInt8], mode: mode_t) throws(PKIError) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else {
      throw errno == EEXIST ? .alreadyExists(path) : .cannotWrite(path: path, reason: reason())
    }
    let failure = write(bytes, to: descriptor)
    _ = close(descriptor)
    if let failure {
      unlink(path)
      throw .cannotWrite(path: path, reason: failure)
    }
  }

  /// Writes a file whole or not at all, over an old one.
  static func replace(_ path: String, _ bytes: [UInt8], mode: mode_t) throws(PKIError) {
    let temporary = "\(path).\(getpid()).tmp"
    unlink(temporary)
    try create(temporary, bytes, mode: mode)
    guard rename(temporary, path) == 0 else {
      let failure = reason()
      unlink(temporary)
      throw .cannotWrite(path: path, reason: failure)
    }
  }

  static func createDirectory(_ path: String) throws(PKIError) {
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      let parent = String(path[..<slash])
      if !exists(parent) { try createDirectory(parent) }
    }
    if mkdir(path, 0o700) != 0, errno != EEXIST { throw .cannotWrite(path: path, reason: reason()) }
  }

  static func remove(_ path: String) { unlink(path) }

  private static func write(_ bytes: [UInt8], to descriptor: Int32) -> String? {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { writeSome(descriptor, $0.baseAddress! + done, bytes.count - done) }
      if count < 0 {
        if errno == EINTR { continue }
        return reason()
      }
      done += count
    }
    return fsync(descriptor) == 0 ? nil : reason()
  }

  private static func reason() -> String { String(cString: strerror(errno)) }
}

// The C functions, under names that the methods above do not hide.
private func readSome(_ descriptor: Int32, _ buffer: UnsafeMutableRawPointer, _ count: Int) -> Int {
  read(descriptor, buffer, count)
}
private func writeSome(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}

/// Seconds since 1970 by the system's clock.
package func currentUnixSeconds() -> Int64 { Int64(time(nil)) }
