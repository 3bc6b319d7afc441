import Primitives

/// How one cache's entries age. Made from the flag `--cache 'bazel:ttl=7d,window=1h'` or from the same
/// keys in the config file (the caller reads YAML and hands over pairs).
package struct CachePolicy: Hashable, Sendable {
  package enum Registration: String, Hashable, Sendable {
    /// A hit on an unknown key registers it.
    case onHit = "on-hit"
    /// A hit on an unknown key is answered "unknown".
    case explicit
  }

  package private(set) var name: String
  package private(set) var ttlMilliseconds: Int64
  /// Hits within this time of the last renewal write nothing. Never above half the TTL.
  package private(set) var windowMilliseconds: Int64
  /// The most that jitter lengthens a lease, in percent of the TTL.
  package private(set) var jitterPercent: Int64
  package private(set) var registration: Registration
  /// Names that an eviction waits for even before they have ever subscribed.
  package private(set) var subscribers: [String]

  package static let minTTLMilliseconds: Int64 = 1_000
  /// Ten years: longer than any build cache's memory, and far from any overflow in milliseconds.
  package static let maxTTLMilliseconds: Int64 = 3_650 * 86_400_000
  package static let defaultTTLMilliseconds: Int64 = 7 * 86_400_000
  package static let defaultMaxWindowMilliseconds: Int64 = 3_600_000
  package static let defaultJitterPercent: Int64 = 25
  package static let maxNameBytes = 64

  package static let knownSettings = ["ttl", "window", "jitter", "register", "subscribers"]

  /// `settings` in the order they were written; values as text (`7d`, `0..25%`, `on-hit`, `a+b`).
  package init(name: String, settings: [(key: String, value: String)] = []) throws(CachePolicyError) {
    try Self.checkName(name)
    var given: [String: String] = [:]
    for (key, value) in settings {
      guard Self.knownSettings.contains(key) else {
        throw CachePolicyError(
          cache: name, field: key,
          detail: "unknown setting; known are \(Self.knownSettings.joined(separator: ", "))")
      }
      guard given.updateValue(value, forKey: key) == nil else {
        throw CachePolicyError(cache: name, field: key, detail: "given twice; keep one")
      }
    }
    self.name = name
    ttlMilliseconds = try Self.parseTTL(given["ttl"], cache: name)
    windowMilliseconds = try Self.parseWindow(given["window"], ttlMilliseconds: ttlMilliseconds, cache: name)
    jitterPercent = try Self.parseJitter(given["jitter"], cache: name)
    registration = try Self.parseRegistration(given["register"], cache: name)
    subscribers = try Self.parseSubscribers(given["subscribers"], cache: name)
  }

  /// The flag's form: `NAME` or `NAME:key=value,key=value`.
  package init(flag: String) throws(CachePolicyError) {
    let parts = flag.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    let name = String(parts[0])
    var settings: [(key: String, value: String)] = []
    if parts.count == 2, !parts[1].isEmpty {
      for pair in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
        let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard sides.count == 2 else {
          throw CachePolicyError(
            cache: name, field: String(pair), detail: "expected key=value, as in 'bazel:ttl=7d,window=1h'")
        }
        settings.append((String(sides[0]), String(sides[1])))
      }
    }
    try self.init(name: name, settings: settings)
  }

  /// The policy as pairs that make it again.
  package var settings: [(key: String, value: String)] {
    var pairs = [
      (key: "ttl", value: DurationText.text(milliseconds: ttlMilliseconds)),
      (key: "window", value: DurationText.text(milliseconds: windowMilliseconds)),
      (key: "jitter", value: "\(jitterPercent)%"),
      (key: "register", value: registration.rawValue),
    ]
    if !subscribers.isEmpty { pairs.append((key: "subscribers", value: subscribers.joined(separator: "+"))) }
    return pairs
  }

  /// What a lease of this entry is granted. `ttlMilliseconds`: the entry's own TTL, nil for the policy's.
  package func terms(for key: Bytes, ttlMilliseconds: Int64? = nil) -> LeaseTerms {
    let ttl = ttlMilliseconds ?? self.ttlMilliseconds
    let window = min(windowMilliseconds, ttl / 2)
    return LeaseTerms(
      ttlMilliseconds: ttl, windowMilliseconds: window, jitterMilliseconds: jitter(for: key, ttlMilliseconds: ttl))
  }

  /// Between 0 and `jitterPercent` of the TTL, by the key alone: the same on every node and after every restart.
  private func jitter(for key: Bytes, ttlMilliseconds: Int64) -> Int64 {
    guard jitterPercent > 0 else { return 0 }
    var mixer = SeededGenerator(seed: UInt64(CRC32C.checksum(key.array)))
    let share = Int64(mixer.next() >> 48)
    return ttlMilliseconds / 100 * jitterPercent / 65_536 * share
      + ttlMilliseconds / 100 * jitterPercent % 65_536 * share / 65_536
  }
}

