import Foundation
import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import TestSupport
import Testing
import Wire

/// Real sockets, real clients: curl, nghttp, h2load, openssl.
@Suite(.serialized) struct WireServerTests {
  private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)

  private func withServer(_ body: (WireServer) async throws -> Void) async throws {
    let server = WireServer(group: Self.group, logger: Logger(label: "test"))
    do {
      try await body(server)
    } catch {
      await server.stop(grace: .zero)
      throw error
    }
    await server.stop(grace: .zero)
  }

  // MARK: Cleartext

  @Test func bothVersionsOnOnePort() async throws {
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices()).port!
      let url = "http://127.0.0.1:\(port)"
      #expect(try await shell("curl -s \(url)/hello").text == "hello\n")
      #expect(
        try await shell("curl -s --http2-prior-knowledge -w '%{http_version} %{http_code}' \(url)/hello").text
          == "hello\n2 200")
      #expect(try await shell("curl -s \(url)/later \(url)/hello").text == "later\nhello\n")
      #expect(try await shell("curl -sI \(url)/hello").text.contains("content-length: 6"))
      #expect(try await shell("curl -s -o /dev/null -w '%{http_code}' -X DELETE \(url)/hello").text == "405")
      #expect(try await shell("curl -s '\(url)/count?to=1000' | wc -l").text.contains("1000"))
      #expect(
        try await shell("head -c 3000000 /dev/zero | curl -s --data-binary @- \(url)/echo | wc -c").text
          .contains("3000000"))
      #expect(
        try await shell(
          "head -c 3000000 /dev/zero | curl -s --http2-prior-knowledge --data-binary @- \(url)/echo | wc -c"
        ).text.contains("3000000"))
      #expect(
        try await shell(
          "head -c 9000000 /dev/zero | curl -s -o /dev/null -w '%{http_code}' --data-binary @- \(url)/echo"
        ).text == "413")
      #expect(try await shell("nghttp -s \(url)/hello \(url)/later").text.contains("200"))
    }
  }

  @Test func sixAndNames() async throws {
    try await withServer { server in
      let six = try await server.listen(host: "::1", port: 0, services: testServices()).port!
      #expect(try await shell("curl -s 'http://[::1]:\(six)/hello'").text == "hello\n")
      let named = try await server.listen(host: "localhost", port: 0, services: testServices()).port!
      #expect(try await shell("curl -s http://localhost:\(named)/hello").text == "hello\n")
    }
  }

  /// h2load sends 2,000 gRPC bodies over 4 connections with 20 streams each; every one is answered.
  @Test func h2loadSendsGRPC() async throws {
    let directory = TemporaryDirectory()
    let body = directory.file("body")
    try Data(grpcFramed(Array(repeating: 42, count: 100))).write(to: URL(fileURLWithPath: body))
    let journal = Journal()
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(journal)).port!
      let result = try await shell(
        "h2load -n 2000 -c 4 -m 20 -d \(body) -H 'content-type: application/grpc' -H 'te: trailers' "
          + "http://127.0.0.1:\(port)/test.Echo/Say")
      #expect(result.text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "\(result.text)")
      let finished = journal.all.filter { $0 == "finished /test.Echo/Say OK in 100 out 100" }
      #expect(finished.count == 2_000)
    }
  }

  @Test func aStreamNoticesThatItsReaderIsGone() async throws {
    let journal = Journal()
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(journal)).port!
      for version in ["--http1.1", "--http2-prior-knowledge"] {
        let before = journal.all.count
        _ = try await shell("curl -sN \(version) --max-time 1 http://127.0.0.1:\(port)/forever")
        #expect(await eventually { journal.all.count == before + 2 })
        #expect(journal.all.suffix(2) == ["stream open", "stream closed"])
      }
      #expect(await eventually { server.connectionCount == 0 })
    }
  }

  @Test func aSlowReaderMakesBytesPend() async throws {
    let journal = Journal()
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(journal)).port!
      _ = try await shell("curl -sN --max-time 1 http://127.0.0.1:\(port)/flood | head -c 1000000 | wc -c")
      #expect(journal.all.contains("pending \(1 << 20)"))
      #expect(journal.all.contains("stream writable"))
    }
  }

  @Test func stopSendsGoAwayAndWaitsForOpenRequests() async throws {
    let server = WireServer(group: Self.group, logger: Logger(label: "test"))
    let journal = Journal()
    let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(journal)).port!
    async let stream = shell("curl -sN --http2-prior-knowledge http://127.0.0.1:\(port)/forever")
    #expect(await eventually { journal.all.contains("stream open") })
    await server.stop(grace: .milliseconds(200))
    #expect(server.connectionCount == 0)
    #expect(try await stream.text == "{\"first\":true}\n")
    #expect(try await shell("curl -s http://127.0.0.1:\(port)/hello").status == 7)
    await #expect(throws: WireError.stopped) {
      try await server.listen(host: "127.0.0.1", port: 0, services: testServices())
    }
  }

  // MARK: Addresses

  @Test func aPortInUseIsNamed() async throws {
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices()).port!
      await #expect(throws: WireError.addressInUse("127.0.0.1:\(port)")) {
        try await server.listen(host: "127.0.0.1", port: port, services: testServices())
      }
      await #expect(throws: WireError.self) {
        try await server.listen(host: "203.0.113.1", port: 1, services: testServices())
      }
    }
  }

  @Test func unixSockets() async throws {
    let directory = TemporaryDirectory()
    let path = directory.file("s")
    try await withServer { server in
      try await server.listenUnix(path: path, mode: 0o600, services: testServices()) { channel in
        try channel.pipeline.syncOperations.addHandler(LineEcho())
      }
      #expect(try await shell("stat -c %a \(path)").text == "600\n")
      #expect(try await shell("curl -s --unix-socket \(path) http://x/hello").text == "hello\n")
      #expect(try await shell("curl -s --http2-prior-knowledge --unix-socket \(path) http://x/hello").text == "hello\n")
      #expect(try await shell("printf 'sub me\\n' | nc -NU \(path)").text == "line: sub me\n")
      await #expect(throws: WireError.addressInUse(path)) {
        try await server.listenUnix(path: path, services: testServices())
      }
      #expect(try await shell("curl -s --unix-socket \(path) http://x/hello").text == "hello\n")
    }
    #expect(!FileManager.default.fileExists(atPath: path))
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).isEmpty)
  }

  @Test func onlyAStaleSocketFileIsReplaced() async throws {
    let directory = TemporaryDirectory()
    let path = directory.file("s")
    // A process that has gone without cleaning up.
    _ = try await shell(
      "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.bind('\(path)'); s.listen()\"")
    #expect(FileManager.default.fileExists(atPath: path))
    try await withServer { server in
      try await server.listenUnix(path: path, services: testServices())
      #expect(try await shell("curl -s --unix-socket \(path) http://x/hello").text == "hello\n")
      let file = directory.file("precious")
      try "data".write(toFile: file, atomically: true, encoding: .utf8)
      await #expect(throws: WireError.notASocket(file)) {
        try await server.listenUnix(path: file, services: testServices())
      }
      #expect(try String(contentsOfFile: file, encoding: .utf8) == "data")
      let long = directory.file(String(repeating: "x", count: 120))
      await #expect(throws: WireError.socketPathTooLong(long, maxBytes: 107)) {
        try await server.listenUnix(path: long, services: testServices())
      }
    }
  }

  /// Answers each read as a line of its own and closes when the peer has.
  private final class LineEcho: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
      context.writeAndFlush(
        wrapOutboundOut(ByteBuffer(string: "line: " + String(buffer: unwrapInboundIn(data)))), promise: nil)
    }
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
      if case ChannelEvent.inputClosed? = event as? ChannelEvent { context.close(promise: nil) }
    }
  }

  // MARK: TLS

  /// A CA, a server certificate for 127.0.0.1, and client certificates for alice and mallory, all by openssl.
  private func makeCertificates() async throws -> TemporaryDirectory {
    let directory = TemporaryDirectory()
    let script = """
      set -e; cd \(directory.path)
      key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
      openssl req -x509 $key -days 2 -subj /CN=ca -keyout ca.key -out ca.pem
      for name in server alice mallory; do
        openssl req $key -subj /CN=$name -keyout $name.key -out $name.csr
        printf 'subjectAltName=IP:127.0.0.1' > ext
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $name.pem
      done
      """
    let result = try await shell(script)
    #expect(result.status == 0, "\(result.errors)")
    return directory
  }

  private struct Distrust: Error {}

  /// Trusts whoever has "alice" in the certificate: the real decision is libcrypto's and tested elsewhere.
  private let trustAlice: TrustCheck = { question in
    guard let leaf = question.chain.first else { return .failure(Distrust()) }
    let name = Array("alice".utf8)
    let found = leaf.indices.contains { leaf[$0...].starts(with: name) }
    return found ? .success(PeerIdentity(commonName: "alice")) : .failure(Distrust())
  }

  @Test func clientCertificatesAreRequiredAndJudged() async throws {
    let files = try await makeCertificates()
    let tls = try TLSSettings(
      certificateChain: .file(files.file("server.pem")), privateKey: .file(files.file("server.key")),
      clientCertificates: .required(trustAlice))
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(), tls: tls).port!
      let curl = "curl -s --cacert \(files.file("ca.pem"))"
      let url = "https://127.0.0.1:\(port)"
      func with(_ name: String) -> String {
        "\(curl) --cert \(files.file(name + ".pem")) --key \(files.file(name + ".key"))"
      }
      #expect(try await shell("\(with("alice")) -w '%{http_version}' \(url)/who").text == "alice2")
      #expect(try await shell("\(with("alice")) --http1.1 -w '%{http_version}' \(url)/who").text == "alice1.1")
      #expect(try await shell("\(with("alice")) --tls-max 1.2 \(url)/who").text == "alice")
      #expect(try await shell("\(with("alice")) --no-alpn \(url)/who").text == "alice")
      for refused in [with("mallory"), curl] {
        for version in ["1.2", "1.3"] {
          let result = try await shell("\(refused) --tls-max \(version) \(url)/who")
          #expect(result.status != 0 && result.text.isEmpty)
        }
      }
      // No session is resumed, so that every connection is judged.
      for version in ["-tls1_2", "-tls1_3"] {
        let client =
          "openssl s_client -ign_eof -connect 127.0.0.1:\(port) \(version) -cert \(files.file("alice.pem")) "
          + "-key \(files.file("alice.key")) -CAfile \(files.file("ca.pem"))"
        // The client stays until the server has answered and closes.
        let request = "printf 'GET /who HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'"
        let session = files.file("session")
        let first = try await shell("\(request) | \(client) -sess_out \(session)")
        #expect(first.text.contains("alice"))
        let second = try await shell("\(request) | \(client) -sess_in \(session)")
        #expect(second.text.contains("alice"))
        #expect(second.text.contains("New, TLS") && !second.text.contains("Reused, TLS"))
      }
      #expect(await eventually { server.connectionCount == 0 })
    }
  }

  @Test func optionalAndIgnoredCertificates() async throws {
    let files = try await makeCertificates()
    let (chain, key) = (PEMSource.file(files.file("server.pem")), PEMSource.file(files.file("server.key")))
    try await withServer { server in
      let optional = try TLSSettings(
        certificateChain: chain, privateKey: key, clientCertificates: .optional(trustAlice))
      let ignored = try TLSSettings(certificateChain: chain, privateKey: key)
      let curl = "curl -s --cacert \(files.file("ca.pem"))"
      let alice = "--cert \(files.file("alice.pem")) --key \(files.file("alice.key"))"
      let mallory = "--cert \(files.file("mallory.pem")) --key \(files.file("mallory.key"))"
      let first = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(), tls: optional).port!
      #expect(try await shell("\(curl) https://127.0.0.1:\(first)/who").text == "nobody")
      #expect(try await shell("\(curl) \(alice) https://127.0.0.1:\(first)/who").text == "alice")
      #expect(try await shell("\(curl) \(mallory) https://127.0.0.1:\(first)/who").text == "")
      let second = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(), tls: ignored).port!
      #expect(try await shell("\(curl) \(alice) https://127.0.0.1:\(second)/who").text == "nobody")
    }
  }

  @Test func certificatesAreReplacedWhileRunning() async throws {
    let (old, new) = (try await makeCertificates(), try await makeCertificates())
    let tls = try TLSSettings(
      certificateChain: .file(old.file("server.pem")), privateKey: .file(old.file("server.key")))
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(), tls: tls).port!
      func trusts(_ files: TemporaryDirectory) async throws -> Bool {
        try await shell("curl -s --cacert \(files.file("ca.pem")) https://127.0.0.1:\(port)/hello").text == "hello\n"
      }
      #expect(try await trusts(old))
      #expect(throws: WireError.self) {
        try tls.replace(certificateChain: .file(new.file("server.pem")), privateKey: .file(old.file("server.key")))
      }
      #expect(try await trusts(old))
      try tls.replace(certificateChain: .file(new.file("server.pem")), privateKey: .file(new.file("server.key")))
      #expect(try await trusts(new))
      #expect(try await !trusts(old))
    }
  }

  /// When it has changed who is trusted, connections that stand are judged again.
  @Test func standingConnectionsAreJudgedAgain() async throws {
    let files = try await makeCertificates()
    let trusted = NIOLockedValueBox(["alice", "mallory"])
    let tls = try TLSSettings(
      certificateChain: .file(files.file("server.pem")), privateKey: .file(files.file("server.key")),
      clientCertificates: .required { question in
        for name in trusted.withLockedValue({ $0 }) {
          let bytes = Array(name.utf8)
          let leaf = question.chain[0]
          if leaf.indices.contains(where: { leaf[$0...].starts(with: bytes) }) {
            return .success(PeerIdentity(commonName: name))
          }
        }
        return .failure(Distrust())
      })
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: testServices(), tls: tls).port!
      func stream(_ name: String) -> Task<Int32, any Error> {
        Task {
          try await shell(
            "timeout 20 curl -sN --cacert \(files.file("ca.pem")) --cert \(files.file(name + ".pem")) "
              + "--key \(files.file(name + ".key")) https://127.0.0.1:\(port)/forever"
          ).status
        }
      }
      let (alice, mallory) = (stream("alice"), stream("mallory"))
      #expect(await eventually { tls.certifiedConnectionCount == 2 })
      tls.judgeAgain(logger: Logger(label: "test"))
      trusted.withLockedValue { $0 = ["alice"] }
      #expect(tls.certifiedConnectionCount == 2)
      tls.judgeAgain(logger: Logger(label: "test"))
      #expect(try await mallory.value != 124, "the server has closed it")
      #expect(await eventually { tls.certifiedConnectionCount == 1 })
      trusted.withLockedValue { $0 = [] }
      tls.judgeAgain(logger: Logger(label: "test"))
      #expect(try await alice.value != 124)
      #expect(await eventually { tls.certifiedConnectionCount == 0 })
    }
  }

  @Test func connectionsAreCapped() async throws {
    var limits = WireLimits()
    limits.maxConnections = 2
    let services = testServices(limits: limits)
    try await withServer { server in
      let port = try await server.listen(host: "127.0.0.1", port: 0, services: services).port!
      let streams = (0..<2).map { _ in
        Task { try await shell("timeout 20 curl -sN http://127.0.0.1:\(port)/forever").status }
      }
      #expect(await eventually { server.connectionCount == 2 })
      #expect(try await shell("curl -s http://127.0.0.1:\(port)/hello").status != 0)
      #expect(server.connectionCount == 2)
      await server.stop(grace: .zero)
      for stream in streams { #expect(try await stream.value != 124) }
    }
  }

  @Test func unusableMaterialIsExplained() async throws {
    let files = try await makeCertificates()
    func reason(_ chain: String, _ key: String) -> String {
      do throws(WireError) {
        _ = try TLSSettings(certificateChain: .file(files.file(chain)), privateKey: .file(files.file(key)))
        return ""
      } catch {
        return error.description
      }
    }
    #expect(reason("server.pem", "server.key") == "")
    #expect(reason("absent.pem", "server.key").contains("cannot read the certificate \(files.file("absent.pem"))"))
    #expect(reason("server.pem", "absent.key").contains("cannot read the private key \(files.file("absent.key"))"))
    #expect(reason("server.pem", "alice.key").contains("cannot be used together"))
    #expect(reason("server.key", "server.key").contains("certificate"))
  }

  @Test func aHandshakeThatNeverComesIsCutOff() async throws {
    let files = try await makeCertificates()
    let tls = try TLSSettings(
      certificateChain: .file(files.file("server.pem")), privateKey: .file(files.file("server.key")))
    var limits = WireLimits()
    limits.handshakeTimeout = .milliseconds(100)
    try await withServer { server in
      let port = try await server.listen(
        host: "127.0.0.1", port: 0, services: testServices(limits: limits), tls: tls
      ).port!
      // Ends because the server hangs up: `timeout` would say 124.
      #expect(try await shell("timeout 20 nc -d 127.0.0.1 \(port)").status == 0)
      #expect(await eventually { server.connectionCount == 0 })
    }
  }
}
