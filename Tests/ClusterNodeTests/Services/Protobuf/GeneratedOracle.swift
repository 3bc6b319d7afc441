import ClusterNode
import EtcdAPI
import Keyspace
import NIOCore
import Primitives

import struct Foundation.Data
import enum Keyspace.Operation
import enum Keyspace.SortOrder

// What the generated messages say, in the words of the hand-written coding: the plain way there, for comparison.

/// A request as both ways of decoding present it.
enum Decoded: Equatable {
  case range(RangeQuery, isSerializable: Bool)
  case put(PutRequest)
  case delete(DeleteRequest)
  case transaction(TransactionRequest, isSerializable: Bool)
  case keepAlive(LeaseID)
}

/// A kind of request, with its two decoders. Both throw errors that print alike.
enum RequestKind: CaseIterable {
  case range, put, delete, transaction, keepAlive

  func byHand(_ bytes: ByteBuffer) throws -> Decoded {
    switch self {
    case .range:
      let call = try RangeCall(wire: bytes)
      return .range(call.query, isSerializable: call.isSerializable)
    case .put: return .put(try PutRequest(wire: bytes))
    case .delete: return .delete(try DeleteRequest(wire: bytes))
    case .transaction:
      let call = try TransactionCall(wire: bytes)
      return .transaction(call.request, isSerializable: call.isSerializable)
    case .keepAlive: return .keepAlive(try KeepAliveCall(wire: bytes).id)
    }
  }

  func generated(_ bytes: ByteBuffer) throws -> Decoded {
    switch self {
    case .range:
      let request = try EtcdRangeRequest(wire: bytes)
      return .range(RangeQuery(request), isSerializable: request.serializable)
    case .put: return .put(PutRequest(try EtcdPutRequest(wire: bytes)))
    case .delete: return .delete(DeleteRequest(try EtcdDeleteRangeRequest(wire: bytes)))
    case .transaction:
      let request = try EtcdTxnRequest(wire: bytes)
      return .transaction(TransactionRequest(request), isSerializable: request.isSerializable)
    case .keepAlive: return .keepAlive(try EtcdLeaseKeepAliveRequest(wire: bytes).id)
    }
  }
}

extension Bytes {
  init(_ data: Data) { self.init(Array(data)) }
}

extension Data {
  init(_ bytes: Bytes) { self.init(bytes.array) }
}

extension RangeQuery {
  /// A negative limit stands for what cannot be served: -1 an unknown sort option, -2 an empty operation.
  init(_ request: EtcdRangeRequest) {
    self.init(
      KeyRange(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd)), revision: request.revision,
      limit: max(request.limit, 0))
    keysOnly = request.keysOnly
    countOnly = request.countOnly
    minModRevision = request.minModRevision
    maxModRevision = request.maxModRevision
    minCreateRevision = request.minCreateRevision
    maxCreateRevision = request.maxCreateRevision
    let orders: [SortOrder] = [.none, .ascend, .descend]
    let targets: [SortTarget] = [.key, .version, .create, .mod, .value]
    let (order, target) = (request.sortOrder.rawValue, request.sortTarget.rawValue)
    if orders.indices.contains(order), targets.indices.contains(target) {
      sortOrder = orders[order]
      sortTarget = targets[target]
    } else {
      limit = -1
    }
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
    self.init(KeyRange(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd)))
    wantsPrevious = request.prevKv
  }
}

extension TransactionRequest {
  init(_ request: EtcdTxnRequest) {
    self.init(
      comparisons: request.compare.map(Comparison.init), success: request.success.map(Operation.init),
      failure: request.failure.map(Operation.init))
  }
}

extension EtcdTxnRequest {
  var isSerializable: Bool {
    (success + failure).allSatisfy { operation in
      guard case .requestRange(let range)? = operation.request else { return false }
      return range.serializable
    }
  }
}

