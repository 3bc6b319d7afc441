import ClusterNode
import FoundationEssentials
import Keyspace
import Logging
import NIOCore
import NIOPosix
import Primitives
import StateMachine
import Storage
import Synchronization

/// A real node on a real directory, which may be stopped and opened again.
final class NodeFixture {
  let directory: String
  private var opened: Node?
  var node: Node {
    guard let opened else { preconditionFailure("the node is closed") }
    return opened
  }
  private let configure: (inout NodeConfiguration) -> Void
  private let openStore: StateStoreOpener?

  /// - Parameter directory: one that has been made for it; nil for a new one.
  init(
    directory: String? = nil, _ configure: @escaping (inout NodeConfiguration) -> Void = { _ in }
  ) throws {
    self.directory = directory ?? Self.newDirectory()
    self.configure = configure
    openStore = nil
    opened = try Self.open(self.directory, configure, openStore)
  }

  /// Puts a state of the test's own in the place of the engine.
  init(openStore: @escaping StateStoreOpener) throws {
    directory = Self.newDirectory()
    configure = { _ in }
    self.openStore = openStore
    opened = try Self.open(directory, configure, openStore)
  }

  private static func newDirectory() -> String {
    FileManager.default.temporaryDirectory.path + "/leasehold-node-\(UInt64.random(in: 0...UInt64.max))"
  }

  deinit {
    do { try FileManager.default.removeItem(atPath: directory) } catch { print("left behind: \(directory): \(error)") }
  }

  private static func open(
    _ directory: String, _ configure: (inout NodeConfiguration) -> Void, _ openStore: StateStoreOpener?
  ) throws -> Node {
    var configuration = NodeConfiguration(name: "n0", dataDirectory: directory)
    configure(&configuration)
    let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    guard let openStore else { return try Node(configuration: configuration, logger: logger) }
    return try Node(configuration: configuration, logger: logger, openStore: openStore)
  }

  func restart() async throws {
    try await close()
    // A child that another test has just forked holds this process's descriptors, the lock's too, until its exec.
    let isFree = try await eventually {
      do { opened = try Self.open(directory, configure, openStore) } catch StorageError.locked { return false }
      return true
    }
    guard isFree else { throw StillOpen() }
  }

  /// Stops the node, and waits until the last reader has let go of its files.
  func close() async throws {
    await node.stop()
    weak let last = opened
    opened = nil
    guard try await eventually({ last == nil }) else { throw StillOpen() }
  }

  func propose(_ commands: Command...) async throws -> [CommandResult] {
    try await node.committed(commands)
  }

  func put(_ key: String, _ value: String, lease: LeaseID = 0) async throws {
    let results = try await propose(.put(PutRequest(Bytes(key), Bytes(value), lease: lease)))
    guard case .put = results[0] else { throw UnexpectedResult(results: results) }
  }

  func value(_ key: String) async throws -> String? {
    try await barrier()
    return try node.read { try $0.keyspace.range(RangeQuery(.single(Bytes(key)))).records.first?.value.text }
  }

  /// Behind this, everything that was acknowledged before is visible.
  func barrier() async throws {
    let loop = MultiThreadedEventLoopGroup.singleton.any()
    try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
      node.readBarrier(on: loop) { done.resume(with: $0) }
    }
  }
}

extension Node {
  func committed(_ commands: [Command]) async throws -> [CommandResult] {
    try await withCheckedThrowingContinuation { done in
      propose(commands) { done.resume(with: $0) }
    }
  }
}

struct StillOpen: Error {}

struct UnexpectedResult: Error {
  var results: [CommandResult]
}

/// Gathers what a watch session says. `pendingBytes` plays the peer that reads or does not.
final class RecordingSink: WatchSink {
  enum Item: Equatable {
    case events(watch: Int64, keys: [String])
    case compacted(watch: Int64, at: Int64)
    case progress(Int64)
  }

  private struct State {
    var items: [Item] = []
    var previousValues: [Int64: [String?]] = [:]
    var pendingBytes = 0
    var compactions: [Int64] = []
    var sharesBudget = false
  }

  private let state = Mutex(State())

  var items: [Item] { state.withLock { $0.items } }
  var keys: [String] {
    items.flatMap { item -> [String] in if case .events(_, let keys) = item { keys } else { [] } }
  }

  /// By watch: of each of its events, the value before.
  var previousValues: [Int64: [String?]] { state.withLock { $0.previousValues } }

  var pendingBytes: Int {
    get { state.withLock { $0.pendingBytes } }
    set { state.withLock { $0.pendingBytes = newValue } }
  }

  func events(watch id: Int64, _ events: [KeyspaceEvent], revision: Int64) {
    let keys = events.map { ($0.kind == .put ? "" : "-") + $0.record.key.description }
    state.withLock {
      $0.items.append(.events(watch: id, keys: keys))
      $0.previousValues[id, default: []] += events.map { $0.previous?.value.description }
    }
  }

  func compacted(watch id: Int64, compactRevision: Int64, revision: Int64) {
    state.withLock { $0.items.append(.compacted(watch: id, at: compactRevision)) }
  }

  func progress(revision: Int64) { state.withLock { $0.items.append(.progress(revision)) } }

  /// The revisions that compactions were announced at.
  var compactions: [Int64] { state.withLock { $0.compactions } }

  func compactionBegan(at revision: Int64) { state.withLock { $0.compactions.append(revision) } }

  /// Asked for when a session is opened.
  var sharesBudget: Bool {
    get { state.withLock { $0.sharesBudget } }
    set { state.withLock { $0.sharesBudget = newValue } }
  }

  var sharesBacklogBudget: Bool { sharesBudget }
}

/// Waits until a condition holds, for at most half a minute; the caller's expectation then says what was missing.
func eventually(_ condition: () throws -> Bool) async throws -> Bool {
  for _ in 0..<3_000 {
    if try condition() { return true }
    try await Task.sleep(for: .milliseconds(10))
  }
  return false
}
