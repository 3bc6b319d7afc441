import Primitives
import SidecarCore

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Keeps a janitor connected to the event socket: subscribes, feeds it, sends its answers, reconnects with a back-off,
/// empties the trash and prints what was freed. Blocks its thread; a janitor is a process of its own.
package struct JanitorConnection {
  package struct Options: Sendable {
    package var socketPath: String
    package var name: String
    package var inflight = 256
    package var batch = 100
    package var summaryMilliseconds: Int64 = 60_000

    package init(socketPath: String, name: String) {
      self.socketPath = socketPath
      self.name = name
    }
  }

  private static let minBackOffMilliseconds: Int64 = 500
  private static let maxBackOffMilliseconds: Int64 = 30_000
  /// Longer than this without a byte, three heartbeats, and the connection is taken for dead.
  private static let silenceMilliseconds = 3 * Limits.eventHeartbeatMilliseconds
  private static let pollMilliseconds: Int64 = 200
  /// A dry run ends when nothing more has come for this long.
  private static let dryRunQuietMilliseconds: Int64 = 2_000

  private let options: Options
  private var janitor: Janitor
  private let report: (String) -> Void
  private var summaryAt = monotonicMilliseconds()
  private var lastSummary = ""

  private enum End {
    case stopped
    /// Why it was lost, and whether it had come to the first answer.
    case lost(String, wasSubscribed: Bool)
  }

  package init(_ options: Options, janitor: Janitor, report: @escaping (String) -> Void) {
    self.options = options
    self.janitor = janitor
    self.report = report
  }

  /// Until `isStopped` (asked several times a second), or until another janitor takes the name; a dry run until nothing
  /// more comes. Prints the summary at its end.
  package mutating func run(isStopped: () -> Bool) throws(JanitorError) -> Janitor.Totals {
    guard options.socketPath.utf8.count < MemoryLayout.size(ofValue: sockaddr_un().sun_path) else {
      throw .socket(options.socketPath, "the path of a Unix socket has at most 107 bytes")
    }
    defer { report(janitor.summary) }
    var backOff = Self.minBackOffMilliseconds
    var generator = SystemRandomNumberGenerator()
    while true {
      switch try serve(isStopped) {
      case .stopped: return janitor.totals
      case .lost(let why, let wasSubscribed):
        if janitor.options.isDryRun { throw .socket(options.socketPath, why) }
        if wasSubscribed { backOff = Self.minBackOffMilliseconds }
        let wait = Int64.random(in: backOff / 2...backOff, using: &generator)
        report("\(options.socketPath): \(why); again in \(DurationText.text(milliseconds: wait))")
        backOff = min(backOff * 2, Self.maxBackOffMilliseconds)
        if rest(wait, isStopped) { return janitor.totals }
      }
    }
  }

  /// True when it was stopped meanwhile.
  private mutating func rest(_ milliseconds: Int64, _ isStopped: () -> Bool) -> Bool {
    let end = monotonicMilliseconds() + milliseconds
    while monotonicMilliseconds() < end {
      if isStopped() { return true }
      keepHouse()
      poll(nil, 0, Int32(min(Self.pollMilliseconds, max(1, end - monotonicMilliseconds()))))
    }
    return isStopped()
  }

  private mutating func keepHouse() {
    janitor.emptyTrash(now: wallMilliseconds())
    let now = monotonicMilliseconds()
    guard now - summaryAt >= options.summaryMilliseconds else { return }
    summaryAt = now
    if janitor.summary != lastSummary { report(janitor.summary) }
    lastSummary = janitor.summary
  }

  /// One connection from its beginning to its end.
  private mutating func serve(_ isStopped: () -> Bool) throws(JanitorError) -> End {
    let descriptor: Int32
    switch connect() {
    case .success(let connected): descriptor = connected
    case .failure(let failure): return .lost(failure.reason, wasSubscribed: false)
    }
    defer { close(descriptor) }
    if let code = send(subscription, to: descriptor) { return .lost(describe(code), wasSubscribed: false) }
    var lines = LineBuffer()
    var wasSubscribed = false
    var heardAt = monotonicMilliseconds()
    while !isStopped() {
      keepHouse()
      switch receive(descriptor) {
      case .quiet:
        let quiet = monotonicMilliseconds() - heardAt
        if janitor.options.isDryRun, wasSubscribed, quiet >= Self.dryRunQuietMilliseconds { return .stopped }
        if quiet >= Self.silenceMilliseconds { return .lost("no sign of life", wasSubscribed: wasSubscribed) }
      case .closed(let why): return .lost(why, wasSubscribed: wasSubscribed)
      case .bytes(let bytes):
        guard let messages = parse(bytes, &lines) else {
          return .lost("an over-long line", wasSubscribed: wasSubscribed)
        }
        // Heartbeats keep the connection, and do not prolong a dry run.
        if messages.contains(where: { !$0.isHeartbeat }) || !janitor.options.isDryRun {
          heardAt = monotonicMilliseconds()
        }
        for message in messages {
          if case .hello = message { wasSubscribed = true }
          try checkForEnd(message)
        }
        if let code = send(janitor.take(messages), to: descriptor) {
          return .lost(describe(code), wasSubscribed: wasSubscribed)
        }
      }
    }
    return .stopped
  }

  /// What reconnecting cannot mend.
  private func checkForEnd(_ message: ReceivedMessage) throws(JanitorError) {
    guard case .failure(let code, let text, _) = message else { return }
    switch EventErrorCode(rawValue: code) {
    case .fenced: throw .subscription("another janitor runs as \(options.name): \(text)")
    case .nosub: throw .subscription(text)
    case .stale, .toolong, .badjson, .unknownOp, .unavailable, nil: return
    }
  }

  private var subscription: [UInt8] {
    var writer = JSONWriter()
    writer.object { writer in
      writer.member("op", "sub")
      writer.member("name", options.name)
      writer.member("cache", janitor.options.cache)
      // A dry run acknowledges nothing: the bound is what it can show.
      writer.member("inflight", janitor.options.isDryRun ? Subscription.inflightRange.upperBound : options.inflight)
      writer.member("batch", options.batch)
    }
    writer.endLine()
    return writer.bytes
  }

  private func parse(_ bytes: [UInt8], _ lines: inout LineBuffer) -> [ReceivedMessage]? {
    guard let complete = lines.take(bytes) else { return nil }
    var messages: [ReceivedMessage] = []
    for line in complete {
      do throws(OpFailure) {
        if let message = try ReceivedMessage(parsingLine: line) { messages.append(message) }
      } catch {
        // It is delivered again, and to somebody who understands it.
        report("a line that is not understood: \(error.message)")
      }
    }
    return messages
  }

  // MARK: the socket

  private struct ConnectFailure: Error { var reason: String }

  private func connect() -> Result<Int32, ConnectFailure> {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return .failure(ConnectFailure(reason: describe(errno))) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: options.socketPath.utf8) }
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        systemConnect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else {
      let reason = describe(errno)
      close(descriptor)
      return .failure(ConnectFailure(reason: reason))
    }
    return .success(descriptor)
  }

  private enum Received {
    case bytes([UInt8])
    case quiet
    case closed(String)
  }

  private func receive(_ descriptor: Int32) -> Received {
    var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    let ready = poll(&waiting, 1, Int32(Self.pollMilliseconds))
    guard ready > 0 else { return ready == 0 || errno == EINTR ? .quiet : .closed(describe(errno)) }
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    let count = recv(descriptor, &buffer, buffer.count, 0)
    if count > 0 { return .bytes(Array(buffer[..<count])) }
    if count == 0 { return .closed("closed by the server") }
    return errno == EINTR ? .quiet : .closed(describe(errno))
  }

  /// The error number, or nil when all was sent.
  private func send(_ bytes: [UInt8], to descriptor: Int32) -> Int32? {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        systemSend(descriptor, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count < 0, errno != EINTR { return errno }
      sent += max(0, count)
    }
    return nil
  }
}

extension ReceivedMessage {
  fileprivate var isHeartbeat: Bool {
    if case .heartbeat = self { true } else { false }
  }
}

/// Bytes in, whole lines out.
struct LineBuffer {
  private var rest: [UInt8] = []

  /// Nil when a line is over-long.
  mutating func take(_ bytes: [UInt8]) -> [ArraySlice<UInt8>]? {
    rest += bytes
    guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else {
      return rest.count > Limits.maxEventLineBytes ? nil : []
    }
    let lines = rest[..<end].split(separator: UInt8(ascii: "\n"))
    rest = Array(rest[(end + 1)...])
    return lines.allSatisfy { $0.count <= Limits.maxEventLineBytes } ? lines : nil
  }
}

/// Milliseconds since 1970.
func wallMilliseconds() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
}

private let systemConnect = connect
private let systemSend = send
