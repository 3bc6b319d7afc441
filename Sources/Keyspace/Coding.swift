import Primitives

// The keyspace as bytes, format 1. It is what a snapshot carries; equal logical content gives equal bytes, whatever a
// compaction has or has not yet removed.
//
//     format          varint   1
//     revision        signed   current main revision, at least 1
//     compactRevision signed   -1 before the first compaction
//     versions        in the order they were made, each:
//       kind          byte     1 put · 2 + cause for a deletion
//       main          varint   distance from the version before (the first one: from 0)
//       sub           varint   rises inside a main revision
//       key           bytes    length as varint, then the bytes
//       of a put: value bytes · createRevision signed · version varint · lease signed
//     end             byte     0
//
// The index is not written: it is rebuilt from the versions.

private enum Coding {
  static let formatVersion: UInt64 = 1
  static let endTag: UInt8 = 0
  static let putTag: UInt8 = 1
  static let deleteTag: UInt8 = 2
  static let counterCeiling = Keyspace.revisionCeiling
}

extension Keyspace {
  package func encode(into writer: inout ByteWriter) {
    var encoder = KeyspaceEncoder(self)
    encoder.encode(into: &writer, upTo: .max)
  }

  /// Reads what `encode` wrote, and refuses what no history of a keyspace can look like.
  package init(decoding reader: inout ByteReader) throws(DecodingFailure) {
    self.init()
    var decoder = KeyspaceDecoder()
    try decoder.decode(from: &reader, into: &self) { _, _, _ in }
    guard decoder.isFinished else { throw .truncated(offset: reader.offset) }
  }

  fileprivate static func encode(_ version: StoredVersion, after main: inout Int64, into writer: inout ByteWriter) {
    switch version.kind {
    case .put: writer.writeByte(Coding.putTag)
    case .delete(let cause): writer.writeByte(Coding.deleteTag + cause.rawValue)
    }
    writer.writeVarint(UInt64(version.revision.main - main))
    main = version.revision.main
    writer.writeVarint(UInt64(version.revision.sub))
    writer.writeBytes(version.key)
    guard version.kind == .put else { return }
    writer.writeBytes(version.value)
    writer.writeSigned(version.createRevision)
    writer.writeVarint(UInt64(version.version))
    writer.writeSigned(version.lease)
  }
}

/// Writes a keyspace in pieces. Holds a copy of it.
package struct KeyspaceEncoder: Sendable {
  private let keyspace: Keyspace
  private var hasBegun = false
  /// Main revision of the last version written, and the first ordinal that has not been looked at.
  private var main: Int64 = 0
  private var nextOrdinal: UInt64 = 0
  package private(set) var isFinished = false

  package init(_ keyspace: Keyspace) { self.keyspace = keyspace }

  /// Goes on until `writer` holds `byteCount` bytes or a little more, or the keyspace is written.
  package mutating func encode(into writer: inout ByteWriter, upTo byteCount: Int) {
    if !hasBegun {
      hasBegun = true
      writer.writeVarint(Coding.formatVersion)
      writer.writeSigned(keyspace.revision)
      writer.writeSigned(keyspace.compactedRevision)
    }
    guard !isFinished, writer.count < byteCount else { return }
    let keyspace = keyspace
    var (main, nextOrdinal, isFinished) = (main, nextOrdinal, true)
    keyspace.log.forEach(from: main, at: nextOrdinal) { ordinal, version in
      nextOrdinal = ordinal + 1
      guard keyspace.isKept(version, ordinal: ordinal) else { return true }
      Keyspace.encode(version, after: &main, into: &writer)
      isFinished = writer.count < byteCount
      return isFinished
    }
    (self.main, self.nextOrdinal, self.isFinished) = (main, nextOrdinal, isFinished)
    if isFinished { writer.writeByte(Coding.endTag) }
  }
}

