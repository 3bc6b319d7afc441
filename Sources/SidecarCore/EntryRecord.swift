import Primitives

/// Why an entry was evicted: `why` on the event stream.
package enum EvictionReason: UInt8, Hashable, Sendable {
  case expired = 0
  case deleted = 1
  case size = 2
  case cascade = 3
}

/// What is kept of an entry from its registration until every subscriber has acknowledged its eviction.
/// Versioned binary value of the key `StoreLayout.record`.
package struct EntryRecord: Hashable, Sendable {
  package enum State: Hashable, Sendable {
    case live
    /// Decided; delivered under this sequence number of the journal.
    case evicting(sequence: UInt64, reason: EvictionReason)
  }

  package var state: State
  /// Counts the lives of this key from 1.
  package var generation: UInt64
  package var sizeBytes: Int64
  package var refs: [Bytes]
  package var labels: [String: String]
  /// Wall time of this life's registration, milliseconds since 1970: for people and for the janitor's "newer file" rule,
  /// never for deadlines.
  package var registeredAtMilliseconds: Int64
  /// The TTL this entry was registered with (without window and jitter).
  package var ttlMilliseconds: Int64
  /// Whether any subscriber has acknowledged this eviction: from then on a hit cannot stop it (410).
  package var acknowledged = false

  package init(
    state: State = .live, generation: UInt64 = 1, sizeBytes: Int64 = 0, refs: [Bytes] = [],
    labels: [String: String] = [:], registeredAtMilliseconds: Int64, ttlMilliseconds: Int64
  ) {
    self.state = state
    self.generation = generation
    self.sizeBytes = sizeBytes
    self.refs = refs
    self.labels = labels
    self.registeredAtMilliseconds = registeredAtMilliseconds
    self.ttlMilliseconds = ttlMilliseconds
  }

  private static let formatVersion: UInt8 = 1

  package func encoded() -> Bytes {
    var writer = ByteWriter(reserving: 48)
    writer.writeByte(Self.formatVersion)
    switch state {
    case .live:
      writer.writeByte(0)
    case .evicting(let sequence, let reason):
      writer.writeByte(1)
      writer.writeVarint(sequence)
      writer.writeByte(reason.rawValue)
    }
    writer.writeVarint(generation)
    writer.writeSigned(sizeBytes)
    writer.writeSigned(registeredAtMilliseconds)
    writer.writeSigned(ttlMilliseconds)
    writer.writeBool(acknowledged)
    writer.writeCount(refs.count)
    for ref in refs { writer.writeBytes(ref) }
    writer.writeCount(labels.count)
    for (name, value) in labels.sorted(by: { $0.key < $1.key }) {
      writer.writeText(name)
      writer.writeText(value)
    }
    return Bytes(writer.bytes)
  }

  package init(decoding bytes: Bytes) throws(DecodingFailure) {
    var reader = ByteReader(bytes.array)
    let version = try reader.readByte()
    guard version == Self.formatVersion else { throw .unknownVersion(UInt64(version)) }
    let at = reader.offset
    switch try reader.readByte() {
    case 0: state = .live
    case 1:
      let sequence = try reader.readVarint()
      guard let reason = EvictionReason(rawValue: try reader.readByte()) else {
        throw .malformed(offset: at, "an unknown eviction reason")
      }
      state = .evicting(sequence: sequence, reason: reason)
    default: throw .malformed(offset: at, "an unknown entry state")
    }
    generation = try reader.readVarint()
    sizeBytes = try reader.readSigned()
    registeredAtMilliseconds = try reader.readSigned()
    ttlMilliseconds = try reader.readSigned()
    acknowledged = try reader.readBool()
    refs = []
    for _ in 0..<(try reader.readCount()) { refs.append(try reader.readBytes()) }
    labels = [:]
    for _ in 0..<(try reader.readCount(minimumSize: 2)) {
      let name = try reader.readText()
      labels[name] = try reader.readText()
    }
    try reader.finish()
  }
}
