import Synchronization

/// All metrics of a process and their text exposition (Prometheus format 0.0.4).
///
/// Asking again for a name with the same labels gives the same instrument; asking for it as another kind is a
/// programmer error.
package final class MetricsRegistry: Sendable {
  package typealias Labels = [(name: String, value: String)]

  package static let contentType = "text/plain; version=0.0.4; charset=utf-8"

  private enum Instrument: Sendable {
    case counter(MetricCounter)
    case gauge(MetricGauge)
    case histogram(MetricHistogram)
    /// Read when scraped; nothing is printed for nil.
    case computed(@Sendable () -> Double?)
  }

  private enum Kind: String {
    case counter, gauge, histogram
  }

  private struct Family {
    var kind: Kind
    var help: String
    var instruments: [(labels: String, instrument: Instrument)] = []
  }

  private let families = Mutex<[String: Family]>([:])
  private let refreshes = Mutex<[@Sendable () -> Void]>([])

  package init() {}

  /// Called before each scrape: for instruments that take over what another part counts.
  package func onScrape(_ refresh: @escaping @Sendable () -> Void) { refreshes.withLock { $0.append(refresh) } }

  package func counter(_ name: String, _ help: String, labels: Labels = []) -> MetricCounter {
    let made = instrument(name, help, .counter, labels) { .counter(MetricCounter()) }
    guard case .counter(let counter) = made else { preconditionFailure("\(name) is not a counter held by its user") }
    return counter
  }

  package func gauge(_ name: String, _ help: String, labels: Labels = []) -> MetricGauge {
    let made = instrument(name, help, .gauge, labels) { .gauge(MetricGauge()) }
    guard case .gauge(let gauge) = made else { preconditionFailure("\(name) is not a gauge held by its user") }
    return gauge
  }

  package func histogram(
    _ name: String, _ help: String, upperBounds: [Double] = MetricHistogram.customaryBounds, labels: Labels = []
  ) -> MetricHistogram {
    let made = instrument(name, help, .histogram, labels) { .histogram(MetricHistogram(upperBounds: upperBounds)) }
    guard case .histogram(let histogram) = made else { preconditionFailure("\(name) is not a histogram") }
    return histogram
  }

  /// A gauge whose value is computed when scraped. A second one under the same name and labels replaces the first.
  package func computedGauge(
    _ name: String, _ help: String, labels: Labels = [], _ read: @escaping @Sendable () -> Double?
  ) {
    compute(name, help, .gauge, labels, read)
  }

  /// As a counter that somebody else keeps.
  package func computedCounter(
    _ name: String, _ help: String, labels: Labels = [], _ read: @escaping @Sendable () -> Double?
  ) {
    compute(name, help, .counter, labels, read)
  }

  private func compute(
    _ name: String, _ help: String, _ kind: Kind, _ labels: Labels, _ read: @escaping @Sendable () -> Double?
  ) {
    let text = Self.text(of: labels)
    families.withLock { families in
      var family = families[name] ?? Family(kind: kind, help: help)
      precondition(family.kind == kind, "\(name) is a \(family.kind)")
      family.instruments.removeAll { $0.labels == text }
      family.instruments.append((text, .computed(read)))
      families[name] = family
    }
  }

  private func instrument(
    _ name: String, _ help: String, _ kind: Kind, _ labels: Labels, make: () -> Instrument
  ) -> Instrument {
    let text = Self.text(of: labels)
    return families.withLock { families in
      var family = families[name] ?? Family(kind: kind, help: help)
      precondition(family.kind == kind, "\(name) is a \(family.kind)")
      if let known = family.instruments.first(where: { $0.labels == text }) { return known.instrument }
      let made = make()
      family.instruments.append((text, made))
      families[name] = family
      return made
    }
  }

  /// Every family in the order of their names.
  package func exposition() -> String {
    for refresh in refreshes.withLock({ $0 }) { refresh() }
    // Computed values may take other locks: they are read outside of ours.
    let families = families.withLock { $0 }
    var text = ""
    for (name, family) in families.sorted(by: { $0.key < $1.key }) {
      text += "# HELP \(name) \(family.help)\n# TYPE \(name) \(family.kind.rawValue)\n"
      for (labels, instrument) in family.instruments {
        switch instrument {
        case .counter(let counter): Self.line(&text, name, labels, "\(counter.value)")
        case .gauge(let gauge): Self.line(&text, name, labels, Self.number(gauge.value))
        case .computed(let read):
          if let value = read() { Self.line(&text, name, labels, Self.number(value)) }
        case .histogram(let histogram): Self.lines(&text, name, labels, histogram)
        }
      }
    }
    return text
  }

  private static func line(_ text: inout String, _ name: String, _ labels: String, _ value: String) {
    text += name
    if !labels.isEmpty { text += "{\(labels)}" }
    text += " \(value)\n"
  }

  private static func lines(_ text: inout String, _ name: String, _ labels: String, _ histogram: MetricHistogram) {
    let contents = histogram.snapshot()
    let separator = labels.isEmpty ? "" : ","
    var cumulative = 0
    for (bound, count) in zip(histogram.upperBounds.map(number) + ["+Inf"], contents.counts) {
      cumulative += count
      line(&text, name + "_bucket", "\(labels)\(separator)le=\"\(bound)\"", "\(cumulative)")
    }
    line(&text, name + "_sum", labels, number(contents.sum))
    line(&text, name + "_count", labels, "\(cumulative)")
  }

  private static func text(of labels: Labels) -> String {
    labels.map { "\($0.name)=\"\(escaped($0.value))\"" }.joined(separator: ",")
  }

  private static func escaped(_ value: String) -> String {
    var text = ""
    for character in value {
      switch character {
      case "\\": text += "\\\\"
      case "\"": text += "\\\""
      case "\n": text += "\\n"
      default: text.append(character)
      }
    }
    return text
  }

  /// Whole numbers without a fraction, as most readers expect counts.
  private static func number(_ value: Double) -> String {
    if value.magnitude < 9e15, value == value.rounded() { return "\(Int64(value))" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    return value.isNaN ? "NaN" : "\(value)"
  }
}
