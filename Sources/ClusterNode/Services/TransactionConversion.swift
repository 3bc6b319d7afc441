import EtcdAPI
import Keyspace
import Primitives

extension TransactionRequest {
  /// The request must have passed `RequestCheck`.
  init(_ request: EtcdTxnRequest) {
    self.init(
      comparisons: request.compare.compactMap(Comparison.init), success: request.success.compactMap(Operation.init),
      failure: request.failure.compactMap(Operation.init))
  }

  /// Nothing but ranges, in both branches, however deep: it needs no log entry.
  var isReadOnly: Bool {
    (success + failure).allSatisfy { operation in
      switch operation {
      case .range: true
      case .put, .delete: false
      case .transaction(let inner): inner.isReadOnly
      }
    }
  }
}

extension EtcdTxnRequest {
  /// Every operation is a range that may be answered from this member's state.
  var isSerializable: Bool {
    (success + failure).allSatisfy { operation in
      guard case .requestRange(let range)? = operation.request else { return false }
      return range.serializable
    }
  }
}

extension Operation {
  /// Nil for an empty operation, which `RequestCheck` has refused.
  init?(_ operation: EtcdRequestOp) {
    switch operation.request {
    case .requestRange(let request): self = .range(RangeQuery(request))
    case .requestPut(let request): self = .put(PutRequest(request))
    case .requestDeleteRange(let request): self = .delete(DeleteRequest(request))
    case .requestTxn(let request): self = .transaction(TransactionRequest(request))
    case nil: return nil
    }
  }
}

extension Comparison {
  /// Nil for a comparison that always holds: etcd lets one pass whose result is none of the known ones (of a value
  /// it still demands that there be one, as of every comparison with a value).
  ///
  /// The target says which field is compared; a value given for another field counts as absent, that is, as zero.
  init?(_ compare: EtcdCompare) {
    let range = KeyRange(key: compare.key, rangeEnd: compare.rangeEnd)
    let result: CompareResult
    switch compare.result {
    case .equal: result = .equal
    case .greater: result = .greater
    case .less: result = .less
    case .notEqual: result = .notEqual
    case .UNRECOGNIZED:
      guard compare.target == .value else { return nil }
      self.init(range, .greater, .version(0))
      return
    }
    switch compare.target {
    case .version: self.init(range, result, .version(compare.version))
    case .create: self.init(range, result, .createRevision(compare.createRevision))
    case .mod: self.init(range, result, .modRevision(compare.modRevision))
    case .value: self.init(range, result, .value(Bytes(compare.value)))
    case .lease: self.init(range, result, .lease(compare.lease))
    case .UNRECOGNIZED:
      // A target that etcd does not know compares as equal.
      if result == .equal { return nil }
      self.init(range, .less, .version(.min))
    }
  }
}

/// Builds the answer to a transaction. The answers inside it carry their own revisions, as in etcd: what changes the
/// keyspace, or comes after such a change in the same transaction, has the new one; what comes before has the old one;
/// an inner transaction's header is there and empty.
struct TransactionAnswer {
  private let newRevision: Int64
  private let oldRevision: Int64
  private var changed = false

  private init(_ result: TransactionResult, revision: Int64) {
    newRevision = revision
    oldRevision = Self.changes(result) ? revision - 1 : revision
  }

  static func make(_ result: TransactionResult, revision: Int64, header: EtcdResponseHeader) -> EtcdTxnResponse {
    var answer = TransactionAnswer(result, revision: revision)
    return answer.response(result, header: header)
  }

  private mutating func response(_ result: TransactionResult, header: EtcdResponseHeader) -> EtcdTxnResponse {
    var response = EtcdTxnResponse()
    response.header = header
    response.succeeded = result.succeeded
    response.responses.reserveCapacity(result.results.count)
    for inner in result.results { response.responses.append(self.response(inner)) }
    return response
  }

  private mutating func response(_ result: OperationResult) -> EtcdResponseOp {
    var operation = EtcdResponseOp()
    switch result {
    case .range(let result):
      operation.responseRange = EtcdRangeResponse(result, header: header)
    case .put(let previous):
      changed = true
      operation.responsePut = EtcdPutResponse(previous: previous, header: header)
    case .delete(let result):
      changed = changed || result.deleted > 0
      operation.responseDeleteRange = EtcdDeleteRangeResponse(result, header: header)
    case .transaction(let result):
      operation.responseTxn = response(result, header: EtcdResponseHeader())
    }
    return operation
  }

  private var header: EtcdResponseHeader {
    var header = EtcdResponseHeader()
    header.revision = changed ? newRevision : oldRevision
    return header
  }

  private static func changes(_ result: TransactionResult) -> Bool { result.results.contains(where: changes) }

  private static func changes(_ result: OperationResult) -> Bool {
    switch result {
    case .range: false
    case .put: true
    case .delete(let result): result.deleted > 0
    case .transaction(let result): changes(result)
    }
  }
}
