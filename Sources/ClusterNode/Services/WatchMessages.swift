import Keyspace
import NIOCore
import Primitives

/// What one watch wants to see of an event.
struct WatchedFields: Equatable {
  var previous: Bool
  /// Our own clients may ask why a key was deleted.
  var deletionCause: Bool

  fileprivate var index: Int { (previous ? 1 : 0) | (deletionCause ? 2 : 0) }
}

/// The `events` of a WatchResponse, encoded once for all watches that are told of them, and the last message made of
/// it: watches on streams of their own mostly have the same ID, and then share even that.
///
/// Hand-written where everything else is generated: at a thousand watchers encoding is most of what an event costs.
/// The generated messages are the oracle in its tests.
struct EncodedWatchEvents {
  private struct Encoding {
    /// Each event with its tag and length.
    var bytes: ByteBuffer
    /// Where each event ends.
    var ends: [Int]
  }

  private var encodings: [Encoding?] = [nil, nil, nil, nil]
  private var knownHead: WatchMessageHead?
  private var lastMessage: (head: WatchMessageHead, fields: WatchedFields, message: ByteBuffer)?

  /// What stands before the events. Asks for the member's identity once for all watches.
  mutating func head(
    watch id: Int64, revision: Int64, _ identity: () -> (clusterID: UInt64, memberID: UInt64, term: UInt64)
  ) -> WatchMessageHead {
    if var head = knownHead {
      head.watchID = id
      return head
    }
    let (clusterID, memberID, term) = identity()
    let head = WatchMessageHead(
      clusterID: clusterID, memberID: memberID, term: term, revision: revision, watchID: id)
    knownHead = head
    return head
  }

  /// The whole response.
  mutating func message(
    _ head: WatchMessageHead, _ events: [KeyspaceEvent], _ fields: WatchedFields
  ) -> ByteBuffer {
    if let last = lastMessage, last.head == head, last.fields == fields { return last.message }
    let encoding = encoding(of: events, fields)
    let message = Self.message(head, encoding.bytes, 0..<encoding.bytes.readableBytes)
    lastMessage = (head, fields, message)
    return message
  }

  /// The response in parts that are smaller than `maxBytes`, but for single events that are not. All but the last say
  /// that more follows.
  mutating func fragments(
    _ head: WatchMessageHead, _ events: [KeyspaceEvent], _ fields: WatchedFields, maxBytes: Int
  ) -> [ByteBuffer] {
    let encoding = encoding(of: events, fields)
    let room = maxBytes - head.count - WatchMessageHead.fragmentMarkBytes
    guard encoding.bytes.readableBytes > room, events.count > 1 else { return [message(head, events, fields)] }
    var parts: [ByteBuffer] = []
    var start = 0
    var end = 0
    var more = head
    more.fragment = true
    for next in encoding.ends {
      if end > start, next - start > room {
        parts.append(Self.message(more, encoding.bytes, start..<end))
        start = end
      }
      end = next
    }
    parts.append(Self.message(head, encoding.bytes, start..<end))
    return parts
  }

  private mutating func encoding(of events: [KeyspaceEvent], _ fields: WatchedFields) -> Encoding {
    if let known = encodings[fields.index] { return known }
    let sizes = events.map { EventSizes($0, fields) }
    var ends: [Int] = []
    ends.reserveCapacity(events.count)
    var total = 0
    for size in sizes {
      total += 1 + ProtoSize.varint(UInt64(size.event)) + size.event
      ends.append(total)
    }
    var bytes = ByteBuffer()
    bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: total) { buffer in
      var writer = ProtoWriter(buffer.baseAddress!)
      for (event, size) in zip(events, sizes) { writer.event(event, size, fields) }
      precondition(writer.written == total, "an event's size was not foreseen")
      return total
    }
    let encoding = Encoding(bytes: bytes, ends: ends)
    encodings[fields.index] = encoding
    return encoding
  }

  private static func message(_ head: WatchMessageHead, _ events: ByteBuffer, _ range: Range<Int>) -> ByteBuffer {
    var message = ByteBuffer()
    let total = head.count + range.count
    message.writeWithUnsafeMutableBytes(minimumWritableBytes: total) { buffer in
      var writer = ProtoWriter(buffer.baseAddress!)
      writer.head(head)
      events.withUnsafeReadableBytes { writer.raw(UnsafeRawBufferPointer(rebasing: $0[range])) }
      return total
    }
    return message
  }
}

/// What stands before the events in a WatchResponse.
struct WatchMessageHead: Equatable {
  var clusterID: UInt64
  var memberID: UInt64
  var term: UInt64
  var revision: Int64
  var watchID: Int64
  var fragment = false

  static let fragmentMarkBytes = 2

  fileprivate var headerCount: Int {
    ProtoSize.field(clusterID) + ProtoSize.field(memberID) + ProtoSize.field(UInt64(bitPattern: revision))
      + ProtoSize.field(term)
  }

