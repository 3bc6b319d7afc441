import Primitives

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How a segment ends. Offsets are bytes from the start of the file.
package enum SegmentVerdict: Hashable, Sendable {
  /// Only zeros from `end` on (or nothing).
  case clean(end: Int)
  /// The batch at this offset did not reach the disk whole before a crash and was never reported durable: cut it.
  case torn(at: Int)
  /// A record that was durable once is damaged, at this offset.
  case corrupt(at: Int, Damage)
}

package enum Damage: Hashable, Sendable, CustomStringConvertible {
  /// Durable data follows: a later batch, or a later segment.
  case durableDataFollows
  /// No sector of it is blank, so a torn write cannot be the cause.
  case notTorn
  /// The checksums are right and the content makes no sense.
  case malformed(String)

  package var description: String {
    switch self {
    case .durableDataFollows: "a bad record with durable records behind it"
    case .notTorn: "a bad record that is no torn write"
    case .malformed(let what): what
    }
  }
}

/// What reading a segment came to.
package struct SegmentScan: Hashable, Sendable {
  package var head: SegmentHead
  package var verdict: SegmentVerdict
  /// The checksum of the last whole record, the number of the next batch, and where it would start.
  package var chain: UInt32
  package var nextBatch: UInt64
  package var end: Int
}

