import EtcdAPI
import Foundation
import Keyspace
import Primitives

// Between etcd's messages and the keyspace's requests and results. One copy per key and value each way.

extension Bytes {
  init(_ data: Data) {
    self.init(
      [UInt8](unsafeUninitializedCapacity: data.count) { buffer, initialized in
        initialized = data.copyBytes(to: buffer)
      })
  }

  var data: Data { array.withUnsafeBytes { Data($0) } }
}

extension KeyRange {
  init(key: Data, rangeEnd: Data) { self.init(key: Bytes(key), rangeEnd: Bytes(rangeEnd)) }
}

extension RangeQuery {
  /// The request must have passed `RequestCheck`: sort options that are none count as the default here.
  init(_ request: EtcdRangeRequest) {
    // etcd reads any limit up to 0 as "none"; a negative revision too, but not inside a transaction.
    self.init(
      KeyRange(key: request.key, rangeEnd: request.rangeEnd), revision: request.revision, limit: max(request.limit, 0))
    sortTarget =
      switch request.sortTarget {
      case .version: .version
      case .create: .create
      case .mod: .mod
      case .value: .value
      case .key, .UNRECOGNIZED: .key
      }
    sortOrder =
      switch request.sortOrder {
      case .ascend: .ascend
      case .descend: .descend
      case .none, .UNRECOGNIZED: .none
      }
    keysOnly = request.keysOnly
    countOnly = request.countOnly
    minModRevision = request.minModRevision
    maxModRevision = request.maxModRevision
    minCreateRevision = request.minCreateRevision
    maxCreateRevision = request.maxCreateRevision
  }
}

extension PutRequest {
  init(_ request: EtcdPutRequest) {
    self.init(Bytes(request.key), Bytes(request.value), lease: request.lease)
    wantsPrevious = request.prevKv
    ignoresValue = request.ignoreValue
    ignoresLease = request.ignoreLease
  }
}

extension DeleteRequest {
  init(_ request: EtcdDeleteRangeRequest) {
    self.init(KeyRange(key: request.key, rangeEnd: request.rangeEnd))
    wantsPrevious = request.prevKv
  }
}

extension EtcdKeyValue {
  init(_ record: KeyRecord) {
    self.init()
    key = record.key.data
    value = record.value.data
    createRevision = record.createRevision
    modRevision = record.modRevision
    version = record.version
    lease = record.lease
  }
}

extension EtcdRangeResponse {
  init(_ result: RangeResult, header: EtcdResponseHeader) {
    self.init()
    self.header = header
    kvs = result.records.map(EtcdKeyValue.init)
    more = result.more
    count = result.count
  }
}

extension EtcdPutResponse {
  init(previous: KeyRecord?, header: EtcdResponseHeader) {
    self.init()
    self.header = header
    if let previous { prevKv = EtcdKeyValue(previous) }
  }
}

extension EtcdDeleteRangeResponse {
  init(_ result: DeleteResult, header: EtcdResponseHeader) {
    self.init()
    self.header = header
    deleted = result.deleted
    prevKvs = result.previous.map(EtcdKeyValue.init)
  }
}

extension EtcdEvent {
  init(_ event: KeyspaceEvent, wantsPrevious: Bool) {
    self.init()
    type =
      switch event.kind {
      case .put: .put
      case .delete: .delete
      }
    kv = EtcdKeyValue(event.record)
    if wantsPrevious, let previous = event.previous { prevKv = EtcdKeyValue(previous) }
  }
}