extension Operation {
  init(_ operation: EtcdRequestOp) {
    switch operation.request {
    case .requestRange(let request): self = .range(RangeQuery(request))
    case .requestPut(let request): self = .put(PutRequest(request))
    case .requestDeleteRange(let request): self = .delete(DeleteRequest(request))
    case .requestTxn(let request): self = .transaction(TransactionRequest(request))
    case nil: self = .range(RangeQuery(.single(Bytes()), limit: -2))
    }
  }
}

extension Comparison {
  /// What always holds is "a version above the least integer", what never does "below" it. A value, whatever it is
  /// compared by, wants the key to be there.
  init(_ compare: EtcdCompare) {
    let range = KeyRange(key: Bytes(compare.key), rangeEnd: Bytes(compare.rangeEnd))
    let results: [CompareResult] = [.equal, .greater, .less, .notEqual]
    guard results.indices.contains(compare.result.rawValue) else {
      self.init(range, .greater, .version(compare.target == .value ? 0 : .min))
      return
    }
    let result = results[compare.result.rawValue]
    switch compare.target {
    case .version: self.init(range, result, .version(compare.version))
    case .create: self.init(range, result, .createRevision(compare.createRevision))
    case .mod: self.init(range, result, .modRevision(compare.modRevision))
    case .value: self.init(range, result, .value(Bytes(compare.value)))
    case .lease: self.init(range, result, .lease(compare.lease))
    case .UNRECOGNIZED: self.init(range, result == .equal ? .greater : .less, .version(.min))
    }
  }
}

// MARK: Answers

extension EtcdResponseHeader {
  init(_ header: AnswerHeader) {
    self.init()
    clusterID = header.clusterID
    memberID = header.memberID
    revision = header.revision
    raftTerm = header.term
  }

  init(revision: Int64) {
    self.init()
    self.revision = revision
  }
}

extension EtcdKeyValue {
  init(_ record: KeyRecord) {
    self.init()
    key = Data(record.key)
    value = Data(record.value)
    createRevision = record.createRevision
    modRevision = record.modRevision
    version = record.version
    lease = record.lease
  }
}

extension EtcdRangeResponse {
  init(_ result: RangeResult, _ header: EtcdResponseHeader) {
    self.init()
    self.header = header
    kvs = result.records.map { EtcdKeyValue($0) }
    more = result.more
    count = result.count
  }
}

extension EtcdPutResponse {
  init(_ previous: KeyRecord?, _ header: EtcdResponseHeader) {
    self.init()
    self.header = header
    if let previous { prevKv = EtcdKeyValue(previous) }
  }
}

extension EtcdDeleteRangeResponse {
  init(_ result: DeleteResult, _ header: EtcdResponseHeader) {
    self.init()
    self.header = header
    deleted = result.deleted
    prevKvs = result.previous.map { EtcdKeyValue($0) }
  }
}

extension EtcdTxnResponse {
  /// `changed`: whether an operation before has changed the keyspace, which makes the inner revisions new ones.
  init(_ result: TransactionResult, _ header: EtcdResponseHeader, old: Int64, new: Int64, changed: inout Bool) {
    self.init()
    self.header = header
    succeeded = result.succeeded
    for operation in result.results {
      var response = EtcdResponseOp()
      switch operation {
      case .range(let result):
        response.responseRange = EtcdRangeResponse(result, EtcdResponseHeader(revision: changed ? new : old))
      case .put(let previous):
        changed = true
        response.responsePut = EtcdPutResponse(previous, EtcdResponseHeader(revision: new))
      case .delete(let result):
        changed = changed || result.deleted > 0
        response.responseDeleteRange = EtcdDeleteRangeResponse(
          result, EtcdResponseHeader(revision: changed ? new : old))
      case .transaction(let inner):
        response.responseTxn = EtcdTxnResponse(inner, EtcdResponseHeader(), old: old, new: new, changed: &changed)
      }
      responses.append(response)
    }
  }
}
