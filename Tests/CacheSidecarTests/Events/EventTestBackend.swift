import CacheSidecar
import Foundation
import Keyspace
import Logging
import NIOCore
import NIOPosix
import Primitives
import SidecarCore
import Synchronization
import TestSupport
import Wire

/// Journal, entries and store of the event half's tests, in memory.
final class EventTestBackend: EvictionJournal, EvictionOutcomes, SidecarStore, JournalTrimming {
  struct State {
    var items: [JournalItem] = []
    var first: UInt64 = 1
    var due: Set<UInt64> = []
    var acknowledged: Set<UInt64> = []
    /// Entries that live again, with their generation.
    var living: [UInt64: UInt64] = [:]
    var gone: Set<UInt64> = []
    var records: [Bytes: Bytes] = [:]
    var highestRead: UInt64 = 0
    var wake: (@Sendable () -> Void)?
    var failures = 0
    var settleCalls = 0
  }

  let state = Mutex(State())
  let epoch: UInt32 = 0x7f3a

  var head: UInt64 { state.withLock { UInt64($0.items.count) } }
  var first: UInt64 { state.withLock { $0.first } }
  func onAdvance(_ wake: @escaping @Sendable () -> Void) { state.withLock { $0.wake = wake } }

  func evict(_ keys: [String], cache: String = "c", registeredAt: Int64 = 0) {
    let wake = state.withLock { state in
      for key in keys {
        state.items.append(
          .evict(
            EntryName(cache: cache, key: Bytes(key)), generation: 1, reason: .expired, sizeBytes: 5,
            idleMilliseconds: 9_000, registeredAtMilliseconds: registeredAt))
        state.due.insert(UInt64(state.items.count))
      }
      return state.wake
    }
    wake?()
  }

  /// A hit on an evicted entry.
  func revive(_ sequence: UInt64, generation: UInt64) {
    let wake = state.withLock { state in
      guard case .evict(let entry, _, _, _, _, _) = state.items[Int(sequence) - 1] else { return state.wake }
      state.due.remove(sequence)
      state.living[sequence] = generation
      state.items.append(.cancel(entry, of: sequence, generation: generation))
      return state.wake
    }
    wake?()
  }

  func items(from sequence: UInt64, limit: Int) async throws(SidecarStoreError) -> [(
    sequence: UInt64, item: JournalItem
  )] {
    state.withLock { state in
      let start = max(sequence, state.first)
      guard start <= state.items.count else { return [] }
      let end = min(UInt64(state.items.count), start + UInt64(limit) - 1)
      state.highestRead = max(state.highestRead, end)
      return (start...end).map { ($0, state.items[Int($0) - 1]) }
    }
  }

  func areDue(_ items: [(sequence: UInt64, entry: EntryName)]) async throws(SidecarStoreError) -> [Bool] {
    state.withLock { state in items.map { state.due.contains($0.sequence) } }
  }

  func settle(
    _ acknowledgements: [Acknowledgement], cursors: [Transition]
  ) async throws(SidecarStoreError) -> [AcknowledgementOutcome] {
    let outcomes: [AcknowledgementOutcome]? = state.withLock { state in
      state.settleCalls += 1
      if state.failures > 0 {
        state.failures -= 1
        return nil
      }
      Self.apply(cursors, &state)
      return acknowledgements.map { acknowledgement in
        guard state.due.contains(acknowledgement.sequence) else {
          if acknowledgement.blobIsGone { state.gone.insert(acknowledgement.sequence) }
          return .stale(livingGeneration: state.living[acknowledgement.sequence])
        }
        state.acknowledged.insert(acknowledgement.sequence)
        if acknowledgement.isLast { state.due.remove(acknowledgement.sequence) }
        return .accepted
      }
    }
    guard let outcomes else { throw .unavailable("the test says so") }
    return outcomes
  }

  private static func apply(_ transitions: [Transition], _ state: inout State) {
    for operation in transitions.flatMap(\.operations) {
      switch operation {
      case .put(let put): state.records[put.key] = put.value
      case .delete(let delete): state.records = state.records.filter { !delete.range.contains($0.key) }
      case .range, .transaction: break
      }
    }
  }

  func keep(
    _ entry: EntryName, sequence: UInt64, ttlMilliseconds: Int64?
  ) async throws(SidecarStoreError) -> KeepOutcome {
    revive(sequence, generation: 2)
    return .kept
  }

  func trim(below sequence: UInt64) async throws(SidecarStoreError) { state.withLock { $0.first = sequence } }

  func range(_ query: RangeQuery) async throws(SidecarStoreError) -> RangeResult {
    let found = state.withLock { $0.records }.filter { query.range.contains($0.key) }.map {
      KeyRecord(key: $0.key, value: $0.value, createRevision: 1, modRevision: 1, version: 1)
    }
    return RangeResult(records: found, count: Int64(found.count), more: false, revision: 1)
  }

