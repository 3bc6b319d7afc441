import Storage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A directory that goes away with the test.
package final class TemporaryDirectory: Sendable {
  package let path: String

  package init() {
    var template = Array("/tmp/leasehold-test-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { preconditionFailure("no temporary directory") }
    path = String(cString: made)
  }

  deinit { Self.remove(path) }

  package func file(_ name: String) -> String { "\(path)/\(name)" }

  private static func remove(_ path: String) {
    if unlink(path) == 0 { return }
    for name in (try? POSIXDisk().list(path)) ?? [] { remove("\(path)/\(name)") }
    rmdir(path)
  }

  /// The permission bits of a file or directory; 0 when there is none.
  package static func mode(of path: String) -> UInt32 {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode & 0o777 : 0
  }

  package static func read(_ path: String) throws -> [UInt8] {
    let file = try POSIXDisk().open(path, create: false)
    defer { file.close() }
    return try file.readAll()
  }

  package static func write(_ bytes: [UInt8], to path: String) throws {
    let file = try POSIXDisk().open(path, create: true)
    defer { file.close() }
    try bytes.withUnsafeBytes { try file.write($0, at: 0) }
  }
}
