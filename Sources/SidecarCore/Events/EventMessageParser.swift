import Primitives

/// A line from the server as a consumer reads it. Lines of kinds that it does not know keep their sequence number, so
/// that it can acknowledge them.
package enum ReceivedMessage: Hashable, Sendable {
  case hello(EventMessage.Hello)
  case evict([EvictEvent])
  case cancel(sequence: UInt64, of: UInt64, EntryName, generation: UInt64)
  case heartbeat(head: UInt64, acknowledged: UInt64)
  case gap(first: UInt64)
  case ok(op: String)
  case failure(code: String, message: String, sequences: [UInt64])
  case other(kind: String, sequence: UInt64?)

  /// Nil for an empty line.
  package init?(parsingLine line: some Collection<UInt8>) throws(OpFailure) {
    let bytes = Array(line)
    guard bytes.contains(where: { $0 != 0x20 && $0 != 0x0d && $0 != 0x09 }) else { return nil }
    let value: JSONValue
    do { value = try JSONValue(parsing: bytes) } catch { throw OpFailure(.badjson, error.description) }
    let kind = try value.text("t")
    switch kind {
    case "hello":
      guard let epoch = UInt32(try value.text("epoch"), radix: 16) else {
        throw OpFailure(.badjson, "epoch: no hex number")
      }
      self = .hello(
        EventMessage.Hello(
          node: try value.text("node"), epoch: epoch, first: try value.sequence("first"),
          head: try value.sequence("head"), acknowledged: try value.sequence("acked")))
    case "evict":
      guard case .array(let items)? = value["items"] else {
        self = .evict([try EvictEvent(fields: value)])
        return
      }
      var events: [EvictEvent] = []
      for item in items { events.append(try EvictEvent(fields: item)) }
      self = .evict(events)
    case "cancel":
      self = .cancel(
        sequence: try value.sequence("seq"), of: try value.sequence("of"), try value.entry(),
        generation: try value.sequence("gen"))
    case "hb": self = .heartbeat(head: try value.sequence("head"), acknowledged: try value.sequence("acked"))
    case "gap": self = .gap(first: try value.sequence("first"))
    case "ok":
      guard case .text(let op)? = value["op"] else {
        self = .ok(op: "")
        return
      }
      self = .ok(op: op)
    case "err": self = try Self.failure(value)
    default:
      guard case .integer(let sequence)? = value["seq"], sequence > 0 else {
        self = .other(kind: kind, sequence: nil)
        return
      }
      self = .other(kind: kind, sequence: UInt64(sequence))
    }
  }

  private static func failure(_ value: JSONValue) throws(OpFailure) -> ReceivedMessage {
    var sequences: [UInt64] = []
    if case .integer(let sequence)? = value["seq"], sequence > 0 { sequences.append(UInt64(sequence)) }
    if case .array(let items)? = value["items"] {
      for item in items { sequences.append(try item.sequence("seq")) }
    }
    return .failure(code: try value.text("code"), message: try value.text("msg"), sequences: sequences)
  }
}

extension EvictEvent {
  fileprivate init(fields: JSONValue) throws(OpFailure) {
    guard let reason = EvictionReason(text: try fields.text("why")) else {
      throw OpFailure(.badjson, "why: an unknown reason")
    }
    guard let registered = TimestampText.milliseconds(try fields.text("registered")) else {
      throw OpFailure(.badjson, "registered: no time such as 2026-11-15T16:30:00Z")
    }
    let idle = try fields.integer("idle")
    let attempt = try fields.integer("try")
    guard (0...Int64.max / 1_000).contains(idle), let attempt = Int(exactly: attempt) else {
      throw OpFailure(.badjson, "idle: out of range")
    }
    self.init(
      sequence: try fields.sequence("seq"), entry: try fields.entry(), generation: try fields.sequence("gen"),
      reason: reason, sizeBytes: try fields.integer("size"), idleMilliseconds: idle * 1_000,
      registeredAtMilliseconds: registered, attempt: attempt)
  }
}

extension JSONValue {
  fileprivate func text(_ name: String) throws(OpFailure) -> String {
    guard case .text(let value)? = self[name] else { throw OpFailure(.badjson, "\(name): a text is missing") }
    return value
  }

  fileprivate func integer(_ name: String) throws(OpFailure) -> Int64 {
    guard case .integer(let value)? = self[name] else { throw OpFailure(.badjson, "\(name): a number is missing") }
    return value
  }

  /// 0 is what a head is before the first event.
  fileprivate func sequence(_ name: String) throws(OpFailure) -> UInt64 {
    guard let value = UInt64(exactly: try integer(name)) else { throw OpFailure(.badjson, "\(name): below 0") }
    return value
  }

  fileprivate func entry() throws(OpFailure) -> EntryName {
    let cache = try text("cache")
    if case .text(let encoded)? = self["key64"] {
      guard let key = Base64.bytes(of: encoded) else { throw OpFailure(.badjson, "key64: no base64") }
      return EntryName(cache: cache, key: key)
    }
    return EntryName(cache: cache, key: Bytes(try text("key")))
  }
}
