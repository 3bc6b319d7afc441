import Primitives

extension SubscriberOp {
  /// Understands one line without its LF: a JSON object, or the short form a person types. Nil for an empty line (a
  /// heartbeat).
  package init?(parsingLine line: some Collection<UInt8>) throws(OpFailure) {
    var bytes = Array(line)
    while let last = bytes.last, last == 0x0d || last == 0x20 || last == 0x09 { bytes.removeLast() }
    let start = bytes.firstIndex { $0 != 0x20 && $0 != 0x09 } ?? bytes.endIndex
    let content = bytes[start...]
    guard let first = content.first else { return nil }
    if first == UInt8(ascii: "{") {
      let value: JSONValue
      do { value = try JSONValue(parsing: content) } catch { throw OpFailure(.badjson, error.description) }
      self = try JSONOpParser(fields: value).parse()
    } else {
      guard let text = String(validating: content, as: UTF8.self) else {
        throw OpFailure(.unknownOp, "a line that is not UTF-8")
      }
      self = try ShortOpParser(line: text).parse()
    }
  }
}

/// `{"op":"ack","to":1181}` and the like. Unknown fields are ignored.
private struct JSONOpParser {
  let fields: JSONValue

  func parse() throws(OpFailure) -> SubscriberOp {
    guard case .text(let name)? = fields["op"] else { throw OpFailure(.badjson, "op: a text is missing") }
    switch name {
    case "sub": return .subscribe(try subscription())
    case "ack": return .acknowledge(try acknowledged(), blobIsGone: try flag("gone"))
    case "nak": return .nak(try sequence("seq"), afterMilliseconds: try duration("after"))
    case "wip": return .working(try sequence("seq"))
    case "keep": return .keep(try sequence("seq"), ttlMilliseconds: try duration("ttl"))
    case "term": return .terminate(try sequence("seq"), why: try text("why") ?? "")
    case "stat": return .stat
    case "pause": return .pause
    case "resume": return .resume
    case "unsub": return .unsubscribe(forget: try flag("forget"))
    case "kick": return .kick
    default: throw OpFailure(.unknownOp, "no op is called \"\(String(name.prefix(40)))\"")
    }
  }

  private func subscription() throws(OpFailure) -> Subscription {
    guard let name = try text("name") else { throw OpFailure(.badjson, "name: a text is missing") }
    var builder = SubscriptionBuilder(name: name, code: .badjson)
    for field in SubscriptionBuilder.fields {
      switch fields[field] {
      case nil, .null: break
      case .text(let value): try builder.set(field, value)
      case .integer(let value): try builder.set(field, String(value))
      default: throw OpFailure(.badjson, "\(field): neither a text nor a number")
      }
    }
    return try builder.build()
  }

  private func acknowledged() throws(OpFailure) -> AcknowledgedSequences {
    switch (fields["to"], fields["seqs"], fields["seq"]) {
    case (.some, nil, nil): return .through(try sequence("to"))
    case (nil, .array(let elements)?, nil):
      var sequences: [UInt64] = []
      for element in elements {
        guard case .integer(let value) = element, value > 0 else {
          throw OpFailure(.badjson, "seqs: an element is no positive number")
        }
        sequences.append(UInt64(value))
      }
      return .only(sequences)
    case (nil, nil, .some): return .only([try sequence("seq")])
    default: throw OpFailure(.badjson, "ack wants one of to, seqs (an array) and seq")
    }
  }

  private func sequence(_ name: String) throws(OpFailure) -> UInt64 {
    guard case .integer(let value)? = fields[name], value > 0 else {
      throw OpFailure(.badjson, "\(name): a positive number is missing")
    }
    return UInt64(value)
  }

  private func text(_ name: String) throws(OpFailure) -> String? {
    switch fields[name] {
    case nil, .null: return nil
    case .text(let value): return value
    default: throw OpFailure(.badjson, "\(name): no text")
    }
  }

  private func flag(_ name: String) throws(OpFailure) -> Bool {
    switch fields[name] {
    case nil, .null: return false
    case .bool(let value): return value
    default: throw OpFailure(.badjson, "\(name): neither true nor false")
    }
  }

  private func duration(_ name: String) throws(OpFailure) -> Int64? {
    guard let text = try text(name) else { return nil }
    guard let value = DurationText.milliseconds(text) else {
      throw OpFailure(.badjson, "\(name): no duration such as 30s, 5m or 7d")
    }
    return value
  }
}

/// `ack to 1181`, `nak 1184 30s`: words between spaces.
private struct ShortOpParser {
  let words: [Substring]

  init(line: String) { words = line.split { $0 == " " || $0 == "\t" } }

