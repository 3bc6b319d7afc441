import CacheSidecar
import Foundation
import Primitives
import SidecarCore
import Synchronization
import TestSupport
import Testing

/// A cache in a real directory and a janitor without a connection.
private struct Cache {
  let directory = TemporaryDirectory()
  var path: String { directory.path }
  let reports = Reports()

  func write(_ name: String, _ text: String = "hello", modified: Int64 = 1_000_000) throws {
    let url = URL(fileURLWithPath: path + "/" + name)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(text.utf8).write(to: url)
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSince1970: Double(modified) / 1_000)], ofItemAtPath: url.path)
  }

  func has(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path + "/" + name) }
  var trashed: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path + "/.leasehold-trash")) ?? [] }

  func janitor(layout: String = "{key}", grace: Int64 = 60_000, dryRun: Bool = false) throws -> Janitor {
    var options = Janitor.Options(cache: "c")
    options.layout = try JanitorLayout(layout)
    options.graceMilliseconds = grace
    options.isDryRun = dryRun
    let reports = reports
    var janitor = try Janitor(options, directory: CacheDirectory(path: path)) { reports.add($0) }
    _ = janitor.take([.hello(.init(node: "n", epoch: 0xab, first: 1, head: 9, acknowledged: 0))])
    return janitor
  }
}

private final class Reports: Sendable {
  private let lines = Mutex<[String]>([])
  func add(_ line: String) { lines.withLock { $0.append(line) } }
  var all: String { lines.withLock { $0.joined(separator: "\n") } }
}

private func evict(_ key: Bytes, _ sequence: UInt64 = 1, registered: Int64 = 1_000_000) -> ReceivedMessage {
  .evict([
    EvictEvent(
      sequence: sequence, entry: EntryName(cache: "c", key: key), generation: 1, reason: .expired, sizeBytes: 5,
      idleMilliseconds: 0, registeredAtMilliseconds: registered, attempt: 1)
  ])
}

private func wallNow() -> Int64 { Int64(Date().timeIntervalSince1970 * 1_000) }

extension Janitor {
  fileprivate mutating func answers(_ messages: ReceivedMessage...) -> String {
    String(decoding: take(messages), as: UTF8.self)
  }
}

@Suite struct JanitorTests {
  @Test func aFileGoesToTheTrashIsAcknowledgedAndFreedAfterTheGrace() throws {
    let cache = Cache()
    try cache.write("cas/ab/abcd")
    var janitor = try cache.janitor()
    #expect(janitor.answers(evict("cas/ab/abcd", 7)) == "{\"op\":\"ack\",\"seqs\":[7]}\n")
    #expect(!cache.has("cas/ab/abcd"))
    #expect(cache.trashed == ["ab-7"])
    janitor.emptyTrash(now: wallNow() + 59_000)
    #expect(cache.trashed == ["ab-7"])
    janitor.emptyTrash(now: wallNow() + 61_000)
    #expect(cache.trashed == [])
    #expect(janitor.totals.freedBytes == 5)
    #expect(janitor.summary.hasPrefix("freed 5 bytes in 1 files"))
  }

  @Test func absentIsDone() throws {
    let cache = Cache()
    var janitor = try cache.janitor()
    #expect(janitor.answers(evict("no/such", 1), evict("file", 2)) == "{\"op\":\"ack\",\"seqs\":[1,2]}\n")
    #expect(janitor.totals.absent == 2)
  }

