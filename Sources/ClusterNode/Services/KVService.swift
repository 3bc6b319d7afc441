import EtcdAPI
import Keyspace
import NIOCore
import Primitives
import StateMachine
import Wire

/// etcdserverpb.KV.
struct KVService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>
  private let reader: RangeReader<Node>

  init(_ context: ServiceContext<Node>) {
    self.context = context
    reader = RangeReader(node: context.node)
  }

  func register(into registry: inout GRPCRegistry) {
    registry.serve("/etcdserverpb.KV/Range", context, onLearners: true, access: .open, range)
    registry.serve("/etcdserverpb.KV/Put", context, access: .open, put)
    registry.serve("/etcdserverpb.KV/DeleteRange", context, access: .open, deleteRange)
    registry.serve("/etcdserverpb.KV/Txn", context, access: .open, transact)
    registry.serve("/etcdserverpb.KV/Compact", context, access: .open, compact)
  }

  // MARK: Ranges

  @Sendable
  private func range(_ message: ByteBuffer, _ call: UnaryCall) throws(ProtobufError) {
    let request = try RangeCall(wire: message)
    do throws(GRPCStatus) {
      try RequestCheck.check(request.query)
    } catch {
      return call.fail(error)
    }
    if request.isSerializable {
      answer(request.query, call)
    } else if context.node.isLearner {
      call.fail(EtcdErrors.notSupportedForLearner)
    } else {
      context.afterBarrier(call) { answer(request.query, call) }
    }
  }

  private func answer(_ query: RangeQuery, _ call: UnaryCall) {
    do throws(GRPCStatus) {
      try context.authorize(call.caller) { (auth, caller) throws(AuthError) in
        try auth.check(caller, .read, query.range)
      }
    } catch {
      return call.fail(error)
    }
    switch reader.read(query) {
    case .done(.success(let result)):
      context.metrics.ranges.add()
      do throws(GRPCStatus) {
        try context.confirm(call.caller)
        call.succeed(try RangePayload(result, header: context.answerHeader(revision: result.revision)))
      } catch {
        call.fail(error)
      }
    case .done(.failure(let error)): call.fail(EtcdErrors.status(for: error))
    case .scan(let keyspace):
      RangeScan.run(call) { [context] () throws(GRPCStatus) in
        let header = context.answerHeader(revision: keyspace.revision)
        let payload = try RangeScan.read(query, in: keyspace, header: header)
        try context.confirm(call.caller)
        context.metrics.ranges.add()
        return payload
      }
    }
  }

  // MARK: Changes

  @Sendable
  private func put(_ message: ByteBuffer, _ call: UnaryCall) throws(ProtobufError) {
    let request = try PutRequest(wire: message)
    do throws(GRPCStatus) {
      try RequestCheck.check(request)
      try context.checkSize(requestBytes: call.requestBytes)
    } catch {
      return call.fail(error)
    }
    context.propose(.put(request), call) { context, result in
      guard case .put(let previous, let revision) = result else { preconditionFailure("a put came to \(result)") }
      context.metrics.puts.add()
      return PutAnswer(header: context.answerHeader(revision: revision), previous: previous).wireBuffer
    }
  }

  @Sendable
  private func deleteRange(_ message: ByteBuffer, _ call: UnaryCall) throws(ProtobufError) {
    let request = try DeleteRequest(wire: message)
    do throws(GRPCStatus) {
      try RequestCheck.check(request)
      try context.checkSize(requestBytes: call.requestBytes)
    } catch {
      return call.fail(error)
    }
    context.propose(.delete(request), call) { context, result in
      guard case .delete(let deleted, let revision) = result else {
        preconditionFailure("a delete came to \(result)")
      }
      context.metrics.deletes.add()
      return DeleteAnswer(header: context.answerHeader(revision: revision), result: deleted).wireBuffer
    }
  }

  // MARK: Transactions

  @Sendable
  private func transact(_ message: ByteBuffer, _ call: UnaryCall) throws(ProtobufError) {
    let transaction = try TransactionCall(wire: message)
    let isReadOnly = transaction.request.isReadOnly
    do throws(GRPCStatus) {
      try RequestCheck.check(transaction.request, maxOperations: context.settings.maxTxnOperations)
      if !isReadOnly { try context.checkSize(requestBytes: call.requestBytes) }
    } catch {
      return call.fail(error)
    }
    if isReadOnly { return read(transaction, call) }
    context.propose(.transaction(transaction.request), call) { context, result in
      guard case .transaction(let outcome, let revision) = result else {
        preconditionFailure("a transaction came to \(result)")
      }
      context.metrics.transactions.add()
      return TransactionAnswer(header: context.answerHeader(revision: revision), result: outcome).wireBuffer
    }
  }

  /// A transaction without changes needs no log entry; it is serializable when all its ranges are (etcd's rule).
  private func read(_ transaction: TransactionCall, _ call: UnaryCall) {
    if transaction.isSerializable {
      answer(transaction.request, call)
    } else {
      context.afterBarrier(call) { answer(transaction.request, call) }
    }
  }

  private func answer(_ transaction: TransactionRequest, _ call: UnaryCall) {
    do throws(GRPCStatus) {
      try context.authorize(
        call.caller,
        state: { (machine, caller) throws(AuthError) in
          try machine.check(transaction, by: caller)
        })
    } catch {
      return call.fail(error)
    }
    let (keyspace, isShort) = reader.prepare(transaction)
    let work: @Sendable () throws(GRPCStatus) -> RangePayload = { [context] () throws(GRPCStatus) in
      let payload: RangePayload
      do throws(KeyspaceError) {
        let result = try keyspace.answer(transaction)
        context.metrics.transactions.add()
        let header = context.answerHeader(revision: keyspace.revision)
        payload = .whole(TransactionAnswer(header: header, result: result).wireBuffer)
      } catch {
        throw EtcdErrors.status(for: error)
      }
      try context.confirm(call.caller)
      return payload
    }
    guard isShort else { return RangeScan.run(call, work) }
    do throws(GRPCStatus) { call.succeed(try work()) } catch { call.fail(error) }
  }

  // MARK: Compaction

  /// `physical` needs no waiting: what is compacted is gone from memory when the command has been applied.
  @Sendable
  private func compact(_ request: EtcdCompactionRequest, _ reply: UnaryReply<EtcdCompactionResponse>) {
    context.propose(.compact(revision: request.revision), reply) { [context] result in
      guard case .compacted(let revision) = result else { preconditionFailure("a compaction came to \(result)") }
      var response = EtcdCompactionResponse()
      response.header = context.header(revision: revision)
      return response
    }
  }
}
