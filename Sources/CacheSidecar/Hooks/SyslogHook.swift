import Logging
import NIOPosix
import Primitives
import SidecarCore
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Takes access-log lines as syslog datagrams on a Unix socket. For nginx:
///
///     log_format leasehold '$request_method $status $content_length $uri';
///     access_log syslog:server=unix:/run/leasehold/hits.sock,nohostname,tag=ccache leasehold;
///
/// The tag names the cache; any other tag leaves it to the prefix of the path. Combined lines are understood as well.
///
/// Lossy, by nature: a sender does not wait for a full socket. What is read and then dropped is counted
/// (`leasehold_hook_lost_total`); what the kernel refused only the sender knows (nginx says so in its error log). A
/// thread of its own empties the socket, because Linux lets few datagrams wait in it (net.unix.max_dgram_qlen).
package final class SyslogHook: Sendable {
  package struct Failure: Error, CustomStringConvertible {
    package var description: String
  }

  private let path: String
  private let descriptor: Int32
  private let router: HookRouter
  private let sidecar: Sidecar
  private let feeder: HookFeeder
  private let logger: Logger
  private let threads = NIOThreadPool(numberOfThreads: 1)
  private let isStopped = Atomic(false)

  private static let maxDatagramsPerRound = 512
  private static let wakeIntervalMicroseconds = 250_000

  /// Binds the socket; a socket file that nobody listens on is replaced. `mode`: who may report hits (and deletions).
  package init(
    path: String, mappings: [HookMapping], sidecar: Sidecar, mode: mode_t = 0o660, logger: Logger
  ) throws(Failure) {
    for mapping in mappings where sidecar.caches[mapping.cache] == nil {
      throw Failure(description: "syslog socket \(path): no cache is called \"\(mapping.cache)\"")
    }
    self.path = path
    self.sidecar = sidecar
    self.logger = logger
    router = HookRouter(mappings)
    feeder = HookFeeder(sidecar: sidecar, hook: .syslog)
    descriptor = try Self.bound(to: path, mode: mode)
  }

  deinit { close(descriptor) }

  /// Starts reading.
  package func start() {
    threads.start()
    threads.submit { [self] state in
      guard case .active = state else { return }
      readUntilStopped()
    }
  }

  /// Stops reading and removes the socket file. What has been read is still carried out.
  package func stop() async throws {
    isStopped.store(true, ordering: .releasing)
    unlink(path)
    try await threads.shutdownGracefully()
  }

  // MARK: Reading

  private func readUntilStopped() {
    var buffer = [UInt8](repeating: 0, count: Limits.maxLogLineBytes)
    while !isStopped.load(ordering: .acquiring) {
      var lines: [(cache: String, key: Bytes, request: EntryRequest)] = []
      var unparsable: UInt64 = 0
      var flags: Int32 = 0
      for _ in 0..<Self.maxDatagramsPerRound {
        // The first waits (up to the socket's time-out), the others are what is there already.
        let count = recv(descriptor, &buffer, buffer.count, flags | Int32(MSG_TRUNC))
        if count < 0 {
          report(errno)
          break
        }
        flags = Int32(MSG_DONTWAIT)
        if count > buffer.count || !take(buffer[..<count], into: &lines) { unparsable += 1 }
      }
      if unparsable > 0 { sidecar.metrics.countUnparsable(.syslog, unparsable) }
      if !lines.isEmpty { feeder.offer(lines) }
    }
  }

  private func report(_ code: Int32) {
    guard code != EAGAIN, code != EWOULDBLOCK, code != EINTR else { return }
    logger.error(
      "syslog hook: cannot read", metadata: ["path": "\(path)", "error": "\(String(cString: strerror(code)))"])
    usleep(useconds_t(Self.wakeIntervalMicroseconds))
  }

  /// False when the datagram cannot be read.
  private func take(
    _ datagram: ArraySlice<UInt8>, into lines: inout [(cache: String, key: Bytes, request: EntryRequest)]
  ) -> Bool {
    guard let line = SyslogLine(datagram) else { return false }
    let (cache, meaning) = router.meaning(of: line)
    switch meaning {
    case .request(let key, let request):
      if let cache { lines.append((cache, key, request)) }
      return true
    case .ignored: return true
    case .unparsable: return false
    }
  }

  // MARK: The socket

  private static func bound(to path: String, mode: mode_t) throws(Failure) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let capacity = MemoryLayout.size(ofValue: address.sun_path)
    guard !bytes.isEmpty, bytes.count < capacity else {
      throw Failure(description: "syslog socket \(path): the path must have 1 to \(capacity - 1) bytes")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw failure("open", path) }
    do throws(Failure) {
      try replaceStale(path, address)
      guard call({ bind($0, $1, $2) }, descriptor, address) == 0 else { throw failure("bind", path) }
      guard chmod(path, mode) == 0 else { throw failure("set the mode of", path) }
      try setOptions(descriptor, path)
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  /// Removes a socket file whose owner is gone; leaves anything else alone.
  private static func replaceStale(_ path: String, _ address: sockaddr_un) throws(Failure) {
    var status = stat()
    guard lstat(path, &status) == 0 else { return }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw Failure(description: "syslog socket \(path): there is a file that is no socket; remove it")
    }
    let probe = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard probe >= 0 else { throw failure("open", path) }
    defer { close(probe) }
    guard call({ connect($0, $1, $2) }, probe, address) != 0 else {
      throw Failure(description: "syslog socket \(path): another process is listening on it")
    }
    guard errno == ECONNREFUSED else { throw failure("look at", path) }
    guard unlink(path) == 0 else { throw failure("replace", path) }
  }

  private static func setOptions(_ descriptor: Int32, _ path: String) throws(Failure) {
    var timeout = timeval(tv_sec: 0, tv_usec: suseconds_t(wakeIntervalMicroseconds))
    guard
      setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size)) == 0
    else { throw failure("configure", path) }
    // More room for bursts; the kernel grants what its limit allows.
    var size: Int32 = 8 * 1024 * 1024
    _ = setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
  }

  private static func call(
    _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32, _ descriptor: Int32, _ address: sockaddr_un
  ) -> Int32 {
    withUnsafePointer(to: address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        body(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
  }

  private static func failure(_ what: String, _ path: String) -> Failure {
    Failure(description: "syslog socket \(path): cannot \(what) it: \(String(cString: strerror(errno)))")
  }
}
