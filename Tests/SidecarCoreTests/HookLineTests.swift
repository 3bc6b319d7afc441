import Primitives
import SidecarCore
import Testing

@Suite struct HookLineTests {
  private func parse(_ format: String, _ line: String) -> AccessLogLine? {
    AccessLogFormat(format)?.parse(Array(line.utf8)[...])
  }

  private let hash = String(repeating: "ab", count: 32)

  @Test func theRecommendedNginxFormat() {
    #expect(
      parse("leasehold", "PUT 201 5120 /cache/cas/ab c")
        == AccessLogLine(method: .put, status: 201, sizeBytes: 5_120, path: "/cache/cas/ab c"))
    #expect(parse("leasehold", "GET 200 - /x\\x22y")?.path == "/x\"y")
    #expect(parse("leasehold", "GET 99 - /x") == nil)
    #expect(parse("leasehold", "") == nil)
  }

  @Test func theCombinedFormat() {
    let line =
      #"127.0.0.1 - - [23/Nov/2026:05:44:18 +0000] "GET /cache/a%20b?x=1 HTTP/1.1" 206 12 "-" "ccache/4.10""#
    #expect(parse("combined", line) == AccessLogLine(method: .get, status: 206, path: "/cache/a b"))
    #expect(parse("auto", line)?.path == "/cache/a b")
    #expect(parse("auto", "GET 200 - /k")?.method == .get)
    let absolute = #"h - - [t] "HEAD http://host:80/k HTTP/1.1" 200 0 "-" "-""#
    #expect(parse("combined", absolute) == AccessLogLine(method: .head, status: 200, path: "/k"))
  }

  @Test func bazelRemote() {
    #expect(
      parse("bazel-remote", "2026/11/23 05:44:18  GET 200       127.0.0.1 /cas/\(hash)")
        == AccessLogLine(method: .get, status: 200, path: Bytes("/cas/\(hash)")))
    #expect(parse("bazel-remote", "2026/11/23 05:44:18 GRPC AC GET \(hash) OK")?.path == Bytes("/ac/\(hash)"))
    #expect(parse("bazel-remote", "2026/11/23 05:44:18 GRPC CAS HEAD \(hash) NOT FOUND")?.status == 404)
    let write = parse("bazel-remote", "2026/11/23 05:44:18 GRPC BYTESTREAM WRITE COMPLETED uploads/u/blobs/\(hash)/123")
    #expect(write == AccessLogLine(method: .put, status: 200, sizeBytes: 123, path: Bytes("/cas/\(hash)")))
    #expect(parse("bazel-remote", "2026/11/23 05:44:18 starting up now please") == nil)
  }

  @Test func aPatternOfOnesOwn() {
    #expect(
      parse("{_}|{status}|{method}|{size}|{uri}", "x y|200|GET|7|/a%41?q")
        == AccessLogLine(method: .get, status: 200, sizeBytes: 7, path: "/aA"))
    #expect(AccessLogFormat("{method} {uri}") == nil, "a status is needed")
    #expect(AccessLogFormat("{method}{status} {uri}") == nil, "fields need text between them")
    #expect(AccessLogFormat("nginx") == nil)
  }

  @Test func linesMeanHitsRegistrationsAndEvictions() {
    let mapping = HookMapping(cache: "c", strippedPrefix: "/cache/")
    func meaning(_ line: String) -> HookMapping.Meaning { mapping.meaning(of: Array(line.utf8)[...]) }
    #expect(meaning("PUT 201 5 /cache/k") == .request(key: "k", .register(EntryRegistration(sizeBytes: 5))))
    #expect(meaning("HEAD 200 - /cache/k") == .request(key: "k", .hit))
    #expect(meaning("GET 304 - /cache/k") == .request(key: "k", .hit))
    #expect(meaning("DELETE 204 - /cache/k") == .request(key: "k", .evict))
    #expect(meaning("GET 404 - /cache/k") == .ignored)
    #expect(meaning("GET 200 - /other/k") == .ignored)
    #expect(meaning("GET 200 - /cache/") == .ignored)
    #expect(meaning("GET 200 - /cache/" + String(repeating: "x", count: 2_000)) == .unparsable)
    #expect(meaning("what is this") == .unparsable)
  }

  @Test func syslogHeadersAreTakenOff() {
    func line(_ text: String) -> SyslogLine? { SyslogLine(Array(text.utf8)[...]) }
    let stock = line("<190>Nov 23 05:44:18 nginx: GET 200 - /k\n")
    #expect(stock.map { String(decoding: $0.tag, as: UTF8.self) } == "nginx")
    #expect(stock.map { String(decoding: $0.message, as: UTF8.self) } == "GET 200 - /k")
    let named = line("<134>Nov 23 05:44:18 host haproxy[123]: m: n")
    #expect(named.map { String(decoding: $0.tag, as: UTF8.self) } == "haproxy")
    #expect(named.map { String(decoding: $0.message, as: UTF8.self) } == "m: n")
    #expect(line("GET 200 - /k")?.tag.isEmpty == true)
    #expect(line("<190>no end") == nil)
    #expect(line("\n") == nil)
  }

  @Test func theTagOrThePrefixNamesTheCache() {
    let router = HookRouter([
      HookMapping(cache: "bazel", strippedPrefix: "/bazel/"), HookMapping(cache: "ccache", strippedPrefix: "/cc/"),
    ])
    func cache(_ text: String) -> String? { SyslogLine(Array(text.utf8)[...]).flatMap { router.meaning(of: $0).cache } }
    #expect(cache("<190>Nov 23 05:44:18 nginx: GET 200 - /cc/k") == "ccache")
    #expect(cache("<190>Nov 23 05:44:18 bazel: GET 200 - /bazel/k") == "bazel")
    #expect(cache("<190>Nov 23 05:44:18 nginx: GET 200 - /elsewhere/k") == nil)
  }

  @Test func aBatchHoldsEachKeyOnceAndKeepsTheOrderWhereItMatters() {
    var batch = HookBatch()
    let taken = [
      batch.add("k", .hit), batch.add("k", .hit), batch.add("j", .hit),
      batch.add("k", .register(EntryRegistration(sizeBytes: 1))), batch.add("j", .evict),
    ]
    #expect(taken.allSatisfy { $0 })
    let evictsRegistered = batch.add("k", .evict)
    #expect(!evictsRegistered, "registered, then deleted: two steps")
    let hitsEvicted = batch.add("j", .hit)
    #expect(!hitsEvicted)
    #expect(batch.requests.count == 2)
    #expect(batch.lineCount == 5)
  }

  /// No line crashes a parser: random mutations of good lines in all formats.
  @Test func parsersSurviveAnyInput() {
    var random = SeededGenerator(seed: 3)
    let seeds = [
      "<190>Nov 23 05:44:18 nginx: PUT 201 5120 /cache/cas/ab",
      #"127.0.0.1 - - [t] "GET /cache/a%20b?x HTTP/1.1" 206 12 "-" "x""#, "d t  GET 200  1.2.3.4 /cas/\(hash)",
      "d t GRPC AC GET \(hash) OK", "d t GRPC BYTESTREAM READ COMPLETED blobs/\(hash)/1",
    ].map { Array($0.utf8) }
    let formats = ["leasehold", "combined", "bazel-remote", "auto", "{_} {method} {status} {uri}"].map {
      AccessLogFormat($0)!
    }
    for _ in 0..<20_000 {
      var bytes = seeds.randomElement(using: &random)!
      for _ in 0..<Int.random(in: 1...5, using: &random) {
        let at = Int.random(in: 0...bytes.count, using: &random)
        switch Int.random(in: 0...2, using: &random) {
        case 0 where at < bytes.count: bytes[at] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.removeLast(bytes.count - at)
        default: bytes.insert(contentsOf: "% \"\\x<[/".utf8.shuffled(using: &random).prefix(2), at: at)
        }
      }
      let message = SyslogLine(bytes[...])?.message ?? bytes[...]
      for format in formats { _ = HookMapping(cache: "c", format: format).meaning(of: message) }
    }
  }
}
