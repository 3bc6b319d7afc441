import Primitives

/// What one subscriber has acknowledged: everything up to `floor`, and sparse ranges above it.
package struct SubscriberCursor: Hashable, Sendable {
  package private(set) var floor: UInt64
  /// Each range starts at `floor + 2` or later.
  package private(set) var above = SequenceSet()

  package init(floor: UInt64 = 0) { self.floor = floor }

  package func contains(_ sequence: UInt64) -> Bool { sequence <= floor || above.contains(sequence) }

  package mutating func insert(_ sequence: UInt64) { insert(sequence...sequence) }

  package mutating func insert(_ range: ClosedRange<UInt64>) {
    guard range.upperBound > floor else { return }
    above.insert(max(range.lowerBound, floor + 1)...range.upperBound)
    settleFloor()
  }

  /// Counts everything up to and with `sequence` as acknowledged.
  package mutating func advance(to sequence: UInt64) {
    guard sequence > floor else { return }
    floor = sequence
    above.removeAll(through: sequence)
    settleFloor()
  }

  /// The lowest number from `sequence` on that is not acknowledged.
  package func firstMissing(from sequence: UInt64) -> UInt64 {
    let start = max(sequence, floor + 1)
    return above.range(containing: start).map { $0.upperBound + 1 } ?? start
  }

  private mutating func settleFloor() {
    if let range = above.range(containing: floor + 1) {
      floor = range.upperBound
      above.removeAll(through: floor)
    }
  }

  func encode(into writer: inout ByteWriter) {
    writer.writeVarint(floor)
    above.encode(from: floor, into: &writer)
  }

  init(decoding reader: inout ByteReader) throws(DecodingFailure) {
    let at = reader.offset
    floor = try reader.readVarint()
    guard floor < .max else { throw .malformed(offset: at, "a floor beyond every sequence number") }
    above = try SequenceSet(from: floor, minimumGap: 2, decoding: &reader)
  }
}

/// Which caches a subscriber is told of, and which evictions therefore wait for it.
package enum SubscriberScope: Hashable, Sendable {
  case allCaches
  case cache(String)

  package func includes(_ cache: String) -> Bool {
    switch self {
    case .allCaches: true
    case .cache(let only): only == cache
    }
  }
}

/// What is kept of a subscriber: the value of the key `StoreLayout.subscriber`. Versioned binary form.
package struct SubscriberRecord: Hashable, Sendable {
  /// The journal's epoch that the cursor's numbers belong to.
  package var epoch: UInt32
  package var scope: SubscriberScope
  /// The first sequence number that is told to it: evictions before it (`from now`) do not wait for it, and are not
  /// acknowledged by it either.
  package var start: UInt64
  package var cursor: SubscriberCursor
  /// Events that were given up (after too many tries, or by `term`) and wait for `kick`. Not acknowledged.
  package var parked = SequenceSet()

  package init(epoch: UInt32, scope: SubscriberScope, start: UInt64 = 1, cursor: SubscriberCursor) {
    self.epoch = epoch
    self.scope = scope
    self.start = start
    self.cursor = cursor
  }

  private static let formatVersion: UInt8 = 1

  package func encoded() -> Bytes {
    var writer = ByteWriter(reserving: 32)
    writer.writeByte(Self.formatVersion)
    writer.writeFixed(epoch)
    switch scope {
    case .allCaches: writer.writeByte(0)
    case .cache(let name):
      writer.writeByte(1)
      writer.writeText(name)
    }
    writer.writeVarint(start)
    cursor.encode(into: &writer)
    parked.encode(from: 0, into: &writer)
    return Bytes(writer.bytes)
  }

  package init(decoding bytes: Bytes) throws(DecodingFailure) {
    var reader = ByteReader(bytes.array)
    let version = try reader.readByte()
    guard version == Self.formatVersion else { throw .unknownVersion(UInt64(version)) }
    epoch = try reader.readFixed()
    let at = reader.offset
    switch try reader.readByte() {
    case 0: scope = .allCaches
    case 1: scope = .cache(try reader.readText())
    default: throw .malformed(offset: at, "an unknown scope")
    }
    start = try reader.readVarint()
    cursor = try SubscriberCursor(decoding: &reader)
    parked = try SequenceSet(from: 0, minimumGap: 1, decoding: &reader)
    try reader.finish()
  }
}
