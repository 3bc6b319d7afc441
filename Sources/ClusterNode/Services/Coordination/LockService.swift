import EtcdAPI
import Foundation
import NIOCore
import Wire

/// v3lockpb.Lock.
enum LockService {
  /// `registry` as it is now has the methods that the service calls.
  static func register(into registry: inout GRPCRegistry, _ context: ServiceContext<some NodeHandle>) {
    let inner = registry
    registry.register("/v3lockpb.Lock/Lock", kind: .unary) { call in LockCall(call, context, inner) }
    registry.unary("/v3lockpb.Lock/Unlock") { message, call in unlock(message, call, context, inner) }
  }

  private static func unlock(
    _ message: ByteBuffer, _ call: any GRPCCall, _ context: ServiceContext<some NodeHandle>, _ inner: GRPCRegistry
  ) {
    if let refusal = context.refusal(of: call) { return call.finish(refusal) }
    do {
      let request = try EtcdLockUnlockRequest(wire: message)
      InnerCalls(inner, for: call).delete(.with { $0.key = request.key }) { answer in
        switch answer {
        case .failure(let error): call.finish(CoordinationErrors.inner(error))
        case .success(let deleted): call.reply(EtcdLockUnlockResponse.with { $0.header = deleted.header }.wireBuffer)
        }
      }
    } catch {
      call.finish(EtcdErrors.undecodable(error, streaming: false))
    }
  }
}

/// A call of Lock: puts its key, and answers when it is the first.
final class LockCall<Node: NodeHandle>: GRPCHandler {
  private let call: any GRPCCall
  private let context: ServiceContext<Node>
  private let calls: InnerCalls
  private var isStarted = false
  private var key: Data?
  private var wait: QueueWait?

  init(_ call: any GRPCCall, _ context: ServiceContext<Node>, _ registry: GRPCRegistry) {
    self.call = call
    self.context = context
    calls = InnerCalls(registry, for: call)
  }

  func receive(_ message: ByteBuffer) {
    guard !isStarted else { return }
    isStarted = true
    if let refusal = context.refusal(of: call) { return call.finish(refusal) }
    do {
      let request = try EtcdLockLockRequest(wire: message)
      calls.lease(request.lease) { lease in
        guard !self.call.isOver else { return }
        switch lease {
        case .failure(let error): self.call.finish(CoordinationErrors.inner(error))
        case .success(let lease): self.enqueue(CoordinationKeys(name: request.name), lease: lease)
        }
      }
    } catch {
      call.finish(EtcdErrors.undecodable(error, streaming: false))
    }
  }

  func halfClosed() {
    if !isStarted { call.finish(GRPCStatus(.internal, "the request message is missing")) }
  }

  /// Nobody waits for the lock any more: whoever is next must not wait for the lease to run out.
  func cancelled() {
    wait?.stop()
    wait = nil
    release()
  }

  /// As etcd's, a caller that holds the lock by this lease already, or waits for it, shares that key.
  private func enqueue(_ keys: CoordinationKeys, lease: Int64) {
    let key = keys.own(lease: lease)
    let transaction = EtcdTxnRequest.with {
      $0.compare = [.isCreated(key, at: 0)]
      $0.success = [.put(key, Data(), lease: lease), .range(keys.first)]
      $0.failure = [.range(.with { $0.key = key }), .range(keys.first)]
    }
    calls.transact(transaction) { answer in
      switch answer {
      case .failure(let error): self.call.finish(CoordinationErrors.inner(error))
      case .success(let answer):
        self.key = key
        guard !self.call.isOver else { return self.release() }
        let own = answer.succeeded ? nil : answer.responses[0].responseRange.kvs.first
        let revision = own?.createRevision ?? answer.header.revision
        let owner = answer.responses[1].responseRange.kvs.first
        if owner == nil || owner?.createRevision == revision { return self.succeed(key, answer.header) }
        self.waitForTurn(keys, key, revision)
      }
    }
  }

  private func waitForTurn(_ keys: CoordinationKeys, _ key: Data, _ revision: Int64) {
    let wait = QueueWait(calls, keys, revision: revision) { error in
      self.wait = nil
      if let error { return self.fail(error) }
      self.confirm(key, revision)
    }
    self.wait = wait
    wait.start()
  }

  /// The lease may have run out while its owner waited.
  private func confirm(_ key: Data, _ revision: Int64) {
    calls.range(.with { $0.key = key }) { answer in
      guard !self.call.isOver else { return }
      switch answer {
      case .failure(let error): self.fail(error)
      case .success(let found):
        if found.kvs.first?.createRevision == revision {
          self.succeed(key, found.header)
        } else {
          self.call.finish(CoordinationErrors.sessionExpired)
        }
      }
    }
  }

  private func succeed(_ key: Data, _ header: EtcdResponseHeader) {
    call.reply(
      EtcdLockLockResponse.with {
        $0.header = header
        $0.key = key
      }.wireBuffer)
  }

  private func fail(_ error: GRPCStatus) {
    call.finish(CoordinationErrors.inner(error))
    release()
  }

  /// What becomes of it nobody asks; the lease bounds it anyway.
  private func release() {
    guard let key else { return }
    self.key = nil
    calls.delete(.with { $0.key = key }) { _ in }
  }
}
