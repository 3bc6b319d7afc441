import Primitives
import SidecarCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How far a log file has been read.
struct LogPosition: Hashable, Sendable {
  var inode: UInt64
  var offset: Int64
  /// Of the last bytes before `offset`: tells a file that was truncated and has grown again.
  var fingerprint: UInt32

  static let fingerprintBytes: Int64 = 256
}

/// Positions of the log and of rotated ones that are still being read, as the state file keeps them: one line each,
/// `INODE OFFSET FINGERPRINT`.
enum LogPositionFile {
  struct Failure: Error, CustomStringConvertible {
    var description: String
  }

  enum Content {
    case absent
    case unreadable
    case positions([LogPosition])
  }

  static func load(_ path: String) throws(Failure) -> Content {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT { return .absent }
      throw Failure(description: "\(path): \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64 * 1024)
    let count = read(descriptor, &bytes, bytes.count)
    guard count >= 0 else { throw Failure(description: "\(path): \(String(cString: strerror(errno)))") }
    return parse(bytes[..<count])
  }

  static func parse(_ bytes: ArraySlice<UInt8>) -> Content {
    guard bytes.last == UInt8(ascii: "\n") else { return .unreadable }
    var positions: [LogPosition] = []
    for line in bytes.split(separator: UInt8(ascii: "\n")) {
      let words = line.split(separator: UInt8(ascii: " ")).map { String(decoding: $0, as: UTF8.self) }
      guard words.count == 3, let inode = UInt64(words[0]), let offset = Int64(words[1]), offset >= 0,
        let fingerprint = UInt32(words[2])
      else { return .unreadable }
      positions.append(LogPosition(inode: inode, offset: offset, fingerprint: fingerprint))
    }
    return .positions(positions)
  }

  /// Atomic: the old content or the new one, whenever the process dies.
  static func save(_ positions: [LogPosition], to path: String) throws(Failure) {
    let text = positions.map { "\($0.inode) \($0.offset) \($0.fingerprint)\n" }.joined()
    let draft = path + ".new"
    let descriptor = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw Failure(description: "\(draft): \(String(cString: strerror(errno)))") }
    let bytes = Array(text.utf8)
    let written = write(descriptor, bytes, bytes.count)
    let code = errno
    close(descriptor)
    guard written == bytes.count else { throw Failure(description: "\(draft): \(String(cString: strerror(code)))") }
    guard rename(draft, path) == 0 else {
      throw Failure(description: "\(path): \(String(cString: strerror(errno)))")
    }
  }
}

/// One open log file.
struct OpenLog {
  let descriptor: Int32
  let inode: UInt64
  var offset: Int64
  /// Rounds of reading in a row that brought nothing.
  var idleRounds = 0
  /// The rest of a line over the limit is being passed over.
  var isSkippingLine = false

  enum Start {
    case beginning
    case end
    case position(LogPosition)
  }

  static let readBytes = 256 * 1024

  /// Nil when the file is not there, or is not the one meant.
  init?(path: String, start: Start) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      return nil
    }
    self.descriptor = descriptor
    inode = UInt64(status.st_ino)
    switch start {
    case .beginning: offset = 0
    case .end: offset = Int64(status.st_size)
    case .position(let position):
      offset = position.offset
      if position.inode != inode || Int64(status.st_size) < offset
        || Self.fingerprint(descriptor, before: offset) != position.fingerprint
      {
        offset = 0
      }
    }
  }

  var position: LogPosition {
    LogPosition(inode: inode, offset: offset, fingerprint: Self.fingerprint(descriptor, before: offset))
  }

  private static func fingerprint(_ descriptor: Int32, before offset: Int64) -> UInt32 {
    let count = min(offset, LogPosition.fingerprintBytes)
    var bytes = [UInt8](repeating: 0, count: Int(count))
    let got = pread(descriptor, &bytes, bytes.count, off_t(offset - count))
    return CRC32C.checksum(bytes.prefix(max(0, got)))
  }

  /// Whole lines from where reading stands, without their LF; empty when there are none. Lines over
  /// `Limits.maxLogLineBytes` are left out and counted.
  mutating func readLines() -> (lines: [ArraySlice<UInt8>], tooLong: UInt64) {
    var status = stat()
    // copytruncate: what is there now is new.
    if fstat(descriptor, &status) == 0, Int64(status.st_size) < offset { offset = 0 }
    var bytes = [UInt8](repeating: 0, count: Self.readBytes)
    let count = pread(descriptor, &bytes, bytes.count, off_t(offset))
    guard count > 0 else { return ([], 0) }
    var lines: [ArraySlice<UInt8>] = []
    var tooLong: UInt64 = 0
    var start = 0
    for index in 0..<count where bytes[index] == UInt8(ascii: "\n") {
      if isSkippingLine {
        isSkippingLine = false
      } else if index - start > Limits.maxLogLineBytes {
        tooLong += 1
      } else {
        lines.append(bytes[start..<index])
      }
      start = index + 1
    }
    if start == 0, count > Limits.maxLogLineBytes {
      if !isSkippingLine { tooLong += 1 }
      isSkippingLine = true
      start = count
    }
    offset += Int64(start)
    return (lines, tooLong)
  }
}
