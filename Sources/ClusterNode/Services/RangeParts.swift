import Keyspace
import NIOCore
import Primitives
import Wire

/// etcdserverpb.RangeResponse in parts: measured once, then made from front to back as the client takes it. What is
/// held meanwhile is one part, and a copy of the keyspace (which shares its storage) with a cursor or a selection; or the
/// records of a result, when those are few.
package final class RangeParts: GRPCMessageSource {
  /// About what one part has; a record is never cut.
  private static let partBytes = 64 * 1024

  private enum Records {
    case cursor(RangeCursor, keysOnly: Bool)
    case selection(RangeSelection, next: Int)
    case list(ArraySlice<KeyRecord>)
  }

  package let byteCount: Int
  private let header: AnswerHeader
  private let count: Int64
  private let more: Bool
  private var records: Records
  private var recordsLeft: Int
  private var wroteHeader = false
  private var bytesLeft: Int

  /// Of a query whose records are wanted in the order of their keys. Reads the whole range, to measure it.
  package init(_ query: RangeQuery, _ cursor: RangeCursor, header: AnswerHeader) {
    let limit = query.limit > 0 ? Int(clamping: query.limit) : .max
    var bytes = 0
    var measured = 0
    var probe = cursor
    probe.visit { record in
      bytes += record.fieldSize(keysOnly: query.keysOnly)
      measured += 1
      return measured < limit
    }
    let uncounted = probe.countRest()
    self.header = header
    count = Int64(measured + uncounted)
    more = uncounted > 0
    records = .cursor(cursor, keysOnly: query.keysOnly)
    recordsLeft = measured
    byteCount = header.fieldSize + bytes + ProtobufSize.bool(more) + ProtobufSize.int64(count)
    bytesLeft = byteCount
  }

  /// Of a query that asks for an order or for a part of the records.
  package init(_ query: RangeQuery, in keyspace: Keyspace, header: AnswerHeader) throws(KeyspaceError) {
    let selection = try RangeSelection(keyspace, query) { $0.fieldSize(keysOnly: query.keysOnly) }
    self.header = header
    count = selection.count
    more = selection.more
    recordsLeft = selection.recordCount
    byteCount =
      header.fieldSize + selection.measuredBytes + ProtobufSize.bool(selection.more)
      + ProtobufSize.int64(selection.count)
    bytesLeft = byteCount
    records = .selection(selection, next: 0)
  }

  package init(_ answer: RangeAnswer, size: Int) {
    header = answer.header
    count = answer.result.count
    more = answer.result.more
    records = .list(answer.result.records[...])
    recordsLeft = answer.result.records.count
    byteCount = size
    bytesLeft = size
  }

  /// All parts as one, for an answer that has turned out small.
  func whole() -> ByteBuffer {
    var whole = ByteBufferAllocator().buffer(capacity: byteCount)
    while whole.readableBytes < byteCount {
      var part = nextPart()
      whole.writeBuffer(&part)
    }
    return whole
  }

  // MARK: GRPCMessageSource

  package func nextPart() -> ByteBuffer {
    let (batch, keysOnly) = nextRecords()
    recordsLeft -= batch.count
    let (isFirst, isLast) = (!wroteHeader, recordsLeft == 0)
    wroteHeader = true
    let size =
      batch.reduce(0) { $0 + $1.fieldSize(keysOnly: keysOnly) } + (isFirst ? header.fieldSize : 0)
      + (isLast ? ProtobufSize.bool(more) + ProtobufSize.int64(count) : 0)
    bytesLeft -= size
    precondition(isLast ? bytesLeft == 0 : size > 0, "a range was measured wrong by \(bytesLeft) bytes")
    return ProtobufWriter.write(size) { writer in
      if isLast {
        writer.int64(4, count)
        writer.bool(3, more)
      }
      for record in batch.reversed() { record.write(2, keysOnly: keysOnly, &writer) }
      if isFirst { header.write(&writer) }
    }
  }

  private func nextRecords() -> (ArraySlice<KeyRecord>, keysOnly: Bool) {
    guard recordsLeft > 0 else { return ([], false) }
    var bytes = 0
    switch records {
    case .list(var list):
      var end = list.startIndex
      while end < list.endIndex, bytes < Self.partBytes {
        bytes += list[end].fieldSize()
        end += 1
      }
      let batch = list[..<end]
      list = list[end...]
      records = .list(list)
      return (batch, false)
    case .selection(let selection, var next):
      var batch: [KeyRecord] = []
      while next < selection.recordCount, bytes < Self.partBytes {
        batch.append(selection[next])
        bytes += batch[batch.count - 1].fieldSize()
        next += 1
      }
      records = .selection(selection, next: next)
      return (batch[...], false)
    case .cursor(var cursor, let keysOnly):
      var batch: [KeyRecord] = []
      cursor.visit { record in
        batch.append(record)
        bytes += record.fieldSize(keysOnly: keysOnly)
        return bytes < Self.partBytes && batch.count < recordsLeft
      }
      records = .cursor(cursor, keysOnly: keysOnly)
      return (batch[...], keysOnly)
    }
  }
}
