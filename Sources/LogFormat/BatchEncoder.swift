import Primitives

/// Lays out one batch: a mark, then the records. One buffer, kept between batches, so that a batch is one contiguous
/// write: an iovec per record would pin every payload and cost the kernel more than the copy costs here.
///
/// `begin`, any number of `append`s, `seal`; then `bytes` is what to write and `chain` what the next batch continues.
package struct BatchEncoder: Sendable {
  package private(set) var bytes: [UInt8] = []
  /// The checksum of the last sealed record.
  package private(set) var chain: UInt32 = 0
  private var number: UInt64 = 0

  package init() {}

  /// True when no record has been added since `begin`.
  package var isEmpty: Bool { bytes.count <= LogLayout.batchMarkBytes }

  /// Starts batch `number` (from 1 in each segment), chained from `chain`.
  package mutating func begin(number: UInt64, chain: UInt32) {
    self.number = number
    self.chain = chain
    bytes.removeAll(keepingCapacity: true)
    appendZeros(LogLayout.batchMarkBytes)
  }

  package mutating func append(_ record: LogRecord) {
    appendHead(
      .entry, payloadBytes: LogLayout.entryHeadBytes + record.payload.count, fixedBytes: LogLayout.entryHeadBytes
    ) {
      $0.storeBytes(of: record.index.littleEndian, toByteOffset: 0, as: UInt64.self)
      $0.storeBytes(of: record.term.littleEndian, toByteOffset: 8, as: UInt64.self)
      $0.storeBytes(of: record.kind, toByteOffset: 16, as: UInt8.self)
    }
    bytes.append(contentsOf: record.payload)
  }

  package mutating func append(_ vote: PersistentVote) {
    appendHead(.vote, payloadBytes: LogLayout.votePayloadBytes, fixedBytes: LogLayout.votePayloadBytes) {
      $0.storeBytes(of: vote.term.littleEndian, toByteOffset: 0, as: UInt64.self)
      $0.storeBytes(of: vote.vote.littleEndian, toByteOffset: 8, as: UInt64.self)
      $0.storeBytes(of: vote.commit.littleEndian, toByteOffset: 16, as: UInt64.self)
    }
  }

  package mutating func append(_ base: LogBase, restartsLog: Bool) {
    let size = LogLayout.baseMarkPayloadBytes
    appendHead(.baseMark, payloadBytes: size, fixedBytes: size) {
      $0.storeBytes(of: base.index.littleEndian, toByteOffset: 0, as: UInt64.self)
      $0.storeBytes(of: base.term.littleEndian, toByteOffset: 8, as: UInt64.self)
      $0.storeBytes(of: restartsLog ? 1 : 0, toByteOffset: 16, as: UInt8.self)
    }
  }

  /// Fills in the mark, now that the body's length is known, and then all checksums in one pass.
  package mutating func seal(in segment: SegmentHead) {
    precondition(!isEmpty, "a batch without records")
    let bodyBytes = UInt32(bytes.count - LogLayout.batchMarkBytes)
    let check = segment.markCheck(number: number, bodyBytes: bodyBytes)
    let batch = number
    var running = chain
    bytes.withUnsafeMutableBytes { buffer in
      buffer.storeBytes(of: UInt32(LogLayout.markPayloadBytes).littleEndian, toByteOffset: 0, as: UInt32.self)
      buffer.storeBytes(of: RecordType.batchMark.rawValue, toByteOffset: 4, as: UInt8.self)
      let payload = LogLayout.recordHeadBytes
      buffer.storeBytes(of: batch.littleEndian, toByteOffset: payload, as: UInt64.self)
      buffer.storeBytes(of: bodyBytes.littleEndian, toByteOffset: payload + 8, as: UInt32.self)
      buffer.storeBytes(of: check.littleEndian, toByteOffset: payload + 12, as: UInt32.self)
      var offset = 0
      while offset < buffer.count {
        let length = Int(UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
        let end = offset + LogLayout.recordHeadBytes + length
        running = recordChecksum(UnsafeRawBufferPointer(buffer), at: offset, end: end, seed: running)
        buffer.storeBytes(of: running.littleEndian, toByteOffset: offset + 5, as: UInt32.self)
        offset = end
      }
    }
    chain = running
  }

  /// Gives memory back after an unusually large batch.
  package mutating func shrink(above limitBytes: Int) {
    if bytes.capacity > limitBytes { bytes = [] }
  }

  private mutating func appendZeros(_ count: Int) {
    bytes.append(contentsOf: repeatElement(0, count: count))
  }

  private mutating func appendHead(
    _ type: RecordType, payloadBytes: Int, fixedBytes: Int, fill: (UnsafeMutableRawBufferPointer) -> Void
  ) {
    withUnsafeTemporaryAllocation(byteCount: LogLayout.recordHeadBytes + fixedBytes, alignment: 8) { head in
      head.storeBytes(of: UInt32(payloadBytes).littleEndian, toByteOffset: 0, as: UInt32.self)
      head.storeBytes(of: type.rawValue, toByteOffset: 4, as: UInt8.self)
      head.storeBytes(of: 0, toByteOffset: 5, as: UInt32.self)
      fill(UnsafeMutableRawBufferPointer(rebasing: head[LogLayout.recordHeadBytes...]))
      bytes.append(contentsOf: UnsafeRawBufferPointer(head))
    }
  }
}

/// The checksum of the record in `offset..<end`: length and type, then the payload behind the checksum's own place.
func recordChecksum(_ bytes: UnsafeRawBufferPointer, at offset: Int, end: Int, seed: UInt32) -> UInt32 {
  let lengthAndType = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + 5]), seed: seed)
  return CRC32C.checksum(
    UnsafeRawBufferPointer(rebasing: bytes[offset + LogLayout.recordHeadBytes..<end]), seed: lengthAndType)
}
