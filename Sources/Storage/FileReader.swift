#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Reads a file from its start to its end in pieces: for files that need not fit into memory.
package final class FileReader {
  package let path: String
  private let descriptor: Int32

  package init(_ path: String) throws(DiskFailure) {
    self.path = path
    descriptor = openFile(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Self.failure("open", path) }
  }

  deinit { _ = closeFile(descriptor) }

  /// In bytes, as of now.
  package func size() throws(DiskFailure) -> Int {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Self.failure("inspect", path) }
    return Int(status.st_size)
  }

  /// The next `maxBytes`, fewer only at the end of the file, none behind it.
  package func read(_ maxBytes: Int) throws(DiskFailure) -> [UInt8] {
    var failure: DiskFailure?
    let bytes = [UInt8](unsafeUninitializedCapacity: maxBytes) { buffer, count in
      while count < maxBytes {
        let got = readFile(descriptor, buffer.baseAddress! + count, maxBytes - count)
        if got > 0 {
          count += got
        } else if got == 0 {
          return
        } else if errno != EINTR {
          failure = Self.failure("read", path)
          return
        }
      }
    }
    if let failure { throw failure }
    return bytes
  }

  private static func failure(_ operation: String, _ path: String) -> DiskFailure {
    DiskFailure(operation: operation, path: path, code: errno == 0 ? EIO : errno)
  }
}

// Under a name that the method above does not hide.
private func readFile(_ descriptor: Int32, _ buffer: UnsafeMutablePointer<UInt8>, _ count: Int) -> Int {
  read(descriptor, buffer, count)
}
