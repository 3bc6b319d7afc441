import Keyspace
import NIOCore
import Primitives

// The answers on the hot path, written straight from the keyspace's results into one buffer of the right size. The
// bytes are those that the generated messages would make.

/// etcdserverpb.ResponseHeader.
package struct AnswerHeader: Hashable, Sendable {
  package var clusterID: UInt64 = 0
  package var memberID: UInt64 = 0
  package var revision: Int64 = 0
  package var term: UInt64 = 0

  package init(clusterID: UInt64, memberID: UInt64, revision: Int64, term: UInt64) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.revision = revision
    self.term = term
  }

  /// As a field: tag and length included.
  var fieldSize: Int {
    ProtobufSize.message(
      ProtobufSize.varint(clusterID) + ProtobufSize.varint(memberID) + ProtobufSize.int64(revision)
        + ProtobufSize.varint(term))
  }

  func write(_ writer: inout ProtobufWriter) {
    writer.message(1) {
      $0.varint(4, term)
      $0.int64(3, revision)
      $0.varint(2, memberID)
      $0.varint(1, clusterID)
    }
  }
}

extension KeyRecord {
  /// mvccpb.KeyValue, as a field: tag and length included. Without the value when `keysOnly`.
  func fieldSize(keysOnly: Bool = false) -> Int {
    ProtobufSize.message(
      ProtobufSize.bytes(key) + ProtobufSize.int64(createRevision) + ProtobufSize.int64(modRevision)
        + ProtobufSize.int64(version) + (keysOnly ? 0 : ProtobufSize.bytes(value)) + ProtobufSize.int64(lease))
  }

  func write(_ number: UInt32, keysOnly: Bool = false, _ writer: inout ProtobufWriter) {
    writer.message(number) {
      $0.int64(6, lease)
      if !keysOnly { $0.bytes(5, value) }
      $0.int64(4, version)
      $0.int64(3, modRevision)
      $0.int64(2, createRevision)
      $0.bytes(1, key)
    }
  }
}

extension [KeyRecord] {
  fileprivate var fieldsSize: Int { reduce(0) { $0 + $1.fieldSize() } }

  fileprivate func write(_ number: UInt32, _ writer: inout ProtobufWriter) {
    for record in reversed() { record.write(number, &writer) }
  }
}

/// etcdserverpb.RangeResponse.
package struct RangeAnswer {
  package var header: AnswerHeader
  package var result: RangeResult

  package init(header: AnswerHeader, result: RangeResult) {
    self.header = header
    self.result = result
  }

  var size: Int {
    header.fieldSize + result.records.fieldsSize + ProtobufSize.bool(result.more) + ProtobufSize.int64(result.count)
  }

  func write(_ writer: inout ProtobufWriter) {
    writer.int64(4, result.count)
    writer.bool(3, result.more)
    result.records.write(2, &writer)
    header.write(&writer)
  }

  package var wireBuffer: ByteBuffer { wireBuffer(size: size) }

  /// `size`: as measured.
  func wireBuffer(size: Int) -> ByteBuffer { ProtobufWriter.write(size, write) }
}

/// etcdserverpb.PutResponse.
package struct PutAnswer {
  package var header: AnswerHeader
  package var previous: KeyRecord?

  package init(header: AnswerHeader, previous: KeyRecord?) {
    self.header = header
    self.previous = previous
  }

  var size: Int { header.fieldSize + (previous?.fieldSize() ?? 0) }

  func write(_ writer: inout ProtobufWriter) {
    previous?.write(2, &writer)
    header.write(&writer)
  }

  package var wireBuffer: ByteBuffer { ProtobufWriter.write(size, write) }
}

/// etcdserverpb.DeleteRangeResponse.
package struct DeleteAnswer {
  package var header: AnswerHeader
  package var result: DeleteResult

  package init(header: AnswerHeader, result: DeleteResult) {
    self.header = header
    self.result = result
  }

  var size: Int { header.fieldSize + ProtobufSize.int64(result.deleted) + result.previous.fieldsSize }

  func write(_ writer: inout ProtobufWriter) {
    result.previous.write(3, &writer)
    writer.int64(2, result.deleted)
    header.write(&writer)
  }

  package var wireBuffer: ByteBuffer { ProtobufWriter.write(size, write) }
}

/// etcdserverpb.LeaseKeepAliveResponse.
package struct KeepAliveAnswer {
  package var header: AnswerHeader
  package var id: LeaseID
  package var ttlSeconds: Int64

  package init(header: AnswerHeader, id: LeaseID, ttlSeconds: Int64) {
    self.header = header
    self.id = id
    self.ttlSeconds = ttlSeconds
  }

  package var wireBuffer: ByteBuffer {
    ProtobufWriter.write(header.fieldSize + ProtobufSize.int64(id) + ProtobufSize.int64(ttlSeconds)) {
      $0.int64(3, ttlSeconds)
      $0.int64(2, id)
      header.write(&$0)
    }
  }
}