  @Test func aCancelPutsTheFileBackButNotOverANewerOne() throws {
    let cache = Cache()
    try cache.write("a")
    try cache.write("b", "old")
    var janitor = try cache.janitor()
    _ = janitor.answers(evict("a", 1), evict("b", 2))
    try cache.write("b", "new")
    func cancel(_ key: Bytes, of: UInt64) -> ReceivedMessage {
      .cancel(sequence: of + 10, of: of, EntryName(cache: "c", key: key), generation: 2)
    }
    #expect(
      janitor.answers(cancel("a", of: 1), cancel("b", of: 2), cancel("a", of: 3))
        == "{\"op\":\"ack\",\"seqs\":[11,12,13]}\n", "3 was never moved, and its file is there")
    #expect(
      janitor.answers(cancel("c", of: 4))
        == "{\"op\":\"ack\",\"seqs\":[4],\"gone\":true}\n{\"op\":\"ack\",\"seqs\":[14]}\n",
      "what is unlinked already is said to be gone")
    #expect(cache.has("a"))
    #expect(try String(contentsOfFile: cache.path + "/b", encoding: .utf8) == "new")
    janitor.emptyTrash(now: wallNow() + 61_000)
    #expect(cache.has("a"))
    #expect(cache.trashed == [])
  }

  @Test func aFileNewerThanTheRegistrationIsLeftAlone() throws {
    let cache = Cache()
    try cache.write("young", modified: 1_002_001)
    try cache.write("same", modified: 1_001_900)
    var janitor = try cache.janitor()
    #expect(janitor.answers(evict("young", 1), evict("same", 2)) == "{\"op\":\"ack\",\"seqs\":[1,2]}\n")
    #expect(cache.has("young"))
    #expect(!cache.has("same"), "within the tolerance of clocks it is the file that was meant")
    #expect(cache.reports.all.contains("left alone"))
  }

  @Test(arguments: [
    "../secret", "a/../../secret", "/etc/passwd", "a//b", "", "a/", ".", "a\u{0}b", ".leasehold-trash/x",
  ])
  func aKeyThatWouldLeaveTheDirectoryIsRefused(key: String) throws {
    let cache = Cache()
    try cache.write("root/a/b")
    try cache.write("secret")
    var options = Janitor.Options(cache: "c")
    options.layout = .plain
    var janitor = try Janitor(options, directory: CacheDirectory(path: cache.path + "/root")) { _ in }
    let answer = janitor.answers(evict(Bytes(key), 3))
    #expect(answer.hasPrefix("{\"op\":\"term\",\"seq\":3,\"why\":\"the key "))
    #expect(cache.has("secret"))
    #expect(cache.has("root/a/b"))
  }

  @Test func noLinkIsFollowedOut() throws {
    let cache = Cache()
    let outside = TemporaryDirectory()
    try Data("x".utf8).write(to: URL(fileURLWithPath: outside.path + "/victim"))
    try FileManager.default.createSymbolicLink(atPath: cache.path + "/link", withDestinationPath: outside.path)
    try FileManager.default.createSymbolicLink(
      atPath: cache.path + "/file", withDestinationPath: outside.path + "/victim")
    try cache.write("folder/inner")
    var janitor = try cache.janitor()
    let answers = janitor.answers(
      evict("link/victim", 1), evict("file", 2), evict("folder", 3), evict("folder/inner/x", 4))
    #expect(answers.split(separator: "\n").count == 4)
    #expect(answers.split(separator: "\n").allSatisfy { $0.hasPrefix("{\"op\":\"term\"") })
    #expect(FileManager.default.fileExists(atPath: outside.path + "/victim"))
    #expect(cache.has("file"))
    #expect(cache.has("folder/inner"))
  }

  @Test func aDryRunTouchesAndAnswersNothing() throws {
    let cache = Cache()
    try cache.write("a")
    var janitor = try cache.janitor(grace: 0, dryRun: true)
    #expect(janitor.answers(evict("a", 1), evict("../a", 2)) == "")
    janitor.emptyTrash(now: wallNow() + 1_000)
    #expect(cache.has("a"))
    #expect(cache.trashed == [])
    #expect(cache.reports.all.contains("would delete a"))
    #expect(janitor.summary == "would delete 1 files, 5 bytes, 1 refused")
  }

  @Test func whatAnEarlierRunHasLeftInTheTrashIsFreedAndCanStillBePutBack() throws {
    let cache = Cache()
    try cache.write("a")
    try cache.write("b")
    var first = try cache.janitor()
    _ = first.answers(evict("a", 1), evict("b", 2))
    var second = try cache.janitor()
    #expect(second.filesInTrash == 2)
    #expect(second.answers(evict("a", 1)) == "{\"op\":\"ack\",\"seqs\":[1]}\n", "delivered again: absent is done")
    _ = second.answers(.cancel(sequence: 5, of: 2, EntryName(cache: "c", key: "b"), generation: 2))
    #expect(cache.has("b"))
    second.emptyTrash(now: wallNow() + 61_000)
    #expect(cache.trashed == [])
  }

  @Test func layoutsFindTheFilesOfTheirCaches() throws {
    func path(_ layout: String, _ key: Bytes) throws -> String {
      try JanitorLayout(layout).components(of: key).map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    }
    #expect(try path("{key}", "cas/ab") == "cas/ab")
    #expect(try path("v1/{key:0:2}/{key}", "abcd") == "v1/ab/abcd")
    #expect(try path("bazel-disk", "cas/abcd") == "cas/ab/abcd")
    #expect(try path("bazel-disk", "ac/ab/abcd") == "ac/ab/abcd")
    #expect(try path("nginx", "abc") == "2/f7/900150983cd24fb0d6963f7d28e17f72")
    #expect(try path("nginx:2:2", "") == "7e/42/d41d8cd98f00b204e9800998ecf8427e")
    let long = Bytes([UInt8](repeating: UInt8(ascii: "a"), count: 119))
    #expect(try path("nginx:1", long) == md5(long))
    for wrong in ["", "plain", "{key", "{key:1}", "{name}/{key}", "nginx:3", "{key:0:2}"] {
      #expect(throws: JanitorError.self) { try JanitorLayout(wrong) }
    }
    #expect(throws: JanitorLayout.Refusal.self) { try path("{key:0:2}/{key}", "a") }
  }

  /// As `md5sum` has it, in nginx's place for levels=1.
  private func md5(_ key: Bytes) -> String {
    let process = Process()
    let input = Pipe()
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/md5sum")
    process.standardInput = input
    process.standardOutput = output
    guard (try? process.run()) != nil else { return "" }
    input.fileHandleForWriting.write(Data(key.array))
    try? input.fileHandleForWriting.close()
    let name = String(decoding: output.fileHandleForReading.readDataToEndOfFile().prefix(32), as: UTF8.self)
    return "\(name.suffix(1))/\(name)"
  }

  @Test func itRunsAsTheOwnerOrNotAtAll() {
    func decide(_ owner: UInt32, _ user: UInt32) -> JanitorUser.Decision {
      JanitorUser.decide(path: "/cache", owner: owner, group: 7, effectiveUser: user)
    }
    #expect(decide(1_000, 1_000) == .runs)
    #expect(decide(0, 0) == .runs)
    #expect(decide(1_000, 0) == .becomes(user: 1_000, group: 7))
    guard case .refuses(let why) = decide(0, 54_321) else {
      Issue.record("it must be refused")
      return
    }
    #expect(why == "/cache belongs to root, but this runs as user 54321: run the janitor as root")
  }

  @Test func aJanitorWorksOffTheSocketReconnectsAndStops() async throws {
    let cache = Cache()
    let backend = EventTestBackend()
    let directory = TemporaryDirectory()
    let test = try await EventTestServer.start(backend, in: directory)
    for number in 1...300 { try cache.write("k\(number)") }
    backend.evict((1...200).map { "k\($0)" }, registeredAt: 1_000_000)
    var program = JanitorProgram(cache: "c", root: cache.path, eventSocketPath: test.socket)
    program.graceMilliseconds = 100
    let box = StopBox()
    let reports = cache.reports
    let thread = Thread { [program] in
      box.finish(Result { try program.run(isStopped: { box.isStopped }, report: { reports.add($0) }) })
    }
    thread.start()
    try await eventually("200 are freed") { backend.state.withLock { $0.due.isEmpty } && cache.trashed.isEmpty }
    await test.stop()
    backend.evict((201...300).map { "k\($0)" }, registeredAt: 1_000_000)
    let again = try await EventTestServer.start(backend, in: directory)
    try await eventually("the rest is freed after a reconnection") {
      backend.state.withLock { $0.due.isEmpty } && cache.trashed.isEmpty
    }
    box.stop()
    try await eventually("it ends") { box.result != nil }
    await again.stop()
    #expect(try box.result?.get().freed == 300)
    #expect(cache.reports.all.contains("freed 1500 bytes in 300 files"))
  }

  @Test func aDryRunOverTheSocketShowsWhatIsOwedAndEndsByItself() async throws {
    let cache = Cache()
    let test = try await EventTestServer.start()
    try cache.write("k1")
    test.backend.evict(["k1", "../k1"], registeredAt: 1_000_000)
    var program = JanitorProgram(cache: "c", root: cache.path, eventSocketPath: test.socket)
    program.isDryRun = true
    let box = StopBox()
    let reports = cache.reports
    let thread = Thread { [program] in
      box.finish(Result { try program.run(isStopped: { false }, report: { reports.add($0) }) })
    }
    thread.start()
    try await eventually("it ends") { box.result != nil }
    #expect(try box.result?.get().moved == 1)
    #expect(cache.has("k1"))
    #expect(test.backend.state.withLock { $0.acknowledged }.isEmpty)
    await test.stop()
  }

  @Test func whatMakesAJanitorImpossibleIsOneLine() {
    func failure(_ root: String, _ socket: String) -> String {
      var program = JanitorProgram(cache: "c", root: root, eventSocketPath: socket)
      program.isDryRun = true
      do { _ = try program.run(isStopped: { false }, report: { _ in }) } catch { return error.description }
      return "nothing"
    }
    let directory = TemporaryDirectory()
    #expect(failure("/no/such/dir", "/tmp/x") == "/no/such/dir: No such file or directory")
    #expect(failure(directory.path, directory.path + "/none") == "\(directory.path)/none: No such file or directory")
    #expect(failure(directory.path, String(repeating: "x", count: 200)).hasSuffix("has at most 107 bytes"))
  }

  private final class StopBox: Sendable {
    private let state = Mutex<(isStopped: Bool, result: Result<Janitor.Totals, any Error>?)>((false, nil))
    var isStopped: Bool { state.withLock { $0.isStopped } }
    var result: Result<Janitor.Totals, any Error>? { state.withLock { $0.result } }
    func stop() { state.withLock { $0.isStopped = true } }
    func finish(_ result: Result<Janitor.Totals, any Error>) { state.withLock { $0.result = result } }
  }
}
