import EtcdAPI
import Keyspace
import NIOCore
import Primitives

import struct Foundation.Data

/// Messages at random, with a liking for the corners: zeros, empty fields, negative numbers, numbers that nobody knows.
struct RandomMessages {
  var random: SeededGenerator

  mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

  mutating func data() -> Data {
    switch Int.random(in: 0..<8, using: &random) {
    case 0: return Data()
    case 1: return Data([0])
    case 2: return Data(repeating: 7, count: Int.random(in: 120...300, using: &random))
    default:
      let count = Int.random(in: 1...12, using: &random)
      return Data((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
    }
  }

  mutating func integer() -> Int64 {
    switch Int.random(in: 0..<6, using: &random) {
    case 0: 0
    case 1: -1
    case 2: Int64.random(in: .min ... .max, using: &random)
    case 3: 1 << Int64.random(in: 0..<63, using: &random)
    default: Int64.random(in: 1..<300, using: &random)
    }
  }

  mutating func range() -> EtcdRangeRequest {
    var request = EtcdRangeRequest()
    request.key = data()
    request.rangeEnd = data()
    request.limit = integer()
    request.revision = integer()
    request.sortOrder = .init(rawValue: Int.random(in: 0...(chance(5) ? 9 : 2), using: &random))!
    request.sortTarget = .init(rawValue: Int.random(in: chance(5) ? -3...9 : 0...4, using: &random))!
    request.serializable = chance(50)
    request.keysOnly = chance(30)
    request.countOnly = chance(30)
    if chance(30) {
      request.minModRevision = integer()
      request.maxModRevision = integer()
      request.minCreateRevision = integer()
      request.maxCreateRevision = integer()
    }
    return request
  }

  mutating func put() -> EtcdPutRequest {
    var request = EtcdPutRequest()
    request.key = data()
    request.value = data()
    request.lease = chance(50) ? integer() : 0
    request.prevKv = chance(30)
    request.ignoreValue = chance(20)
    request.ignoreLease = chance(20)
    return request
  }

  mutating func delete() -> EtcdDeleteRangeRequest {
    var request = EtcdDeleteRangeRequest()
    request.key = data()
    request.rangeEnd = data()
    request.prevKv = chance(30)
    return request
  }

  mutating func compare() -> EtcdCompare {
    var compare = EtcdCompare()
    compare.result = .init(rawValue: Int.random(in: 0...(chance(10) ? 9 : 3), using: &random))!
    compare.target = .init(rawValue: Int.random(in: 0...(chance(10) ? 9 : 4), using: &random))!
    compare.key = data()
    compare.rangeEnd = chance(30) ? data() : Data()
    switch Int.random(in: 0..<6, using: &random) {
    case 0: compare.version = integer()
    case 1: compare.createRevision = integer()
    case 2: compare.modRevision = integer()
    case 3: compare.value = data()
    case 4: compare.lease = integer()
    default: break
    }
    return compare
  }

  mutating func operation(depth: Int) -> EtcdRequestOp {
    var operation = EtcdRequestOp()
    switch Int.random(in: 0..<16, using: &random) {
    case 0: break
    case 1...5: operation.requestRange = range()
    case 6...10: operation.requestPut = put()
    case 11...13: operation.requestDeleteRange = delete()
    default: if depth > 0 { operation.requestTxn = transaction(depth: depth - 1) }
    }
    return operation
  }

  mutating func transaction(depth: Int = 3) -> EtcdTxnRequest {
    var request = EtcdTxnRequest()
    for _ in 0..<Int.random(in: 0...3, using: &random) { request.compare.append(compare()) }
    for _ in 0..<Int.random(in: 0...4, using: &random) { request.success.append(operation(depth: depth)) }
    for _ in 0..<Int.random(in: 0...3, using: &random) { request.failure.append(operation(depth: depth)) }
    return request
  }

  mutating func message(_ kind: RequestKind) -> ByteBuffer {
    switch kind {
    case .range: range().wireBuffer
    case .put: put().wireBuffer
    case .delete: delete().wireBuffer
    case .transaction: transaction().wireBuffer
    case .keepAlive: EtcdLeaseKeepAliveRequest.with { $0.id = integer() }.wireBuffer
    }
  }

  // MARK: Answers

  mutating func record() -> KeyRecord {
    KeyRecord(
      key: Bytes(data()), value: Bytes(data()), createRevision: integer(), modRevision: integer(), version: integer(),
      lease: integer())
  }

  mutating func rangeResult() -> RangeResult {
    RangeResult(
      records: (0..<Int.random(in: 0...5, using: &random)).map { _ in record() }, count: integer(), more: chance(50),
      revision: integer())
  }

  mutating func deleteResult() -> DeleteResult {
    DeleteResult(
      deleted: chance(50) ? 0 : Int64.random(in: 1...5, using: &random),
      previous: (0..<Int.random(in: 0...3, using: &random)).map { _ in record() })
  }

  mutating func transactionResult(depth: Int = 3) -> TransactionResult {
    var results: [OperationResult] = []
    for _ in 0..<Int.random(in: 0...4, using: &random) {
      switch Int.random(in: 0..<(depth > 0 ? 6 : 5), using: &random) {
      case 0, 1: results.append(.range(rangeResult()))
      case 2: results.append(.put(previous: chance(50) ? record() : nil))
      case 3, 4: results.append(.delete(deleteResult()))
      default: results.append(.transaction(transactionResult(depth: depth - 1)))
      }
    }
    return TransactionResult(succeeded: chance(50), results: results)
  }
}
