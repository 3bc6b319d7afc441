import ClusterNode
import Foundation
import Logging
import NIOCore
import NIOPosix
import Testing
import Wire

/// The same etcdctl commands, given to our services and to Debian's etcd 3.4, must print the same. Identities and
/// terms are masked; where 3.5 differs from 3.4 the command is left out.
@Suite("etcdctl sees no difference", .enabled(if: Control.isInstalled, "needs etcd-server and etcd-client"))
struct EtcdctlComparisonTests {
  /// One command a line; what follows `<` goes to its standard input, and `@` lets it run for a second.
  static let script = """
    get nothing
    put a 1
    put a 2 --prev-kv
    put b 3
    put c 4
    get a
    get a -w json
    get a b -w json
    get a c --limit=1 -w json
    get --prefix "" --keys-only -w json
    get --prefix "" --count-only -w json
    get --from-key b -w json
    get --prefix "" --order=DESCEND --sort-by=VALUE -w json
    get --prefix "" --sort-by=MODIFY --limit=2 -w json
    get a --rev=2 -w json
    get a --rev=99
    put a --ignore-value
    put zzz --ignore-value
    put x y --lease=123456
    del b --prev-kv -w json
    del nothing -w json
    del --prefix c -w json
    txn -w json <value("a") = "2"\\n\\nput d 5\\nget d\\n\\nget a\\n\\n
    txn -w json <value("a") = "9"\\nmod("nothing") = "0"\\n\\nput d 6\\n\\nget d\\ndel d\\nget d\\n\\n
    txn <\\n\\nput d 6\\nput d 7\\n\\n\\n
    txn <\\n\\nput d 6\\ndel a z\\n\\n\\n
    txn -w json <version("a") > "0"\\n\\nget a\\n\\n\\n
    @watch a --rev=2 -w json
    @watch a z --rev=3 --prev-kv -w json
    @watch a z --rev=5 -w simple
    compaction 4
    @watch a --rev=3 -w json
    @watch --prefix "" --rev=4 -w json
    compaction 4
    compaction 99
    get a --rev=3
    lease timetolive 99
    lease revoke 99
    lease keep-alive --once 99
    lease list
    lease grant 1
    lease grant 100
    lease grant 9000000001
    alarm list
    alarm disarm
    get --prefix "" -w json
    """

  @Test("Outputs, errors and exit codes are the same, command by command")
  func compare() async throws {
    let control = try await Control.start()
    defer { control.stop() }
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let node = FakeNode()
    node.change { $0.replaysHistory = true }
    var services = WireServices()
    var registry = GRPCRegistry()
    let metrics = EtcdMetrics()
    EtcdServices.register(into: &registry, node: node, settings: EtcdSettings(), metrics: metrics)
    EtcdHTTP.register(into: &services.http, node: node, settings: EtcdSettings(), metrics: metrics)
    services.grpc = registry
    services.observer = GRPCServerMetrics(methods: registry.methods, metrics: metrics)
    let server = WireServer(group: group, logger: Logger(label: "test"))
    let listener = try await server.listen(host: "127.0.0.1", port: 0, services: services)
    let port = try #require(listener.port)

    var succeeded = 0
    for line in Self.script.split(separator: "\n").map(String.init) {
      let ours = try await etcdctl(line, port: port)
      let theirs = try await etcdctl(line, port: control.port)
      #expect(ours == theirs, "\(line)")
      if ours.exitCode == 0, !ours.text.isEmpty { succeeded += 1 }
    }
    #expect(succeeded > 25, "most commands of the script print something")
    await server.stop(grace: .zero)
    try await group.shutdownGracefully()
  }
}

struct Control {
  let port: Int
  let process: Process
  let directory: URL

  static let isInstalled = ["/usr/bin/etcd", "/usr/bin/etcdctl"].allSatisfy(FileManager.default.isExecutableFile)

  static func start() async throws -> Control {
    let directory = FileManager.default.temporaryDirectory.appending(path: "control-\(UUID().uuidString)")
    let (port, peerPort) = (try freePort(), try freePort())
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/etcd")
    process.arguments = [
      "--data-dir", directory.path, "--listen-client-urls", "http://127.0.0.1:\(port)", "--advertise-client-urls",
      "http://127.0.0.1:\(port)", "--listen-peer-urls", "http://127.0.0.1:\(peerPort)",
      "--initial-advertise-peer-urls", "http://127.0.0.1:\(peerPort)", "--initial-cluster",
      "default=http://127.0.0.1:\(peerPort)",
    ]
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    let control = Control(port: port, process: process, directory: directory)
    for _ in 0..<100 {
      if try await etcdctl("endpoint health", port: port).exitCode == 0 { return control }
      try await Task.sleep(for: .milliseconds(100))
    }
    control.stop()
    throw NeverReady()
  }

  struct NeverReady: Error {}

  func stop() {
    process.terminate()
    process.waitUntilExit()
    try? FileManager.default.removeItem(at: directory)
  }

  private static func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    try #require(bound)
    return Int(UInt16(bigEndian: address.sin_port))
  }
}

struct Output: Equatable {
  var text: String
  var error: String
  var exitCode: Int32
}

/// Runs one line of the script with identities masked.
func etcdctl(_ line: String, port: Int) async throws -> Output {
  let parts = line.split(separator: "<", maxSplits: 1)
  var words = parts[0].split(separator: " ").map { $0 == "\"\"" ? "" : String($0) }
  let process = Process()
  if words[0].hasPrefix("@") {
    words[0].removeFirst()
    words = ["1", "/usr/bin/etcdctl"] + words
    process.executableURL = URL(filePath: "/usr/bin/timeout")
  } else {
    process.executableURL = URL(filePath: "/usr/bin/etcdctl")
  }
  process.environment = ["ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": "http://127.0.0.1:\(port)"]
  process.arguments = words
  let (input, output, errors) = (Pipe(), Pipe(), Pipe())
  process.standardInput = input
  process.standardOutput = output
  process.standardError = errors
  try process.run()
  if parts.count == 2 {
    try input.fileHandleForWriting.write(contentsOf: Data(parts[1].replacing("\\n", with: "\n").utf8))
  }
  try input.fileHandleForWriting.close()
  let text = String(decoding: try output.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
  let error = String(decoding: try errors.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
  process.waitUntilExit()
  return Output(
    text: masked(text), error: error.split(separator: "\n").last { $0.hasPrefix("Error") }.map(String.init) ?? "",
    exitCode: process.terminationStatus)
}

private func masked(_ text: String) -> String {
  text
    .replacing(/"(cluster_id|member_id|raft_term)":\d+/) { "\"\($0.output.1)\":0" }
    .replacing(/lease [0-9a-f]{16}/, with: "lease ID")
}
