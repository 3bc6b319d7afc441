import Keyspace
import NIOCore
import Primitives

/// etcdserverpb.TxnResponse.
///
/// The answers inside it carry their own revisions, as in etcd: what changes the keyspace, or comes after such a change
/// in the same transaction, has the new one; what comes before has the old one; an inner transaction's header is there
/// and empty.
package struct TransactionAnswer {
  private let header: AnswerHeader
  private let result: TransactionResult
  /// The place of the first change among the operations, inner ones counted in order; those before it saw the old
  /// revision.
  private var firstChange = Int.max
  private var operationCount = 0

  /// `header.revision`: the keyspace's after the transaction.
  package init(header: AnswerHeader, result: TransactionResult) {
    self.header = header
    self.result = result
    look(for: result)
  }

  private mutating func look(for result: TransactionResult) {
    for operation in result.results {
      if case .transaction(let inner) = operation {
        look(for: inner)
      } else {
        if operation.changes, firstChange == .max { firstChange = operationCount }
        operationCount += 1
      }
    }
  }

  private func innerHeader(_ position: Int) -> AnswerHeader {
    let isOld = firstChange != .max && position < firstChange
    return AnswerHeader(clusterID: 0, memberID: 0, revision: isOld ? header.revision - 1 : header.revision, term: 0)
  }

  package var wireBuffer: ByteBuffer {
    var position = 0
    let size = header.fieldSize + size(result, &position)
    return ProtobufWriter.write(size) { writer in
      var position = operationCount
      write(result, &position, &writer)
      header.write(&writer)
    }
  }

  // MARK: Size, first operation first

  /// Of what follows the header.
  private func size(_ result: TransactionResult, _ position: inout Int) -> Int {
    var size = ProtobufSize.bool(result.succeeded)
    for operation in result.results {
      size += ProtobufSize.message(ProtobufSize.message(self.size(operation, &position)))
    }
    return size
  }

  private func size(_ operation: OperationResult, _ position: inout Int) -> Int {
    if case .transaction(let inner) = operation { return Self.emptyHeaderSize + size(inner, &position) }
    let header = innerHeader(position)
    position += 1
    switch operation {
    case .range(let result): return RangeAnswer(header: header, result: result).size
    case .put(let previous): return PutAnswer(header: header, previous: previous).size
    case .delete(let result): return DeleteAnswer(header: header, result: result).size
    case .transaction: preconditionFailure("an inner transaction is no operation of its own")
    }
  }

  private static let emptyHeaderSize = ProtobufSize.message(0)

  // MARK: Writing, last operation first

  private func write(_ result: TransactionResult, _ position: inout Int, _ writer: inout ProtobufWriter) {
    for operation in result.results.reversed() {
      writer.message(3) { write(operation, &position, &$0) }
    }
    writer.bool(2, result.succeeded)
  }

  private func write(_ operation: OperationResult, _ position: inout Int, _ writer: inout ProtobufWriter) {
    if case .transaction(let inner) = operation {
      writer.message(4) {
        write(inner, &position, &$0)
        $0.message(1) { _ in }
      }
      return
    }
    position -= 1
    let header = innerHeader(position)
    switch operation {
    case .range(let result): writer.message(1) { RangeAnswer(header: header, result: result).write(&$0) }
    case .put(let previous): writer.message(2) { PutAnswer(header: header, previous: previous).write(&$0) }
    case .delete(let result): writer.message(3) { DeleteAnswer(header: header, result: result).write(&$0) }
    case .transaction: preconditionFailure("an inner transaction is no operation of its own")
    }
  }
}

extension OperationResult {
  fileprivate var changes: Bool {
    switch self {
    case .range, .transaction: false
    case .put: true
    case .delete(let result): result.deleted > 0
    }
  }
}
