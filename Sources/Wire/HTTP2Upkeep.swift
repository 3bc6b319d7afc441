import NIOCore

/// One timer for the deadlines of all streams of a connection. Calls are short and their deadlines long: a timer for
/// each would be set and cancelled for nothing, so the connection looks through its streams when the earliest strikes.
struct StreamDeadlines {
  private var timer: Scheduled<Void>?
  private var earliest: NIODeadline?

  mutating func add(_ deadline: NIODeadline, on eventLoop: any EventLoop, _ strike: @escaping () -> Void) {
    if let earliest, earliest <= deadline, earliest > eventLoop.now { return }
    timer?.cancel()
    earliest = deadline
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(deadline: deadline, strike)
  }

  mutating func cancel() {
    timer?.cancel()
    timer = nil
  }
}

/// What a client owes: its SETTINGS from the beginning, and the rest of a header block that it has begun. There is a
/// time limit for both, so that nobody holds a connection by a byte now and then. Bodies have their own.
struct OwedInput {
  enum Standing {
    case nothing
    case waiting(until: NIODeadline)
    case overdue
  }

  private var hasSettings = false
  private var isInBlock = false
  /// Since when the present debt was seen; nil without one.
  private var since: NIODeadline?
  private var timer: Scheduled<Void>?

  var isOwed: Bool { !hasSettings || isInBlock }

  mutating func settingsCame() {
    if !hasSettings { since = nil }
    hasSettings = true
  }

  mutating func blockBegan() { isInBlock = true }

  mutating func blockEnded() {
    isInBlock = false
    since = nil
  }

  mutating func cancel() {
    timer?.cancel()
    timer = nil
  }

  mutating func wait(until deadline: NIODeadline, on eventLoop: any EventLoop, _ strike: @escaping () -> Void) {
    if since == nil { since = eventLoop.now }
    guard timer == nil else { return }
    timer = eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(deadline: deadline, strike)
  }

  mutating func struck(at now: NIODeadline, limit: TimeAmount) -> Standing {
    timer = nil
    guard isOwed, let since else { return .nothing }
    return now - since >= limit ? .overdue : .waiting(until: since + limit)
  }
}

extension HTTP2Connection {
  /// To be called at the end of a turn that leaves something owed. A timer that strikes too early is set again: debts
  /// are paid within microseconds as a rule, and timers are dear.
  func waitForOwed() {
    guard !isClosed else { return }
    owed.wait(until: eventLoop.now + limits.headerTimeout, on: eventLoop) { self.checkOwed() }
  }

  private func checkOwed() {
    switch owed.struck(at: eventLoop.now, limit: limits.headerTimeout) {
    case .nothing: break
    case .waiting(let deadline): owed.wait(until: deadline, on: eventLoop) { self.checkOwed() }
    case .overdue: giveUp()
    }
  }
}

/// How often a client may PING (grpc-go's keepalive enforcement): the third PING that comes too early ends the
/// connection. PINGs that follow frames of ours measure bandwidth and are free.
struct PingPolicy {
  enum Verdict { case fine, tooMany }

  static let strikesAllowed = 2
  /// The least distance while no call is open.
  static let minimumWhenIdle = TimeAmount.hours(2)

  private var strikes = 0
  private var last: NIODeadline?
  private var hasSentStreamFrame = false

  mutating func sentStreamFrame() { hasSentStreamFrame = true }

  mutating func received(at now: NIODeadline, hasOpenStreams: Bool, minimum: TimeAmount) -> Verdict {
    defer { last = now }
    guard !hasSentStreamFrame else {
      hasSentStreamFrame = false
      strikes = 0
      return .fine
    }
    guard minimum > .nanoseconds(0) else { return .fine }
    if let last, now - last < (hasOpenStreams ? minimum : Self.minimumWhenIdle) { strikes += 1 }
    return strikes > Self.strikesAllowed ? .tooMany : .fine
  }
}

/// Remembers the routes of recent paths, so that a request neither makes a string of its path nor hashes it.
struct GRPCRouteCache {
  private var entries: [(path: [UInt8], name: String, route: GRPCRegistry.Route?)?] = Array(repeating: nil, count: 8)

  /// The path as text and its route, nil when nothing is registered there.
  mutating func route(
    _ path: [UInt8], in registry: @autoclosure () -> GRPCRegistry
  ) -> (name: String, route: GRPCRegistry.Route?) {
    let index = (path.count &+ Int(path.last ?? 0)) & 7
    if let entry = entries[index],
      entry.path.withUnsafeBytes({ known in path.withUnsafeBytes { sameBytes(known, $0) } })
    {
      return (entry.name, entry.route)
    }
    let name = String(decoding: path, as: UTF8.self)
    let route = registry().route(name)
    if route != nil { entries[index] = (path, name, route) }
    return (name, route)
  }
}
