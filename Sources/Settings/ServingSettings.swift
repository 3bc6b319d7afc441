import Primitives

extension NodeSettings {
  /// What a client's connection is granted.
  package struct Connections: Sendable, Equatable {
    /// The least time between two PINGs of a client; 0: it may send as many as it likes.
    package var keepaliveMinimumMilliseconds: Int64
    /// Silence after which the server asks whether the client still lives; nil: never.
    package var keepaliveIntervalMilliseconds: Int64?
    package var keepaliveTimeoutMilliseconds: Int64
    package var maxStreams: UInt32
  }
}

extension NodeSettings.Connections {
  init(_ values: SettingValues) throws(SettingsError) {
    keepaliveMinimumMilliseconds = try values.milliseconds("grpc-keepalive-min-time")
    let interval = try values.milliseconds("grpc-keepalive-interval")
    let timeout = try values.milliseconds("grpc-keepalive-timeout")
    keepaliveIntervalMilliseconds = interval == 0 || timeout == 0 ? nil : interval
    keepaliveTimeoutMilliseconds = timeout
    let streams = values.integer("max-concurrent-streams")
    guard streams > 0 else { throw SettingsError("--max-concurrent-streams must be at least 1") }
    maxStreams = UInt32(clamping: streams)
  }
}

extension AutoCompactionRule {
  /// Nobody means to keep more, and times stay far from the ends of their types.
  private static let longestRetentionMilliseconds: Int64 = 100 * 365 * 86_400_000

  /// etcd's reading: a plain number is hours or revisions, by the mode; 0 switches it off.
  init(_ values: SettingValues) throws(SettingsError) {
    let mode = values.text("auto-compaction-mode")
    let text = values.given("auto-compaction-retention") ?? "0"
    let number = Int64(text)
    switch mode {
    case "revision":
      guard let number, number >= 0 else {
        throw SettingsError("--auto-compaction-retention '\(text)' is no number of revisions, such as 1000")
      }
      self = number == 0 ? .off : .revision(kept: number)
    case "periodic", "":
      let hours = number.map { $0.multipliedReportingOverflow(by: 3_600_000) }
      let milliseconds = hours.map { $0.overflow ? nil : $0.partialValue } ?? GoDuration.milliseconds(text)
      guard let milliseconds, (0...Self.longestRetentionMilliseconds).contains(milliseconds) else {
        throw SettingsError(
          "--auto-compaction-retention '\(text)' is neither hours nor a duration, such as 5m or 1h30m")
      }
      self = milliseconds == 0 ? .off : .periodic(retentionMilliseconds: milliseconds)
    default: throw SettingsError("--auto-compaction-mode '\(mode)' is neither periodic nor revision")
    }
  }
}

/// A duration as etcd's users write it: Go's text (`1h30m`, `1.5h`, `500ms`, `0`), or ours with days.
enum GoDuration {
  private static let nanoseconds: [String: Double] = [
    "ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3_600e9,
  ]

  /// Milliseconds, rounded up, so that what is more than nothing does not become it. nil: no duration, below 0, or more
  /// than 64 bits of nanoseconds.
  static func milliseconds(_ text: String) -> Int64? {
    if text == "0" { return 0 }
    if let plain = DurationText.milliseconds(text) { return plain }
    var total = 0.0
    var rest = Substring(text)
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let number = rest.prefix { $0.isASCII && $0.isNumber || $0 == "." }
      guard number.first != ".", number.last != ".", let amount = Double(number) else { return nil }
      rest = rest.dropFirst(number.count)
      let unit = rest.prefix { $0.isLetter }
      guard let factor = nanoseconds[String(unit)] else { return nil }
      rest = rest.dropFirst(unit.count)
      total += amount * factor
    }
    guard total < 0x1p63 else { return nil }
    return Int64((total / 1e6).rounded(.up))
  }
}
