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

extension Keyspace {
  private static let formatVersion: UInt64 = 1
  private static let endTag: UInt8 = 0
  private static let putTag: UInt8 = 1
  private static let deleteTag: UInt8 = 2
  /// Above any revision and version that can be reached; leaves room to count on.
  private static let counterCeiling: Int64 = 1 << 62

  package func encode(into writer: inout ByteWriter) {
    writer.writeVarint(Self.formatVersion)
    writer.writeSigned(revision)
    writer.writeSigned(compactedRevision)
    var main: Int64 = 0
    log.forEach(from: 0) { ordinal, version in
      if isKept(version, ordinal: ordinal) { Self.encode(version, after: &main, into: &writer) }
      return true
    }
    writer.writeByte(Self.endTag)
  }

  private static func encode(_ version: StoredVersion, after main: inout Int64, into writer: inout ByteWriter) {
    switch version.kind {
    case .put: writer.writeByte(putTag)
    case .delete(let cause): writer.writeByte(deleteTag + cause.rawValue)
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

  /// Reads what `encode` wrote, and refuses what no history of a keyspace can look like.
  package init(decoding reader: inout ByteReader) throws(DecodingFailure) {
    self.init()
    let format = try reader.readVarint()
    guard format == Self.formatVersion else { throw .unknownVersion(format) }
    let start = reader.offset
    revision = try reader.readSigned()
    compactedRevision = try reader.readSigned()
    guard (1..<Self.counterCeiling).contains(revision), (-1...revision).contains(compactedRevision) else {
      throw .malformed(offset: start, "revisions that cannot be")
    }
    var last = Revision(main: 0)
    while true {
      let offset = reader.offset
      let tag = try reader.readByte()
      if tag == Self.endTag { return }
      let version = try Self.decodeVersion(tag: tag, after: &last, upTo: revision, from: &reader, at: offset)
      try restore(version, at: offset)
    }
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
    guard place.main > 0, place.sub < counterCeiling, last < place else {
      throw .malformed(offset: offset, "a version out of order")
    }
    last = place
    let key = try reader.readBytes()
    var record = KeyRecord(key: key, value: Bytes(), createRevision: 0, modRevision: place.main, version: 0)
    guard tag == putTag else {
      guard let cause = DeletionCause(rawValue: tag - deleteTag) else {
        throw .malformed(offset: offset, "a version of unknown kind")
      }
      return StoredVersion(record, sub: place.sub, kind: .delete(cause))
    }
    record.value = try reader.readBytes()
    record.createRevision = try reader.readSigned()
    let version = try reader.readVarint()
    record.version = Int64(clamping: version)
    record.lease = try reader.readSigned()
    guard (1...place.main).contains(record.createRevision), (1..<counterCeiling).contains(record.version) else {
      throw .malformed(offset: offset, "a version with counters that cannot be")
    }
    return StoredVersion(record, sub: place.sub, kind: .put)
  }

  /// Appends a decoded version after checking that it continues its key's history.
  private mutating func restore(_ version: StoredVersion, at offset: Int) throws(DecodingFailure) {
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
