import CacheSidecar
import Glibc
import Logging
import Primitives
import SidecarCore
import TestSupport
import Testing

extension TemporaryDirectory {
  fileprivate func write(_ text: String, to name: String, flags: Int32 = O_WRONLY | O_CREAT | O_APPEND) {
    let descriptor = open("\(path)/\(name)", flags, 0o644)
    precondition(descriptor >= 0)
    let bytes = Array(text.utf8)
    precondition(Glibc.write(descriptor, bytes, bytes.count) == bytes.count)
    close(descriptor)
  }

  fileprivate func rename(_ from: String, _ to: String) {
    precondition(Glibc.rename("\(path)/\(from)", "\(path)/\(to)") == 0)
  }
}

private func quietLogger() -> Logger {
  var logger = Logger(label: "test")
  logger.logLevel = .critical
  return logger
}

/// Until `condition` holds; a test that waits for ever is ended by its time limit.
private func eventually(_ condition: () async throws -> Bool) async throws {
  while !(try await condition()) { try await Task.sleep(for: .milliseconds(5)) }
}

@Suite(.timeLimit(.minutes(1))) struct HookTests {
  private func isLive(_ fixture: EntryFixture, _ keys: Bytes...) async throws -> Bool {
    for key in keys {
      guard try await fixture.record(key)?.state == .live else { return false }
    }
    return true
  }

  // MARK: Log tail

  /// Runs a tail of `folder/log` while `body` does its work.
  private func following(_ folder: TemporaryDirectory, _ fixture: EntryFixture, _ body: () async throws -> Void)
    async throws
  {
    let hook = LogTailHook(
      path: folder.path + "/log", statePath: folder.path + "/state", mapping: HookMapping(cache: "c"),
      startsAtBeginning: true, sidecar: fixture.sidecar, logger: quietLogger())
    let running = Task { await hook.run() }
    try await body()
    running.cancel()
    await running.value
  }

  @Test func aTailFollowsTheLogThroughRenameAndTruncation() async throws {
    let folder = TemporaryDirectory()
    let fixture = try await EntryFixture()
    folder.write("PUT 201 5 /a\nnonsense\nGET 404 - /b\nGET 200 - /half", to: "log")
    try await following(folder, fixture) {
      try await eventually { try await isLive(fixture, "a") }
      #expect(try await fixture.record("a")?.sizeBytes == 5)
      #expect(try await fixture.record("b") == nil)
      folder.write("way\n", to: "log")
      try await eventually { try await isLive(fixture, "halfway") }
      folder.rename("log", "log.1")
      folder.write("GET 200 - /new\n", to: "log")
      folder.write("GET 200 - /late\n", to: "log.1")
      try await eventually { try await isLive(fixture, "new", "late") }
      folder.write("GET 200 - /t\n", to: "log", flags: O_WRONLY | O_TRUNC)
      try await eventually { try await isLive(fixture, "t") }
      folder.write("DELETE 204 - /t\n", to: "log")
      try await eventually { try await !isLive(fixture, "t") }
    }
    #expect(fixture.sidecar.metrics.snapshot.unparsableByHook[.tail] == 1)
  }

  @Test func aTailGoesOnWhereItWasThroughTwoRotations() async throws {
    let folder = TemporaryDirectory()
    let first = try await EntryFixture()
    folder.write("GET 200 - /a\n", to: "log")
    try await following(folder, first) { try await eventually { try await isLive(first, "a") } }
    // While nobody follows, the log is written and rotated twice.
    folder.write("GET 200 - /b\n", to: "log")
    folder.rename("log", "log.1")
    folder.write("GET 200 - /c\n", to: "log")
    folder.rename("log.1", "log.2")
    folder.rename("log", "log.1")
    folder.write("GET 200 - /d\n", to: "log")
    let second = try await EntryFixture()
    try await following(folder, second) {
      try await eventually {
        try await isLive(second, "b", "c", "d")
      }
    }
  }

  // MARK: Syslog

  private func send(_ texts: [String], to path: String) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    defer { close(descriptor) }
    withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        precondition(connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0)
      }
    }
    for text in texts {
      let bytes = Array(text.utf8)
      precondition(Glibc.send(descriptor, bytes, bytes.count, 0) == bytes.count)
    }
  }

  @Test func datagramsOfNginxBecomeHits() async throws {
    let folder = TemporaryDirectory()
    let fixture = try await EntryFixture("c:ttl=10s", "d:ttl=10s")
    let path = folder.path + "/hits.sock"
    let mappings = [HookMapping(cache: "c", strippedPrefix: "/c/"), HookMapping(cache: "d", strippedPrefix: "/d/")]
    let hook = try SyslogHook(path: path, mappings: mappings, sidecar: fixture.sidecar, logger: quietLogger())
    hook.start()
    let header = "<190>Nov 23 05:44:18 nginx: "
    send(
      [header + "PUT 201 77 /c/k", header + "GET 404 - /c/miss", "<190>no end", "GET 200 - /d/bare"]
        + (0..<300).map { header + "GET 200 - /c/k\($0)" }, to: path)
    try await eventually {
      try await isLive(fixture, "k299") && fixture.sidecar.metrics.snapshot.unparsableByHook[.syslog] == 1
    }
    #expect(try await fixture.record("k")?.sizeBytes == 77)
    #expect(try await fixture.record("miss") == nil)
    // The caches' batches follow one another.
    try await eventually { try await fixture.sidecar.entry("bare", in: fixture.sidecar.caches["d"]!) != nil }
    try await hook.stop()
  }

  @Test func aSocketInUseIsLeftAloneAndAStaleOneReplaced() async throws {
    let folder = TemporaryDirectory()
    let fixture = try await EntryFixture()
    let path = folder.path + "/hits.sock"
    func open() throws -> SyslogHook {
      try SyslogHook(path: path, mappings: [], sidecar: fixture.sidecar, logger: quietLogger())
    }
    do {
      let hook = try open()
      #expect(throws: SyslogHook.Failure.self) { try open() }
      withExtendedLifetime(hook) {}
    }
    // Another test may be starting a process just now, which holds copies of our descriptors until it executes.
    try await eventually { (try? open()) != nil }
    unlink(path)
    folder.write("data", to: "hits.sock")
    #expect(throws: SyslogHook.Failure.self) { try open() }
    #expect(throws: SyslogHook.Failure.self) {
      try SyslogHook(
        path: String(repeating: "x", count: 200), mappings: [], sidecar: fixture.sidecar, logger: quietLogger())
    }
  }
}
