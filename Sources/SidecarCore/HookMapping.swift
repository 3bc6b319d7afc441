import Primitives

/// What a log line of a cache means for its entries.
package struct HookMapping: Hashable, Sendable {
  package var cache: String
  package var format: AccessLogFormat
  /// The leading part of the path that is not part of the key; paths outside of it belong to somebody else.
  package var strippedPrefix: Bytes

  package init(cache: String, format: AccessLogFormat = .auto, strippedPrefix: Bytes = "/") {
    self.cache = cache
    self.format = format
    self.strippedPrefix = strippedPrefix
  }

  package enum Meaning: Hashable, Sendable {
    case request(key: Bytes, EntryRequest)
    /// A miss, an error, another method, another path.
    case ignored
    /// Not a line of this format, or a key over the limit: counted, for it may be a lost hit.
    case unparsable
  }

  package func meaning(of line: ArraySlice<UInt8>) -> Meaning {
    guard let parsed = format.parse(line) else { return .unparsable }
    guard let request = Self.request(for: parsed), parsed.path.hasPrefix(strippedPrefix) else { return .ignored }
    let key = Bytes(parsed.path.array[strippedPrefix.count...])
    if key.isEmpty { return .ignored }
    return key.count <= Limits.maxCacheKeyBytes ? .request(key: key, request) : .unparsable
  }

  /// An upload registers with its size, a served read is a hit, a delete evicts.
  private static func request(for line: AccessLogLine) -> EntryRequest? {
    switch (line.method, line.status) {
    case (.put, 200), (.put, 201), (.put, 204): .register(EntryRegistration(sizeBytes: line.sizeBytes))
    case (.get, 200), (.get, 206), (.get, 304), (.head, 200), (.head, 304): .hit
    case (.delete, 200), (.delete, 202), (.delete, 204): .evict
    default: nil
    }
  }
}

/// Finds the cache that a syslog line speaks of: the one that its tag names (nginx: `tag=ccache`), else the first whose
/// prefix the path has.
package struct HookRouter: Sendable {
  package var mappings: [HookMapping]

  package init(_ mappings: [HookMapping]) { self.mappings = mappings }

  /// `cache` is nil when the line means nothing to any cache.
  package func meaning(of line: SyslogLine) -> (cache: String?, meaning: HookMapping.Meaning) {
    if let tagged = mappings.first(where: { $0.cache.utf8.elementsEqual(line.tag) }) {
      return (tagged.cache, tagged.meaning(of: line.message))
    }
    var isUnderstood = false
    for mapping in mappings {
      switch mapping.meaning(of: line.message) {
      case .request(let key, let request): return (mapping.cache, .request(key: key, request))
      case .ignored: isUnderstood = true
      case .unparsable: break
      }
    }
    return (nil, isUnderstood ? .ignored : .unparsable)
  }
}

/// Requests of many log lines, folded so that each key stands once and all can be done at the same time.
package struct HookBatch: Sendable {
  package private(set) var requests: [(key: Bytes, request: EntryRequest)] = []
  /// Lines behind these requests.
  package private(set) var lineCount = 0
  private var places: [Bytes: Int] = [:]

  package init() {}

  package var isEmpty: Bool { requests.isEmpty }

  /// False when this request must wait until the batch is done: the order of the two on this key matters.
  package mutating func add(_ key: Bytes, _ request: EntryRequest) -> Bool {
    guard let place = places[key] else {
      places[key] = requests.count
      requests.append((key, request))
      lineCount += 1
      return true
    }
    switch (requests[place].request, request) {
    case (.hit, .hit), (.register, .hit), (.evict, .evict): break
    case (.hit, .register), (.register, .register), (.hit, .evict): requests[place].request = request
    case (.register, .evict), (.evict, .hit), (.evict, .register): return false
    }
    lineCount += 1
    return true
  }
}
