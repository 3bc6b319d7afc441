/// A duration as users write it: `250ms`, `10s`, `5m`, `1h`, `7d`, and sums such as `1h30m`.
package enum DurationText {
  /// Milliseconds, or nil when the text is no duration, is negative or exceeds 64 bits.
  package static func milliseconds(_ text: some StringProtocol) -> Int64? {
    var total: Int64 = 0
    var rest = Substring(text)
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && $0.isNumber }
      guard let amount = Int64(digits) else { return nil }
      rest = rest.dropFirst(digits.count)
      let unitText = rest.prefix { $0.isASCII && $0.isLetter }
      guard let unit = units[String(unitText)] else { return nil }
      rest = rest.dropFirst(unitText.count)
      let (product, overflow) = amount.multipliedReportingOverflow(by: unit)
      let (sum, overflowInSum) = total.addingReportingOverflow(product)
      if overflow || overflowInSum { return nil }
      total = sum
    }
    return total
  }

  /// The shortest exact text: `604800000` is `7d`, `90000` is `1m30s`.
  package static func text(milliseconds: Int64) -> String {
    guard milliseconds > 0 else { return "0s" }
    var rest = milliseconds
    var text = ""
    for (name, unit) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
      as [(String, Int64)]
    where rest >= unit {
      text += "\(rest / unit)\(name)"
      rest %= unit
    }
    return text
  }

  private static let units: [String: Int64] = [
    "ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000,
  ]
}
