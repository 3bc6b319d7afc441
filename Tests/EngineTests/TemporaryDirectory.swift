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
    var template = Array("/tmp/leasehold-engine-XXXXXX".utf8CString)
    path = String(cString: mkdtemp(&template))
  }

  deinit { Self.remove(path) }

  private static func remove(_ path: String) {
    if unlink(path) == 0 { return }
    for name in (try? POSIXDisk().list(path)) ?? [] { remove("\(path)/\(name)") }
    rmdir(path)
  }

  static func read(_ path: String) throws -> [UInt8] {
    let file = try POSIXDisk().open(path, create: false)
    defer { file.close() }
    return try file.readAll()
  }

  static func write(_ bytes: [UInt8], to path: String) throws {
    let file = try POSIXDisk().open(path, create: true)
    defer { file.close() }
    try bytes.withUnsafeBytes { try file.write($0, at: 0) }
  }
}
