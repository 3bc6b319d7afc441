import Storage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A directory that goes away with the test.
final class TemporaryDirectory {
  let path: String

  init() {
    var template = Array("/tmp/leasehold-storage-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template))
  }

  deinit { Self.remove(path) }

  private static func remove(_ path: String) {
    if unlink(path) == 0 { return }
    for name in (try? POSIXDisk().list(path)) ?? [] { remove("\(path)/\(name)") }
    rmdir(path)
  }

  func mode(of path: String) -> UInt32 {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
  }

  func read(_ path: String) throws -> [UInt8] {
    let file = try POSIXDisk().open(path, create: false)
    defer { file.close() }
    return try file.readAll()
  }

  func write(_ bytes: [UInt8], to path: String) throws {
    let file = try POSIXDisk().open(path, create: true)
    defer { file.close() }
    try bytes.withUnsafeBytes { try file.write($0, at: 0) }
  }
}