  func get(_ keys: [Bytes]) async throws(SidecarStoreError) -> [KeyRecord?] { keys.map { _ in nil } }
  func commit(_ transitions: [Transition]) async throws(SidecarStoreError) -> [TransitionOutcome] {
    state.withLock { Self.apply(transitions, &$0) }
    return transitions.map { _ in .done(results: [], revision: 1) }
  }
  func renew(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [Int64] { leases.map { _ in 0 } }
  func timeToLive(_ leases: [LeaseID]) async throws(SidecarStoreError) -> [LeaseTime?] { leases.map { _ in nil } }
  func watch(prefix: Bytes, from revision: Int64) -> AsyncThrowingStream<WatchBatch, any Error> {
    AsyncThrowingStream { $0.finish() }
  }

  func record(of name: String) throws -> SubscriberRecord? {
    try state.withLock { $0.records[StoreLayout().subscriber(name)] }.map { try SubscriberRecord(decoding: $0) }
  }
}

/// A hub with its socket in a folder of its own.
struct EventTestServer {
  let backend: EventTestBackend
  let hub: EventHub
  let server: WireServer
  let directory: TemporaryDirectory
  var socket: String { directory.path + "/events.sock" }

  static func start(
    _ backend: EventTestBackend = EventTestBackend(), in directory: TemporaryDirectory = TemporaryDirectory(),
    _ adjust: (inout EventHub.Options) -> Void = { _ in }
  ) async throws -> EventTestServer {
    var options = EventHub.Options()
    options.node = "n1"
    adjust(&options)
    var logger = Logger(label: "events")
    logger.logLevel = .critical
    let hub = try await EventHub.load(
      store: backend, layout: StoreLayout(), journal: backend, outcomes: backend, trimming: backend, options: options,
      logger: logger)
    hub.start()
    let server = WireServer(group: MultiThreadedEventLoopGroup.singleton, logger: logger)
    let result = EventTestServer(backend: backend, hub: hub, server: server, directory: directory)
    try await EventSocket.listen(hub, on: server, path: result.socket)
    return result
  }

  func stop() async {
    await server.stop(grace: .milliseconds(10))
    hub.stop()
  }

  func nc(reads: Bool = true) throws -> TestProcess { try TestProcess.start("nc", ["-U", socket], reads: reads) }

  func curl(_ arguments: [String]) throws -> TestProcess {
    try TestProcess.start("curl", ["-sN", "--unix-socket", socket] + arguments)
  }
}

struct TestFailure: Error, CustomStringConvertible { var description: String }

/// Waits for something that happens soon.
func eventually(_ what: String, seconds: Double = 20, _ condition: () async throws -> Bool) async throws {
  let end = ContinuousClock.now + .seconds(seconds)
  while try await !condition() {
    guard ContinuousClock.now < end else { throw TestFailure(description: "never: \(what)") }
    try await Task.sleep(for: .milliseconds(5))
  }
}

/// A child process with a typed input, whose output is read line by line.
final class TestProcess: Sendable {
  private struct Output {
    var bytes: [UInt8] = []
    var isAtEnd = false
  }

  /// One start at a time: a child that inherits another one's pipes would keep them open.
  private static let starting = Mutex(())

  private let process = Process()
  private let input = Pipe()
  private let pipe = Pipe()
  private let output = Mutex(Output())

  private init(_ name: String, _ arguments: [String], reads: Bool) throws {
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [name] + arguments
    for handle in [
      input.fileHandleForReading, input.fileHandleForWriting, pipe.fileHandleForReading, pipe.fileHandleForWriting,
    ] {
      _ = fcntl(handle.fileDescriptor, F_SETFD, FD_CLOEXEC)
    }
    process.standardInput = input
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    try process.run()
    // Only the child writes; else there is no end.
    try? pipe.fileHandleForWriting.close()
    if reads { startReading() }
  }

  static func start(_ name: String, _ arguments: [String], reads: Bool = true) throws -> TestProcess {
    try starting.withLock { _ in try TestProcess(name, arguments, reads: reads) }
  }

  deinit { if process.isRunning { process.terminate() } }

  func startReading() {
    let descriptor = pipe.fileHandleForReading.fileDescriptor
    let thread = Thread { [self] in
      var buffer = [UInt8](repeating: 0, count: 65_536)
      while true {
        let count = read(descriptor, &buffer, buffer.count)
        guard count > 0 else { break }
        output.withLock { $0.bytes += buffer[..<count] }
      }
      output.withLock { $0.isAtEnd = true }
    }
    thread.start()
  }

  func type(_ text: String) throws { try input.fileHandleForWriting.write(contentsOf: Data(text.utf8)) }
  func closeInput() throws { try input.fileHandleForWriting.close() }
  func terminate() { process.terminate() }

  /// The next line, without its LF.
  func line() async throws -> String {
    var line: String?
    try await eventually("a line") {
      line = output.withLock { output in
        guard let end = output.bytes.firstIndex(of: 10) else { return nil }
        defer { output.bytes.removeFirst(end + 1) }
        return String(decoding: output.bytes[..<end], as: UTF8.self)
      }
      if line == nil, output.withLock({ $0.isAtEnd }) { throw TestFailure(description: "the output has ended") }
      return line != nil
    }
    return line ?? ""
  }

  func lines(_ count: Int) async throws -> [String] {
    var lines: [String] = []
    for _ in 0..<count { lines.append(try await line()) }
    return lines
  }

  /// Everything until the end of the output.
  func rest() async throws -> String {
    try await eventually("the end of the output") { output.withLock { $0.isAtEnd } }
    return output.withLock { String(decoding: $0.bytes, as: UTF8.self) }
  }
}