/// Reads a segment's bytes: whole batches to `visit`, in order, and a verdict on what follows them.
/// Any input is safe: nothing is read outside of `bytes`, nothing is allocated for a claimed length.
package struct SegmentScanner {
  private let bytes: UnsafeRawBufferPointer
  private let head: SegmentHead
  private let isNewest: Bool
  private var chain: UInt32
  private var batch: UInt64 = 1
  private var offset = LogLayout.segmentHeadBytes
  private var found: [ScannedRecord] = []

  /// - Parameter isNewest: no later segment exists, so that a torn batch is possible.
  /// - Throws: when the head is damaged or of another format version. A head is synced before its file is named, so a
  ///   crash cannot cause that.
  package static func scan(
    _ bytes: [UInt8], isNewest: Bool, visit: (ScannedRecord) -> Void
  ) throws(DecodingFailure) -> SegmentScan {
    let head = try SegmentHead.decode(bytes)
    return bytes.withUnsafeBytes { buffer in
      var scanner = SegmentScanner(bytes: buffer, head: head, isNewest: isNewest)
      let verdict = scanner.run(visit)
      return SegmentScan(
        head: head, verdict: verdict, chain: scanner.chain, nextBatch: scanner.batch, end: scanner.offset)
    }
  }

  private init(bytes: UnsafeRawBufferPointer, head: SegmentHead, isNewest: Bool) {
    self.bytes = bytes
    self.head = head
    self.isNewest = isNewest
    self.chain = head.chain
  }

  private mutating func run(_ visit: (ScannedRecord) -> Void) -> SegmentVerdict {
    while true {
      let markEnd = min(offset + LogLayout.batchMarkBytes, bytes.count)
      if isBlank(offset..<markEnd), isBlank(offset..<bytes.count) { return .clean(end: offset) }
      if let verdict = readBatch() { return verdict }
      for record in found { visit(record) }
    }
  }

  /// Reads the batch at `offset` into `found` and steps behind it, or returns the verdict on it.
  private mutating func readBatch() -> SegmentVerdict? {
    found.removeAll(keepingCapacity: true)
    let start = offset
    let bodyStart = start + LogLayout.batchMarkBytes
    guard let mark = mark(at: start), mark.number == batch,
      recordChecksum(bytes, at: start, end: bodyStart, seed: chain) == storedChecksum(at: start)
    else { return judge(badAt: start, until: min(bodyStart, bytes.count)) }
    // A mark is complete (it has its check), and a file grows before a batch is written into the growth.
    guard mark.bodyBytes > 0, mark.bodyBytes <= bytes.count - bodyStart else {
      return .corrupt(at: start, .malformed("a batch longer than its segment"))
    }
    let end = bodyStart + mark.bodyBytes
    var running = storedChecksum(at: start)
    var position = bodyStart
    while position < end {
      guard let recordEnd = recordEnd(at: position, limit: end),
        recordChecksum(bytes, at: position, end: recordEnd, seed: running) == storedChecksum(at: position)
      else { return judge(badAt: position, until: end) }
      guard let record = decode(at: position, end: recordEnd) else {
        return .corrupt(at: position, .malformed("a record of an unknown kind"))
      }
      found.append(record)
      running = storedChecksum(at: position)
      position = recordEnd
    }
    chain = running
    batch += 1
    offset = end
    return nil
  }

  /// Torn or corrupt? `until` bounds the bytes among which a torn write must have left a blank sector.
  private func judge(badAt bad: Int, until: Int) -> SegmentVerdict {
    guard isNewest, !laterMarkExists(behind: bad) else { return .corrupt(at: bad, .durableDataFollows) }
    return hasBlankSector(in: bad..<until) ? .torn(at: offset) : .corrupt(at: bad, .notTorn)
  }

  /// Whether a batch later than the current one was begun somewhere behind `bad`.
  private func laterMarkExists(behind bad: Int) -> Bool {
    var position = bad + 1
    while position + LogLayout.batchMarkBytes <= bytes.count {
      if let mark = mark(at: position), mark.number > batch { return true }
      position += 1
    }
    return false
  }

  /// Whether some sector holds nothing but zeros where it overlaps the range.
  private func hasBlankSector(in range: Range<Int>) -> Bool {
    var start = range.lowerBound
    while start < range.upperBound {
      let end = min((start / LogLayout.sectorBytes + 1) * LogLayout.sectorBytes, range.upperBound)
      if isBlank(start..<end) { return true }
      start = end
    }
    return false
  }

  private func isBlank(_ range: Range<Int>) -> Bool {
    guard !range.isEmpty else { return true }
    guard bytes[range.lowerBound] == 0 else { return false }
    let first = bytes.baseAddress! + range.lowerBound
    return memcmp(first, first + 1, range.count - 1) == 0
  }

  /// The mark at this offset, if its own check says that it is one.
  private func mark(at offset: Int) -> (number: UInt64, bodyBytes: Int)? {
    guard offset + LogLayout.batchMarkBytes <= bytes.count,
      load(UInt32.self, at: offset) == UInt32(LogLayout.markPayloadBytes),
      bytes[offset + 4] == RecordType.batchMark.rawValue
    else { return nil }
    let payload = offset + LogLayout.recordHeadBytes
    let number = load(UInt64.self, at: payload)
    let bodyBytes = load(UInt32.self, at: payload + 8)
    guard load(UInt32.self, at: payload + 12) == head.markCheck(number: number, bodyBytes: bodyBytes) else {
      return nil
    }
    return (number, Int(bodyBytes))
  }

  /// Where the record at `offset` ends, if its length fits before `limit`.
  private func recordEnd(at offset: Int, limit: Int) -> Int? {
    let payload = offset + LogLayout.recordHeadBytes
    guard payload <= limit else { return nil }
    let length = Int(load(UInt32.self, at: offset))
    return length <= limit - payload ? payload + length : nil
  }

  private func decode(at offset: Int, end: Int) -> ScannedRecord? {
    let payload = offset + LogLayout.recordHeadBytes
    let length = end - payload
    switch RecordType(rawValue: bytes[offset + 4]) {
    case .entry where length >= LogLayout.entryHeadBytes:
      return .entry(
        index: load(UInt64.self, at: payload), term: load(UInt64.self, at: payload + 8), kind: bytes[payload + 16],
        payload: payload + LogLayout.entryHeadBytes..<end)
    case .vote where length == LogLayout.votePayloadBytes:
      return .vote(
        PersistentVote(
          term: load(UInt64.self, at: payload), vote: load(UInt64.self, at: payload + 8),
          commit: load(UInt64.self, at: payload + 16)))
    case .baseMark where length == LogLayout.baseMarkPayloadBytes && bytes[payload + 16] <= 1:
      return .base(
        LogBase(index: load(UInt64.self, at: payload), term: load(UInt64.self, at: payload + 8)),
        restartsLog: bytes[payload + 16] == 1)
    default:
      return nil
    }
  }

  private func storedChecksum(at offset: Int) -> UInt32 { load(UInt32.self, at: offset + 5) }

  /// The caller has checked that the bytes are there.
  private func load<T: FixedWidthInteger>(_ type: T.Type, at offset: Int) -> T {
    T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: type))
  }
}
