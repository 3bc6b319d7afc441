import EtcdAPI
import Keyspace
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
    registry.serve("/etcdserverpb.KV/Range", context, range)
    registry.serve("/etcdserverpb.KV/Put", context, put)
    registry.serve("/etcdserverpb.KV/DeleteRange", context, deleteRange)
    registry.serve("/etcdserverpb.KV/Txn", context, transact)
    registry.serve("/etcdserverpb.KV/Compact", context, compact)
  }

  @Sendable
  private func range(_ request: EtcdRangeRequest, _ reply: UnaryReply<EtcdRangeResponse>) {
    do throws(GRPCStatus) {
      try RequestCheck.check(request)
    } catch {
      reply.fail(error)
      return
    }
    let query = RangeQuery(request)
    let read: @Sendable () throws(GRPCStatus) -> EtcdRangeResponse = { () throws(GRPCStatus) in
      do throws(KeyspaceError) {
        let result = try reader.read(query)
        context.metrics.ranges.add()
        return EtcdRangeResponse(result, header: context.header(revision: result.revision))
      } catch {
        throw EtcdErrors.status(for: error)
      }
    }
    if request.serializable {
      reply.answer(read)
    } else {
      context.afterBarrier(reply, read)
    }
  }

  @Sendable
  private func put(_ request: EtcdPutRequest, _ reply: UnaryReply<EtcdPutResponse>) {
    do throws(GRPCStatus) {
      try RequestCheck.check(request)
      try context.checkSize(requestBytes: reply.requestBytes)
    } catch {
      reply.fail(error)
      return
    }
    let wantsPrevious = request.prevKv
    context.propose(.put(PutRequest(request)), reply) { result in
      guard case .put(let previous, let revision) = result else { preconditionFailure("a put came to \(result)") }
      context.metrics.puts.add()
      return EtcdPutResponse(previous: wantsPrevious ? previous : nil, header: context.header(revision: revision))
    }
  }

  @Sendable
  private func deleteRange(_ request: EtcdDeleteRangeRequest, _ reply: UnaryReply<EtcdDeleteRangeResponse>) {
    do throws(GRPCStatus) {
      try RequestCheck.check(request)
      try context.checkSize(requestBytes: reply.requestBytes)
    } catch {
      reply.fail(error)
      return
    }
    context.propose(.delete(DeleteRequest(request)), reply) { result in
      guard case .delete(let deleted, let revision) = result else {
        preconditionFailure("a delete came to \(result)")
      }
      context.metrics.deletes.add()
      return EtcdDeleteRangeResponse(deleted, header: context.header(revision: revision))
    }
  }

  @Sendable
  private func transact(_ request: EtcdTxnRequest, _ reply: UnaryReply<EtcdTxnResponse>) {
    let transaction: TransactionRequest
    do throws(GRPCStatus) {
      try RequestCheck.check(request, maxOperations: context.settings.maxTxnOperations)
      transaction = TransactionRequest(request)
      if !transaction.isReadOnly { try context.checkSize(requestBytes: reply.requestBytes) }
    } catch {
      reply.fail(error)
      return
    }
    if transaction.isReadOnly {
      read(transaction, isSerializable: request.isSerializable, reply)
      return
    }
    context.propose(.transaction(transaction), reply) { result in
      guard case .transaction(let outcome, let revision) = result else {
        preconditionFailure("a transaction came to \(result)")
      }
      context.metrics.transactions.add()
      return TransactionAnswer.make(outcome, revision: revision, header: context.header(revision: revision))
    }
  }

  /// A transaction without changes needs no log entry; it is serializable when all its ranges are (etcd's rule).
  private func read(
    _ transaction: TransactionRequest, isSerializable: Bool, _ reply: UnaryReply<EtcdTxnResponse>
  ) {
    let read: @Sendable () throws(GRPCStatus) -> EtcdTxnResponse = { () throws(GRPCStatus) in
      do throws(KeyspaceError) {
        let (result, revision) = try reader.transact(transaction)
        context.metrics.transactions.add()
        return TransactionAnswer.make(result, revision: revision, header: context.header(revision: revision))
      } catch {
        throw EtcdErrors.status(for: error)
      }
    }
    if isSerializable {
      reply.answer(read)
    } else {
      context.afterBarrier(reply, read)
    }
  }

  /// `physical` needs no waiting: what is compacted is gone from memory when the command has been applied.
  @Sendable
  private func compact(_ request: EtcdCompactionRequest, _ reply: UnaryReply<EtcdCompactionResponse>) {
    context.propose(.compact(revision: request.revision), reply) { result in
      guard case .compacted(let revision) = result else { preconditionFailure("a compaction came to \(result)") }
      var response = EtcdCompactionResponse()
      response.header = context.header(revision: revision)
      return response
    }
  }
}