/// The parts of a granted lease. It ends at least `ttl` after every hit that was accepted within `window` of a renewal.
package struct LeaseTerms: Hashable, Sendable {
  package var ttlMilliseconds: Int64
  package var windowMilliseconds: Int64
  package var jitterMilliseconds: Int64

  package var grantedMilliseconds: Int64 { ttlMilliseconds + windowMilliseconds + jitterMilliseconds }
}

/// What is wrong with a policy, and what to do about it.
package struct CachePolicyError: Error, Hashable, Sendable, CustomStringConvertible {
  package var cache: String
  package var field: String
  package var detail: String

  package var description: String { "cache \"\(cache)\": \(field): \(detail)" }
}

extension CachePolicy {
  private static func checkName(_ name: String) throws(CachePolicyError) {
    let isLegal = name.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
    guard isLegal, (1...maxNameBytes).contains(name.utf8.count), name != ".", name != ".." else {
      throw CachePolicyError(
        cache: name, field: "name",
        detail: "a cache's name has 1 to \(maxNameBytes) characters of A-Z a-z 0-9 . _ - and is not . or ..")
    }
  }

  private static func duration(_ text: String, field: String, cache: String) throws(CachePolicyError) -> Int64 {
    guard let milliseconds = DurationText.milliseconds(text) else {
      throw CachePolicyError(
        cache: cache, field: field, detail: "\"\(text)\" is no duration; write 250ms, 10s, 5m, 1h, 7d or 1h30m")
    }
    return milliseconds
  }

  /// Checks a TTL from a policy or a request. Nil when it is in bounds, otherwise what is wrong.
  package static func problem(ofTTLMilliseconds ttl: Int64) -> String? {
    if ttl < minTTLMilliseconds { return "must be at least 1s" }
    if ttl > maxTTLMilliseconds { return "must be at most 3650d" }
    return nil
  }

  private static func parseTTL(_ text: String?, cache: String) throws(CachePolicyError) -> Int64 {
    guard let text else { return defaultTTLMilliseconds }
    let ttl = try duration(text, field: "ttl", cache: cache)
    if let problem = problem(ofTTLMilliseconds: ttl) {
      throw CachePolicyError(cache: cache, field: "ttl", detail: "\(text) \(problem)")
    }
    return ttl
  }

  private static func parseWindow(
    _ text: String?, ttlMilliseconds ttl: Int64, cache: String
  ) throws(CachePolicyError) -> Int64 {
    guard let text else { return min(defaultMaxWindowMilliseconds, ttl / 8) }
    let window = try duration(text, field: "window", cache: cache)
    guard window <= ttl / 2 else {
      throw CachePolicyError(
        cache: cache, field: "window",
        detail: "\(text) is more than half of the ttl \(DurationText.text(milliseconds: ttl)); "
          + "choose at most \(DurationText.text(milliseconds: ttl / 2))")
    }
    return window
  }

  private static func parseJitter(_ text: String?, cache: String) throws(CachePolicyError) -> Int64 {
    guard let text else { return defaultJitterPercent }
    var digits = Substring(text)
    if digits.hasPrefix("0..") { digits = digits.dropFirst(3) }
    if digits.hasSuffix("%") { digits = digits.dropLast() }
    guard let percent = Int64(digits), (0...100).contains(percent) else {
      throw CachePolicyError(
        cache: cache, field: "jitter", detail: "\"\(text)\" is no percentage from 0 to 100; write 0, 25% or 0..25%")
    }
    return percent
  }

  private static func parseRegistration(_ text: String?, cache: String) throws(CachePolicyError) -> Registration {
    guard let text else { return .onHit }
    guard let registration = Registration(rawValue: text) else {
      throw CachePolicyError(
        cache: cache, field: "register", detail: "\"\(text)\" is unknown; write on-hit or explicit")
    }
    return registration
  }

  private static func parseSubscribers(_ text: String?, cache: String) throws(CachePolicyError) -> [String] {
    guard let text, !text.isEmpty else { return [] }
    var names: [String] = []
    for name in text.split(separator: "+", omittingEmptySubsequences: false) {
      guard (1...Limits.maxSubscriberNameBytes).contains(name.utf8.count), !names.contains(String(name)) else {
        throw CachePolicyError(
          cache: cache, field: "subscribers",
          detail: "\"\(text)\": write distinct names of 1 to \(Limits.maxSubscriberNameBytes) bytes, joined by +")
      }
      names.append(String(name))
    }
    return names
  }
}
