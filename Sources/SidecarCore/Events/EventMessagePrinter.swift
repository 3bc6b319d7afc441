import Primitives

extension EventMessage {
  /// The lines of this message, each with its LF and at most `Limits.maxEventLineBytes` long (a batch is split where it
  /// must be).
  package func encodeLines(into bytes: inout [UInt8]) {
    switch self {
    case .evictBatch(let events): Self.encodeBatch(events, into: &bytes)
    default:
      var writer = JSONWriter(reserving: 256)
      writer.object { encodeFields(into: &$0) }
      writer.endLine()
      bytes.append(contentsOf: writer.bytes)
    }
  }

  package var line: String {
    var bytes: [UInt8] = []
    encodeLines(into: &bytes)
    return String(decoding: bytes, as: UTF8.self)
  }

  private func encodeFields(into writer: inout JSONWriter) {
    switch self {
    case .hello(let hello):
      writer.member("t", "hello")
      writer.member("v", hello.version)
      writer.member("node", hello.node)
      writer.member("epoch", String(hello.epoch, radix: 16))
      writer.member("first", hello.first)
      writer.member("head", hello.head)
      writer.member("acked", hello.acknowledged)
      writer.member("caps", texts: hello.capabilities)
    case .evict(let event):
      writer.member("t", "evict")
      event.encodeFields(into: &writer)
    case .evictBatch: preconditionFailure("a batch is encoded by encodeBatch")
    case .cancel(let sequence, let of, let entry, let generation):
      writer.member("t", "cancel")
      writer.member("seq", sequence)
      writer.member("of", of)
      writer.member("cache", entry.cache)
      writer.key(entry.key)
      writer.member("gen", generation)
    case .heartbeat(let head, let acknowledged):
      writer.member("t", "hb")
      writer.member("head", head)
      writer.member("acked", acknowledged)
    case .gap(let first):
      writer.member("t", "gap")
      writer.member("first", first)
    case .ok(let accepted):
      writer.member("t", "ok")
      accepted.encodeFields(into: &writer)
    case .failure(let refused):
      writer.member("t", "err")
      refused.encodeFields(into: &writer)
    }
  }

  /// Greedy: a line takes events while they fit.
  private static func encodeBatch(_ events: [EvictEvent], into bytes: inout [UInt8]) {
    let frameBytes = #"{"t":"evict","items":[]}"#.utf8.count + 1
    var line: [UInt8] = []
    func flush() {
      guard !line.isEmpty else { return }
      bytes.append(contentsOf: #"{"t":"evict","items":["#.utf8)
      bytes.append(contentsOf: line)
      bytes.append(contentsOf: "]}\n".utf8)
      line.removeAll(keepingCapacity: true)
    }
    for event in events {
      var writer = JSONWriter(reserving: 256)
      writer.object { event.encodeFields(into: &$0) }
      if line.count + 1 + writer.bytes.count + frameBytes > Limits.maxEventLineBytes { flush() }
      if !line.isEmpty { line.append(UInt8(ascii: ",")) }
      line.append(contentsOf: writer.bytes)
    }
    flush()
  }
}

extension EvictEvent {
  fileprivate func encodeFields(into writer: inout JSONWriter) {
    writer.member("seq", sequence)
    writer.member("cache", entry.cache)
    writer.key(entry.key)
    writer.member("gen", generation)
    writer.member("why", reason.text)
    writer.member("size", sizeBytes)
    writer.member("idle", idleMilliseconds / 1_000)
    writer.member("registered", TimestampText.text(milliseconds: registeredAtMilliseconds))
    writer.member("try", attempt)
  }
}

extension EventMessage.Accepted {
  fileprivate func encodeFields(into writer: inout JSONWriter) {
    switch self {
    case .acknowledged(let floor):
      writer.member("op", "ack")
      writer.member("acked", floor)
    case .one(let op, let sequence, let after):
      writer.member("op", op)
      writer.member("seq", sequence)
      if let after { writer.member("after", DurationText.text(milliseconds: after)) }
    case .plain(let op): writer.member("op", op)
    case .kicked(let count):
      writer.member("op", "kick")
      writer.member("events", count)
    case .statistics(let statistics):
      writer.member("op", "stat")
      writer.member("name", statistics.name)
      writer.member("head", statistics.head)
      writer.member("acked", statistics.acknowledged)
      writer.member("lag", statistics.lag)
      writer.member("unacked", statistics.unacknowledged)
      writer.member("parked", statistics.parked)
      writer.member("redelivered", statistics.redelivered)
      writer.member("paused", statistics.isPaused)
    }
  }
}

extension EventMessage.Refused {
  /// More than these are cut off, so that the line keeps its limit.
  private static let maxStaleShown = 500

  fileprivate func encodeFields(into writer: inout JSONWriter) {
    writer.member("code", code.rawValue)
    writer.member("msg", message)
    if stale.count == 1 {
      stale[0].encodeFields(into: &writer)
    } else if !stale.isEmpty {
      writer.array("items") { writer in
        for event in stale.prefix(Self.maxStaleShown) { writer.object { event.encodeFields(into: &$0) } }
      }
    }
  }
}

extension EventMessage.StaleEvent {
  fileprivate func encodeFields(into writer: inout JSONWriter) {
    writer.member("seq", sequence)
    if let livingGeneration { writer.member("gen", livingGeneration) }
  }
}
