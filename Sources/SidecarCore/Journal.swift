import Primitives

/// What the journal carries: the order in which subscribers are told.
///
/// An `evict` item is written in the same commit as the guarded change of its record to EVICTING, before it. When that
/// guard fails (a hit won the race) the item is void: whoever delivers checks that the record is EVICTING under
/// exactly this sequence number and passes over the item otherwise.
package enum JournalItem: Hashable, Sendable {
  case evict(
    EntryName, generation: UInt64, reason: EvictionReason, sizeBytes: Int64, idleMilliseconds: Int64,
    registeredAtMilliseconds: Int64)
  /// The eviction delivered as `of` is off: the entry lives again as `generation`.
  case cancel(EntryName, of: UInt64, generation: UInt64)
}

/// The journal's head, at `StoreLayout.journalHead`. Every append is guarded by its value.
package struct JournalHead: Hashable, Sendable {
  /// Random, made with the journal: a subscriber that sees another epoch has nothing to compare sequence numbers with.
  package var epoch: UInt32
  /// The next sequence number to give. The first ever is 1.
  package var next: UInt64
  /// The oldest sequence number still kept.
  package var first: UInt64
  /// Random, drawn by the append (or trim) that wrote this head: no two appends write the same value, so that a guard
  /// on it tells them apart even when their sequence numbers coincide.
  package var appendID: UInt64

  package init(epoch: UInt32, next: UInt64 = 1, first: UInt64 = 1, appendID: UInt64 = 0) {
    self.epoch = epoch
    self.next = next
    self.first = first
    self.appendID = appendID
  }

  package func encoded() -> Bytes {
    var writer = ByteWriter(reserving: 24)
    writer.writeByte(1)
    writer.writeFixed(epoch)
    writer.writeVarint(next)
    writer.writeVarint(first)
    writer.writeFixed(appendID)
    return Bytes(writer.bytes)
  }

  package init(decoding bytes: Bytes) throws(DecodingFailure) {
    var reader = ByteReader(bytes.array)
    let version = try reader.readByte()
    guard version == 1 else { throw .unknownVersion(UInt64(version)) }
    epoch = try reader.readFixed()
    next = try reader.readVarint()
    first = try reader.readVarint()
    guard first >= 1, first <= next, next < UInt64(Int64.max) else {
      throw .malformed(offset: reader.offset, "sequence numbers out of order")
    }
    appendID = try reader.readFixed()
    try reader.finish()
  }
}

/// Consecutive items under one key. At most `Limits.maxJournalChunkItems` items, so that a storm costs few keys.
package struct JournalChunk: Hashable, Sendable {
  package var firstSequence: UInt64
  package var items: [JournalItem]

  package init(firstSequence: UInt64, items: [JournalItem]) {
    self.firstSequence = firstSequence
    self.items = items
  }

  package func encoded() -> Bytes {
    var writer = ByteWriter(reserving: items.count * 96)
    writer.writeByte(1)
    writer.writeVarint(firstSequence)
    writer.writeCount(items.count)
    for item in items {
      switch item {
      case .evict(let entry, let generation, let reason, let size, let idle, let registered):
        writer.writeByte(0)
        Self.write(entry, into: &writer)
        writer.writeVarint(generation)
        writer.writeByte(reason.rawValue)
        writer.writeSigned(size)
        writer.writeSigned(idle)
        writer.writeSigned(registered)
      case .cancel(let entry, let of, let generation):
        writer.writeByte(1)
        Self.write(entry, into: &writer)
        writer.writeVarint(of)
        writer.writeVarint(generation)
      }
    }
    return Bytes(writer.bytes)
  }

  package init(decoding bytes: Bytes) throws(DecodingFailure) {
    var reader = ByteReader(bytes.array)
    let version = try reader.readByte()
    guard version == 1 else { throw .unknownVersion(UInt64(version)) }
    firstSequence = try reader.readVarint()
    items = []
    for _ in 0..<(try reader.readCount(minimumSize: 5)) {
      let at = reader.offset
      switch try reader.readByte() {
      case 0:
        let entry = try Self.readEntry(&reader)
        let generation = try reader.readVarint()
        guard let reason = EvictionReason(rawValue: try reader.readByte()) else {
          throw .malformed(offset: at, "an unknown eviction reason")
        }
        items.append(
          .evict(
            entry, generation: generation, reason: reason, sizeBytes: try reader.readSigned(),
            idleMilliseconds: try reader.readSigned(), registeredAtMilliseconds: try reader.readSigned()))
      case 1:
        let entry = try Self.readEntry(&reader)
        let of = try reader.readVarint()
        items.append(.cancel(entry, of: of, generation: try reader.readVarint()))
      default: throw .malformed(offset: at, "an unknown kind of journal item")
      }
    }
    try reader.finish()
  }

  private static func write(_ entry: EntryName, into writer: inout ByteWriter) {
    writer.writeText(entry.cache)
    writer.writeBytes(entry.key)
  }

  private static func readEntry(_ reader: inout ByteReader) throws(DecodingFailure) -> EntryName {
    let cache = try reader.readText()
    return EntryName(cache: cache, key: try reader.readBytes())
  }
}
