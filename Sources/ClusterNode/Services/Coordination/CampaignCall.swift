import EtcdAPI
import Foundation
import NIOCore
import Wire

/// A call of Campaign: puts its key with what it would proclaim, and answers when it leads.
final class CampaignCall<Node: NodeHandle>: GRPCHandler {
  /// What the caller has put into the queue.
  private struct Candidate {
    var key: Data
    /// At which the key was created.
    var revision: Int64
    var lease: Int64
  }

  private let call: any GRPCCall
  private let context: ServiceContext<Node>
  private let calls: InnerCalls
  private var request: EtcdElectionCampaignRequest?
  private var candidate: Candidate?
  private var wait: QueueWait?

  init(_ call: any GRPCCall, _ context: ServiceContext<Node>, _ registry: GRPCRegistry) {
    self.call = call
    self.context = context
    calls = InnerCalls(registry, for: call)
  }

  func receive(_ message: ByteBuffer) {
    guard request == nil else { return }
    if let refusal = context.refusal(of: call) { return call.finish(refusal) }
    do {
      let request = try EtcdElectionCampaignRequest(wire: message)
      self.request = request
      calls.lease(request.lease) { lease in
        guard !self.call.isOver else { return }
        switch lease {
        case .failure(let error): self.call.finish(CoordinationErrors.inner(error))
        case .success(let lease): self.enqueue(request, lease: lease)
        }
      }
    } catch {
      call.finish(EtcdErrors.undecodable(error, streaming: false))
    }
  }

  func halfClosed() {
    if request == nil { call.finish(GRPCStatus(.internal, "the request message is missing")) }
  }

  func cancelled() {
    wait?.stop()
    wait = nil
    resign()
  }

  private func enqueue(_ request: EtcdElectionCampaignRequest, lease: Int64) {
    let keys = CoordinationKeys(name: request.name)
    let key = keys.own(lease: lease)
    let transaction = EtcdTxnRequest.with {
      $0.compare = [.isCreated(key, at: 0)]
      $0.success = [.put(key, request.value, lease: lease)]
      $0.failure = [.range(.with { $0.key = key })]
    }
    calls.transact(transaction) { answer in
      switch answer {
      case .failure(let error): self.call.finish(CoordinationErrors.inner(error))
      case .success(let answer):
        let known = answer.succeeded ? nil : answer.responses[0].responseRange.kvs.first
        let candidate = Candidate(key: key, revision: known?.createRevision ?? answer.header.revision, lease: lease)
        self.candidate = candidate
        guard !self.call.isOver else { return self.resign() }
        if let known, known.value != request.value {
          self.proclaim(request.value, candidate, keys, answer.header)
        } else {
          self.waitForTurn(keys, candidate, answer.header)
        }
      }
    }
  }

  /// The lease campaigns already, with another value.
  private func proclaim(
    _ value: Data, _ candidate: Candidate, _ keys: CoordinationKeys, _ header: EtcdResponseHeader
  ) {
    calls.proclaim(value, key: candidate.key, revision: candidate.revision, lease: candidate.lease) { outcome in
      guard !self.call.isOver else { return }
      switch outcome {
      case .success: self.waitForTurn(keys, candidate, header)
      case .failure(let error):
        self.call.finish(error)
        self.resign()
      }
    }
  }

  private func waitForTurn(_ keys: CoordinationKeys, _ candidate: Candidate, _ header: EtcdResponseHeader) {
    let wait = QueueWait(calls, keys, revision: candidate.revision) { error in
      self.wait = nil
      if let error { return self.call.finish(CoordinationErrors.inner(error)) }
      self.confirm(candidate, header)
    }
    self.wait = wait
    wait.start()
  }

  /// etcd does not look again; here nobody is told to lead whose lease ran out while it waited.
  private func confirm(_ candidate: Candidate, _ header: EtcdResponseHeader) {
    calls.range(.with { $0.key = candidate.key }) { answer in
      guard !self.call.isOver else { return }
      switch answer {
      case .failure(let error): self.call.finish(CoordinationErrors.inner(error))
      case .success(let found):
        guard found.kvs.first?.createRevision == candidate.revision else {
          return self.call.finish(CoordinationErrors.notLeader)
        }
        self.succeed(candidate, header)
      }
    }
  }

  private func succeed(_ candidate: Candidate, _ header: EtcdResponseHeader) {
    call.reply(
      EtcdElectionCampaignResponse.with {
        $0.header = header
        $0.leader.name = request?.name ?? Data()
        $0.leader.key = candidate.key
        $0.leader.rev = candidate.revision
        $0.leader.lease = candidate.lease
      }.wireBuffer)
  }

  private func resign() {
    guard let candidate else { return }
    self.candidate = nil
    calls.resign(key: candidate.key, revision: candidate.revision) { _ in }
  }
}
