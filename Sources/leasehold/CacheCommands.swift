import ArgumentParser
import FoundationEssentials
import Glibc
import NIOHTTP1

struct CacheOptions: ParsableArguments {
  @OptionGroup var connection: APIOptions

  @Option(help: "The cache's name.")
  var cache: String

  func path(_ rest: String) -> String { "/v1/caches/\(cache.percentEncodedPath)" + rest }
}

struct HitCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "hit", abstract: "Report that an entry was used: its lease is renewed.")

  @OptionGroup var options: CacheOptions
  @Argument var key: String

  func run() async throws {
    let answer = try await options.connection.client().succeed(.POST, options.path("/hit/\(key.percentEncodedPath)"))
    print(answer.status == 201 ? "registered" : "live")
  }
}

struct ShowCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "show", abstract: "Show one entry as JSON.")

  @OptionGroup var options: CacheOptions
  @Argument var key: String

  func run() async throws {
    print(try await options.connection.client().succeed(.GET, options.path("/entries/\(key.percentEncodedPath)")).body)
  }
}

struct EvictCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evict", abstract: "Evict an entry now: every subscriber is told.")

  @OptionGroup var options: CacheOptions
  @Argument var key: String

  func run() async throws {
    _ = try await options.connection.client().succeed(.DELETE, options.path("/entries/\(key.percentEncodedPath)"))
    print("evicting")
  }
}

struct ListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ls", abstract: "List a cache's entries, or the subscribers of the eviction stream.")

  @OptionGroup var connection: APIOptions

  @Option(help: "The cache's name.")
  var cache: String?
  @Option(help: "Only keys that start with this.")
  var prefix: String = ""
  @Option(help: "Only 'live' or 'evicting' entries.")
  var state: String?
  @Option(help: "At most this many entries (0: all).")
  var limit: Int = 0
  @Flag(help: "List subscribers instead of entries.")
  var subscribers = false

  func validate() throws {
    if cache == nil, !subscribers { throw ValidationError("name a cache with --cache, or ask for --subscribers") }
    if limit < 0 { throw ValidationError("--limit must be 0 or more") }
  }

  func run() async throws {
    let client = try connection.client()
    guard let cache, !subscribers else {
      print(try await client.succeed(.GET, "/v1/subscribers").body)
      return
    }
    var after: String?
    var remaining = limit == 0 ? Int.max : limit
    repeat {
      var path = "/v1/caches/\(cache.percentEncodedPath)/entries?limit=\(min(remaining, 1_000))"
      path += "&prefix=\(prefix.percentEncodedPath)"
      if let state { path += "&state=\(state.percentEncodedPath)" }
      if let after { path += "&after=\(after.percentEncodedPath)" }
      let page = try EntryPage(json: try await client.succeed(.GET, path).body)
      for entry in page.entries { print(entry.line) }
      remaining -= page.entries.count
      after = page.next
    } while after != nil && remaining > 0
  }
}

/// A page of `GET …/entries`, as far as `ls` prints it.
private struct EntryPage: Decodable {
  struct Entry: Decodable {
    var key: String
    var state: String
    var gen: UInt64
    var remaining: Double?
    var idle: Double?
    var size: Int64?

    var line: String {
      let seconds = { (value: Double?) in value.map { "\(Int64($0))s" } ?? "-" }
      return [state, "gen=\(gen)", "left=\(seconds(remaining))", "idle=\(seconds(idle))", "size=\(size ?? 0)", key]
        .joined(separator: "\t")
    }
  }

  var entries: [Entry]
  var next: String?

  init(json: String) throws {
    do {
      self = try JSONDecoder().decode(EntryPage.self, from: Data(json.utf8))
    } catch {
      throw CommandFailure("the sidecar's answer is not a page of entries: \(error)")
    }
  }
}

struct FreePortCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "free-port", abstract: "Print a TCP port of the loopback that nobody uses.", shouldDisplay: false)

  func run() throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let failed = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) != 0 || getsockname(descriptor, $0, &length) != 0
      }
    }
    guard !failed else { throw CommandFailure("no free port: \(String(cString: strerror(errno)))") }
    print(UInt16(bigEndian: address.sin_port))
  }
}