  func parse() throws(OpFailure) -> SubscriberOp {
    let name = words[0]
    switch name {
    case "sub": return .subscribe(try subscription())
    case "ack": return try acknowledge()
    case "nak": return .nak(try onlySequence(upTo: 3), afterMilliseconds: try duration(at: 2))
    case "wip": return .working(try onlySequence(upTo: 2))
    case "keep": return .keep(try onlySequence(upTo: 3), ttlMilliseconds: try duration(at: 2))
    case "term":
      let why = words.dropFirst(2).joined(separator: " ")
      return .terminate(try onlySequence(upTo: .max), why: why)
    case "stat": return try alone(.stat)
    case "pause": return try alone(.pause)
    case "resume": return try alone(.resume)
    case "kick": return try alone(.kick)
    case "unsub":
      if words.count == 2, words[1] == "forget" { return .unsubscribe(forget: true) }
      return try alone(.unsubscribe(forget: false))
    default:
      throw OpFailure(
        .unknownOp,
        "no op is called \"\(String(name.prefix(40)))\"; try: sub NAME, ack to N, ack N N, nak N 30s, wip N, keep N, "
          + "term N, kick, stat, pause, resume, unsub")
    }
  }

  private func failure(_ message: String) -> OpFailure { OpFailure(.unknownOp, "\(words[0]): \(message)") }

  private func alone(_ op: SubscriberOp) throws(OpFailure) -> SubscriberOp {
    guard words.count == 1 else { throw failure("takes no arguments") }
    return op
  }

  private func sequence(_ word: Substring) throws(OpFailure) -> UInt64 {
    guard let value = Int64(word), value > 0 else { throw failure("\"\(word.prefix(40))\" is no sequence number") }
    return UInt64(value)
  }

  private func onlySequence(upTo most: Int) throws(OpFailure) -> UInt64 {
    guard words.count >= 2 else { throw failure("a sequence number is missing") }
    guard words.count <= most else { throw failure("too many arguments") }
    return try sequence(words[1])
  }

  private func duration(at index: Int) throws(OpFailure) -> Int64? {
    guard words.count > index else { return nil }
    guard let value = DurationText.milliseconds(words[index]) else {
      throw failure("\"\(words[index].prefix(40))\" is no duration such as 30s, 5m or 7d")
    }
    return value
  }

  /// `ack to 1181`, `ack 1185 1190`, and with `gone` behind them.
  private func acknowledge() throws(OpFailure) -> SubscriberOp {
    var arguments = words.dropFirst()
    let isGone = arguments.last == "gone"
    if isGone { arguments.removeLast() }
    guard let first = arguments.first else { throw failure("sequence numbers are missing") }
    if first == "to" {
      guard arguments.count == 2, let last = arguments.last else { throw failure("to wants one sequence number") }
      return .acknowledge(.through(try sequence(last)), blobIsGone: isGone)
    }
    var sequences: [UInt64] = []
    for word in arguments { sequences.append(try sequence(word)) }
    return .acknowledge(.only(sequences), blobIsGone: isGone)
  }

  /// `sub NAME [cache=C] [inflight=N] [batch=N] [ackwait=60s] [from=now]`.
  private func subscription() throws(OpFailure) -> Subscription {
    guard words.count >= 2 else { throw failure("a name is missing") }
    var builder = SubscriptionBuilder(name: String(words[1]), code: .unknownOp)
    for word in words.dropFirst(2) {
      let parts = word.split(separator: "=", maxSplits: 1)
      guard parts.count == 2, SubscriptionBuilder.fields.contains(String(parts[0])) else {
        throw failure("\"\(word.prefix(40))\" is none of cache=, inflight=, batch=, ackwait=, from=")
      }
      try builder.set(String(parts[0]), String(parts[1]))
    }
    return try builder.build()
  }
}

/// Checks the fields of a subscription, however they were written (JSON, short form, HTTP query).
package struct SubscriptionBuilder {
  package static let fields = ["cache", "inflight", "batch", "ackwait", "from"]

  private var subscription: Subscription
  private let code: EventErrorCode

  /// `code` is what a wrong field is answered with.
  package init(name: String, code: EventErrorCode) {
    subscription = Subscription(name: name)
    self.code = code
  }

  package mutating func set(_ field: String, _ value: String) throws(OpFailure) {
    switch field {
    case "cache":
      guard !value.isEmpty, !value.contains("/") else { throw OpFailure(code, "cache: no name of a cache") }
      subscription.cache = value
    case "inflight": subscription.inflight = try number(field, value, Subscription.inflightRange)
    case "batch": subscription.batch = try number(field, value, 0...Subscription.batchRange.upperBound)
    case "ackwait":
      guard let wait = DurationText.milliseconds(value), Subscription.ackWaitMillisecondsRange.contains(wait) else {
        throw OpFailure(code, "ackwait: no duration from 100ms to 7d")
      }
      subscription.ackWaitMilliseconds = wait
    case "from":
      switch value {
      case "oldest": subscription.start = .oldest
      case "now": subscription.start = .now
      default: throw OpFailure(code, "from: neither oldest nor now")
      }
    default: break
    }
  }

  package func build() throws(OpFailure) -> Subscription {
    guard Subscription.isValidName(subscription.name) else {
      throw OpFailure(code, "name: 1 to \(Limits.maxSubscriberNameBytes) letters, digits and . _ - : @")
    }
    var result = subscription
    result.batch = max(result.batch, 1)
    return result
  }

  private func number(_ field: String, _ text: String, _ range: ClosedRange<Int>) throws(OpFailure) -> Int {
    guard let value = Int(text), range.contains(value) else {
      throw OpFailure(code, "\(field): no number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }
}
