#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The file system as the log uses it. A protocol, so that the tests run the same log on a disk that forgets what was
/// not synced. The log calls it twice per batch: dispatch costs nothing beside an fdatasync.
package protocol Disk: Sendable {
  /// Names in a directory, in no order.
  func list(_ directory: String) throws(DiskFailure) -> [String]
  /// Creates a directory (mode 0700) unless it exists. Durable after `syncDirectory` of its parent.
  func createDirectory(_ path: String) throws(DiskFailure)
  /// Opens for reading and writing; `create` makes a new, empty file (mode 0600) and replaces an old one.
  func open(_ path: String, create: Bool) throws(DiskFailure) -> any DiskFile
  func rename(_ path: String, to newPath: String) throws(DiskFailure)
  func remove(_ path: String) throws(DiskFailure)
  /// Makes creations, renames and removals in this directory durable.
  func syncDirectory(_ path: String) throws(DiskFailure)
}

/// An open file. Used by one thread at a time.
package protocol DiskFile: Sendable {
  func size() throws(DiskFailure) -> Int
  /// Writes all of `bytes`.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskFailure)
  /// Reads the whole file.
  func readAll() throws(DiskFailure) -> [UInt8]
  /// Allocates and really writes zeros in the range.
  func fillWithZeros(_ range: Range<Int>) throws(DiskFailure)
  /// Content, and as much metadata as reading it back needs (fdatasync).
  func sync() throws(DiskFailure)
  func close()
}

extension DiskFile {
  package func write(_ bytes: [UInt8], at offset: Int) throws(DiskFailure) {
    let result = bytes.withUnsafeBytes { buffer -> DiskFailure? in
      do throws(DiskFailure) {
        try write(buffer, at: offset)
        return nil
      } catch {
        return error
      }
    }
    if let result { throw result }
  }
}

/// An operation that the operating system refused.
package struct DiskFailure: Error, Hashable, Sendable, CustomStringConvertible {
  /// What was tried, as an infinitive: "write", "sync".
  package var operation: String
  package var path: String
  /// errno.
  package var code: Int32

  package init(operation: String, path: String, code: Int32) {
    self.operation = operation
    self.path = path
    self.code = code
  }

  package var isOutOfSpace: Bool { code == ENOSPC || code == EDQUOT }

  package var description: String { "cannot \(operation) \(path): \(String(cString: strerror(code)))" }
}