/// Reads what `KeyspaceEncoder` wrote, in pieces that end between versions.
package struct KeyspaceDecoder: Sendable {
  private var hasBegun = false
  private var last = Revision(main: 0)
  package private(set) var isFinished = false

  package init() {}

  /// Reads on until the keyspace is complete or `reader` is at its end.
  /// - Parameter didMove: told of each key whose lease has become another one: the key, the lease before and the one
  ///   now, 0 for none.
  package mutating func decode(
    from reader: inout ByteReader, into keyspace: inout Keyspace, didMove: (Bytes, LeaseID, LeaseID) -> Void
  ) throws(DecodingFailure) {
    if !hasBegun {
      hasBegun = true
      try Self.readHead(from: &reader, into: &keyspace)
    }
    while !isFinished, !reader.isAtEnd {
      let offset = reader.offset
      let tag = try reader.readByte()
      guard tag != Coding.endTag else {
        isFinished = true
        return
      }
      let version = try Self.decodeVersion(
        tag: tag, after: &last, upTo: keyspace.revision, from: &reader, at: offset)
      let (key, before) = try keyspace.restore(version, at: offset)
      if before != version.lease { didMove(key, before, version.lease) }
    }
  }

  private static func readHead(from reader: inout ByteReader, into keyspace: inout Keyspace) throws(DecodingFailure) {
    let format = try reader.readVarint()
    guard format == Coding.formatVersion else { throw .unknownVersion(format) }
    let start = reader.offset
    keyspace.revision = try reader.readSigned()
    keyspace.compactedRevision = try reader.readSigned()
    guard (1..<Coding.counterCeiling).contains(keyspace.revision),
      (-1...keyspace.revision).contains(keyspace.compactedRevision)
    else { throw .malformed(offset: start, "revisions that cannot be") }
  }

  private static func decodeVersion(
    tag: UInt8, after last: inout Revision, upTo revision: Int64, from reader: inout ByteReader, at offset: Int
  ) throws(DecodingFailure) -> StoredVersion {
    let distance = try reader.readVarint()
    guard distance <= UInt64(revision - last.main) else {
      throw .malformed(offset: offset, "a version beyond the revision")
    }
    let sub = try reader.readVarint()
    let place = Revision(main: last.main + Int64(distance), sub: Int64(clamping: sub))
    guard place.main > 0, place.sub < Coding.counterCeiling, last < place else {
      throw .malformed(offset: offset, "a version out of order")
    }
    last = place
    let key = try reader.readBytes()
    var record = KeyRecord(key: key, value: Bytes(), createRevision: 0, modRevision: place.main, version: 0)
    guard tag == Coding.putTag else {
      guard let cause = DeletionCause(rawValue: tag - Coding.deleteTag) else {
        throw .malformed(offset: offset, "a version of unknown kind")
      }
      return StoredVersion(record, sub: place.sub, kind: .delete(cause))
    }
    record.value = try reader.readBytes()
    record.createRevision = try reader.readSigned()
    let version = try reader.readVarint()
    record.version = Int64(clamping: version)
    record.lease = try reader.readSigned()
    guard (1...place.main).contains(record.createRevision), (1..<Coding.counterCeiling).contains(record.version) else {
      throw .malformed(offset: offset, "a version with counters that cannot be")
    }
    return StoredVersion(record, sub: place.sub, kind: .put)
  }
}

extension Keyspace {
  /// Appends a decoded version after checking that it continues its key's history. Answers the key as the index holds
  /// it and the lease that it had.
  fileprivate mutating func restore(
    _ version: StoredVersion, at offset: Int
  ) throws(DecodingFailure) -> (key: Bytes, leaseBefore: LeaseID) {
    var version = version
    let main = version.revision.main
    let reference = VersionReference(main: main, ordinal: log.nextOrdinal, isTombstone: version.kind != .put)
    let (key, before) = index.append(reference, to: version.key)
    version.key = key
    var previous: KeyRecord?
    if let before, !before.isTombstone { previous = log[before.ordinal].record }
    let isPossible: Bool
    if main <= compactedRevision {
      // Of what was compacted, one version a key is kept; a tombstone only of the compact revision itself.
      isPossible = before == nil && (version.kind == .put || main == compactedRevision)
    } else if version.kind == .put {
      isPossible =
        version.createRevision == previous?.createRevision ?? main && version.version == (previous?.version ?? 0) + 1
    } else {
      isPossible = previous != nil
    }
    guard isPossible else { throw .malformed(offset: offset, "a version that does not continue its key's history") }
    if version.kind == .put, previous == nil { keyCount += 1 }
    if version.kind != .put, previous != nil { keyCount -= 1 }
    log.append(version)
    return (key, previous?.lease ?? 0)
  }
}

extension Keyspace {
  /// etcd's HashKV idea: equal on members with equal history in (compactRevision, revision]. Covers every version
  /// kept at or below `revision` (0: the current one) with all its fields, in order. Throws `.compacted` below the
  /// compact revision and `.futureRevision` beyond the current one.
  package func hash(at revision: Int64) throws(KeyspaceError) -> UInt32 {
    guard revision <= self.revision else { throw .futureRevision }
    let last = revision > 0 ? revision : self.revision
    guard last >= compactedRevision else { throw .compacted(compactRevision: compactRevision) }
    var checksum: UInt32 = 0
    var main: Int64 = 0
    var writer = ByteWriter(reserving: Self.hashedBytesPerStep)
    log.forEach(from: 0) { ordinal, version in
      guard version.revision.main <= last else { return false }
      guard isKept(version, ordinal: ordinal) else { return true }
      Self.encode(version, after: &main, into: &writer)
      if writer.count >= Self.hashedBytesPerStep {
        checksum = CRC32C.checksum(writer.bytes, seed: checksum)
        writer.bytes.removeAll(keepingCapacity: true)
      }
      return true
    }
    return CRC32C.checksum(writer.bytes, seed: checksum)
  }

  private static let hashedBytesPerStep = 64 * 1024
}