  fileprivate var count: Int {
    let header = headerCount
    return 1 + ProtoSize.varint(UInt64(header)) + header + ProtoSize.field(UInt64(bitPattern: watchID))
      + (fragment ? Self.fragmentMarkBytes : 0)
  }
}

/// Bytes of an event and of the records in it, without their tags and lengths.
private struct EventSizes {
  var record: Int
  var previous: Int?
  var event: Int

  init(_ event: KeyspaceEvent, _ fields: WatchedFields) {
    record = Self.size(event.record)
    self.event = 1 + ProtoSize.varint(UInt64(record)) + record
    if fields.previous, let before = event.previous {
      let size = Self.size(before)
      previous = size
      self.event += 1 + ProtoSize.varint(UInt64(size)) + size
    }
    if case .delete = event.kind { self.event += 2 + (fields.deletionCause ? ProtoWriter.causeBytes : 0) }
  }

  private static func size(_ record: KeyRecord) -> Int {
    ProtoSize.bytes(record.key) + ProtoSize.field(record.createRevision) + ProtoSize.field(record.modRevision)
      + ProtoSize.field(record.version) + ProtoSize.bytes(record.value) + ProtoSize.field(record.lease)
  }
}

/// Sizes of protobuf's parts. Fields whose number is below 16, so that a tag is one byte; zero and empty ones are left
/// out.
private enum ProtoSize {
  static func varint(_ value: UInt64) -> Int { (70 - (value | 1).leadingZeroBitCount) / 7 }

  static func field(_ value: UInt64) -> Int { value == 0 ? 0 : 1 + varint(value) }

  static func field(_ value: Int64) -> Int { field(UInt64(bitPattern: value)) }

  static func bytes(_ value: Bytes) -> Int {
    value.isEmpty ? 0 : 1 + varint(UInt64(value.count)) + value.count
  }
}

/// Writes a message's parts where there is room for them. The numbers are those of `rpc.proto` and `kv.proto`.
private struct ProtoWriter {
  /// `deletion_cause`, field 1000: a tag of two bytes and a small number.
  static let causeBytes = 3

  private let start: UnsafeMutableRawPointer
  private(set) var written = 0

  init(_ start: UnsafeMutableRawPointer) { self.start = start }

  mutating func head(_ head: WatchMessageHead) {
    byte(0x0a)
    varint(UInt64(head.headerCount))
    field(0x08, head.clusterID)
    field(0x10, head.memberID)
    field(0x18, UInt64(bitPattern: head.revision))
    field(0x20, head.term)
    field(0x10, UInt64(bitPattern: head.watchID))
    if head.fragment {
      byte(0x38)
      byte(1)
    }
  }

  mutating func event(_ event: KeyspaceEvent, _ sizes: EventSizes, _ fields: WatchedFields) {
    byte(0x5a)
    varint(UInt64(sizes.event))
    var cause: UInt8?
    if case .delete(let why) = event.kind {
      byte(0x08)
      byte(1)
      if fields.deletionCause { cause = why.number }
    }
    byte(0x12)
    varint(UInt64(sizes.record))
    record(event.record)
    if let size = sizes.previous, let previous = event.previous {
      byte(0x1a)
      varint(UInt64(size))
      record(previous)
    }
    if let cause {
      byte(0xc0)
      byte(0x3e)
      byte(cause)
    }
  }

  mutating func raw(_ bytes: UnsafeRawBufferPointer) {
    guard let source = bytes.baseAddress else { return }
    (start + written).copyMemory(from: source, byteCount: bytes.count)
    written += bytes.count
  }

  private mutating func record(_ record: KeyRecord) {
    field(0x0a, record.key)
    field(0x10, UInt64(bitPattern: record.createRevision))
    field(0x18, UInt64(bitPattern: record.modRevision))
    field(0x20, UInt64(bitPattern: record.version))
    field(0x2a, record.value)
    field(0x30, UInt64(bitPattern: record.lease))
  }

  private mutating func field(_ tag: UInt8, _ value: Bytes) {
    guard !value.isEmpty else { return }
    byte(tag)
    varint(UInt64(value.count))
    value.array.withUnsafeBytes { raw($0) }
  }

  private mutating func field(_ tag: UInt8, _ value: UInt64) {
    guard value != 0 else { return }
    byte(tag)
    varint(value)
  }

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest > 0x7f {
      byte(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    byte(UInt8(truncatingIfNeeded: rest))
  }

  private mutating func byte(_ value: UInt8) {
    (start + written).storeBytes(of: value, as: UInt8.self)
    written += 1
  }
}

extension DeletionCause {
  /// As `mvccpb.Event.DeletionCause` has it.
  fileprivate var number: UInt8 {
    switch self {
    case .deleted: 1
    case .leaseExpired: 2
    case .leaseRevoked: 3
    }
  }
}
