#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The real file system.
package struct POSIXDisk: Disk {
  package init() {}

  package func list(_ directory: String) throws(DiskFailure) -> [String] {
    guard let stream = opendir(directory) else { throw failure("list", directory) }
    defer { closedir(stream) }
    var names: [String] = []
    errno = 0
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: Int(NAME_MAX) + 1) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
      errno = 0
    }
    guard errno == 0 else { throw failure("list", directory) }
    return names
  }

  package func createDirectory(_ path: String) throws(DiskFailure) {
    if mkdir(path, 0o700) != 0, errno != EEXIST { throw failure("create directory", path) }
  }

  package func open(_ path: String, create: Bool) throws(DiskFailure) -> any DiskFile {
    let flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0)
    let descriptor = openFile(path, flags)
    guard descriptor >= 0 else { throw failure(create ? "create" : "open", path) }
    return POSIXFile(descriptor: descriptor, path: path)
  }

  package func rename(_ path: String, to newPath: String) throws(DiskFailure) {
    if renameFile(path, newPath) != 0 { throw failure("rename", path) }
  }

  package func remove(_ path: String) throws(DiskFailure) {
    if unlink(path) != 0 { throw failure("remove", path) }
  }

  package func syncDirectory(_ path: String) throws(DiskFailure) {
    let descriptor = openFile(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure("open directory", path) }
    defer { _ = closeFile(descriptor) }
    if fsync(descriptor) != 0 { throw failure("sync directory", path) }
  }
}

private final class POSIXFile: DiskFile {
  private let descriptor: Int32
  private let path: String

  init(descriptor: Int32, path: String) {
    self.descriptor = descriptor
    self.path = path
  }

  func size() throws(DiskFailure) -> Int {
    var status = stat()
    if fstat(descriptor, &status) != 0 { throw failure("inspect", path) }
    return Int(status.st_size)
  }

  func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskFailure) {
    var done = 0
    while done < bytes.count {
      let written = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
      if written > 0 {
        done += written
      } else if written == 0 || errno != EINTR {
        throw failure("write", path)
      }
    }
  }

  func readAll() throws(DiskFailure) -> [UInt8] {
    let size = try size()
    var problem: DiskFailure?
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      while count < size {
        let got = pread(descriptor, buffer.baseAddress! + count, size - count, off_t(count))
        if got > 0 {
          count += got
        } else if got == 0 {
          return
        } else if errno != EINTR {
          problem = failure("read", path)
          return
        }
      }
    }
    if let problem { throw problem }
    return bytes
  }

  func fillWithZeros(_ range: Range<Int>) throws(DiskFailure) {
    // Reserving in one piece keeps the file contiguous; writing then makes the blocks "written" ones, so that later
    // syncs find no metadata to journal.
    let code = posix_fallocate(descriptor, off_t(range.lowerBound), off_t(range.count))
    guard code == 0 else {
      throw DiskFailure(operation: "allocate \(range.count) bytes for", path: path, code: code)
    }
    let chunkBytes = 1 << 20
    let zeros = [UInt8](repeating: 0, count: min(chunkBytes, range.count))
    var position = range.lowerBound
    while position < range.upperBound {
      let count = min(chunkBytes, range.upperBound - position)
      try write(count == zeros.count ? zeros : Array(zeros.prefix(count)), at: position)
      position += count
      // Small bites: one large write-back would hold up the log's own fdatasync.
      if position % (8 * chunkBytes) == 0 { try sync() }
    }
  }

  func sync() throws(DiskFailure) {
    if fdatasync(descriptor) != 0 { throw failure("sync", path) }
  }

  func close() { _ = closeFile(descriptor) }
}

private func failure(_ operation: String, _ path: String) -> DiskFailure {
  DiskFailure(operation: operation, path: path, code: errno == 0 ? EIO : errno)
}

// The C functions, under names that the methods above do not hide.
func openFile(_ path: String, _ flags: Int32) -> Int32 { open(path, flags, 0o600) }
func closeFile(_ descriptor: Int32) -> Int32 { close(descriptor) }
private func renameFile(_ path: String, _ newPath: String) -> Int32 { rename(path, newPath) }
