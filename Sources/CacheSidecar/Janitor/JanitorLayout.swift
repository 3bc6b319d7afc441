import Primitives

/// Where below its directory a cache keeps the file of a key.
///
/// | written as | file of `cas/abcd` |
/// |---|---|
/// | `{key}` | `cas/abcd` |
/// | a template such as `v1/{key:0:2}/{key}` (`{key:START:LENGTH}` in bytes) | `v1/ca/cas/abcd` |
/// | `bazel-disk` (`bazel build --disk_cache`) | `cas/ab/abcd` |
/// | `nginx` (`proxy_cache` with `levels=1:2`), `nginx:LEVELS` | `L/MM/…`: the MD5 of the key with levels from its end |
package struct JanitorLayout: Hashable, Sendable {
  private enum Part: Hashable, Sendable {
    case literal([UInt8])
    case key
    case slice(start: Int, length: Int)
  }

  private enum Kind: Hashable, Sendable {
    case template([Part])
    case bazelDisk
    case nginx(levels: [Int])
  }

  /// No path for this key: it would leave the directory, or the layout has no place for it.
  package struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
    package var description: String
  }

  /// The longest name of a file on Linux' file systems.
  private static let maxComponentBytes = 255

  private let kind: Kind

  package static let plain = JanitorLayout(kind: .template([.key]))

  private init(kind: Kind) { self.kind = kind }

  package init(_ text: String) throws(JanitorError) {
    if text == "bazel-disk" {
      kind = .bazelDisk
    } else if text == "nginx" {
      kind = .nginx(levels: [1, 2])
    } else if text.hasPrefix("nginx:") {
      let levels = text.dropFirst(6).split(separator: ":", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
      guard (1...3).contains(levels.count), levels.allSatisfy({ (1...2).contains($0) }) else {
        throw .layout(text, "levels are one to three of 1 and 2, as in nginx:1:2")
      }
      kind = .nginx(levels: levels)
    } else {
      kind = .template(try Self.parse(text))
    }
  }

  private static func parse(_ text: String) throws(JanitorError) -> [Part] {
    var parts: [Part] = []
    var rest = Substring(text)
    while let open = rest.firstIndex(of: "{") {
      if open > rest.startIndex { parts.append(.literal(Array(rest[..<open].utf8))) }
      guard let close = rest[open...].firstIndex(of: "}") else { throw .layout(text, "a { without }") }
      let fields = rest[rest.index(after: open)..<close].split(separator: ":", omittingEmptySubsequences: false)
      if fields == ["key"] {
        parts.append(.key)
      } else if fields.count == 3, fields[0] == "key", let start = Int(fields[1]), let length = Int(fields[2]),
        (0...Limits.maxCacheKeyBytes).contains(start), (1...Limits.maxCacheKeyBytes).contains(length)
      {
        parts.append(.slice(start: start, length: length))
      } else {
        throw .layout(text, "only {key} and {key:START:LENGTH} are known, and bazel-disk and nginx")
      }
      rest = rest[rest.index(after: close)...]
    }
    if !rest.isEmpty { parts.append(.literal(Array(rest.utf8))) }
    guard parts.contains(.key) else { throw .layout(text, "{key} is missing: two keys would share a file") }
    return parts
  }

  /// The names from the cache's directory down to the file; every one is safe to open below it.
  package func components(of key: Bytes) throws(Refusal) -> [[UInt8]] {
    let components: [[UInt8]]
    switch kind {
    case .template(let parts): components = Self.split(try Self.fill(parts, with: key.array))
    case .bazelDisk: components = Self.bazelDisk(Self.split(key.array))
    case .nginx(let levels): components = Self.nginx(key, levels)
    }
    for component in components { try Self.check(component) }
    guard components.count > 0 else { throw Refusal(description: "the key is empty") }
    guard components[0] != Array(CacheDirectory.trashName.utf8) else {
      throw Refusal(description: "the key leads into the trash")
    }
    return components
  }

  private static func split(_ path: [UInt8]) -> [[UInt8]] {
    path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Array.init)
  }

  private static func check(_ component: [UInt8]) throws(Refusal) {
    if component.isEmpty { throw Refusal(description: "the key is absolute or has an empty component") }
    if component == [UInt8(ascii: ".")] || component == Array("..".utf8) {
      throw Refusal(description: "the key has a component . or ..")
    }
    if component.contains(0) { throw Refusal(description: "the key has a NUL byte") }
    if component.count > maxComponentBytes { throw Refusal(description: "the key has a component over 255 bytes") }
  }

  private static func fill(_ parts: [Part], with key: [UInt8]) throws(Refusal) -> [UInt8] {
    var path: [UInt8] = []
    for part in parts {
      switch part {
      case .literal(let bytes): path += bytes
      case .key: path += key
      case .slice(let start, let length):
        guard start + length <= key.count else { throw Refusal(description: "the key is too short for the layout") }
        path += key[start..<start + length]
      }
    }
    return path
  }

  /// `cas/HASH` is `cas/HA/HASH` on disk; what has its folder already stays.
  private static func bazelDisk(_ components: [[UInt8]]) -> [[UInt8]] {
    guard components.count == 2, components[1].count > 2 else { return components }
    return [components[0], Array(components[1].prefix(2)), components[1]]
  }

  private static func nginx(_ key: Bytes, _ levels: [Int]) -> [[UInt8]] {
    let name = MD5.hexDigest(of: key)
    var components: [[UInt8]] = []
    var end = name.count
    for level in levels {
      components.append(Array(name[end - level..<end]))
      end -= level
    }
    return components + [name]
  }
}

/// What keeps a janitor from working at all; each makes one line.
package enum JanitorError: Error, Hashable, Sendable, CustomStringConvertible {
  case layout(String, String)
  case directory(String, String)
  case user(String)
  case socket(String, String)
  case subscription(String)

  package var description: String {
    switch self {
    case .layout(let text, let reason): "layout '\(text)': \(reason)"
    case .directory(let path, let reason): "\(path): \(reason)"
    case .user(let reason): reason
    case .socket(let path, let reason): "\(path): \(reason)"
    case .subscription(let reason): reason
    }
  }
}
