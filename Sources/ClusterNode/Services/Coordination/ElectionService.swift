import EtcdAPI
import Foundation
import NIOCore
import SwiftProtobuf
import Wire

/// v3electionpb.Election. An election is a queue as a lock is; who leads has a value that all can read.
struct ElectionService<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>
  /// The methods that the service calls.
  private let inner: GRPCRegistry

  init(_ context: ServiceContext<Node>, inner: GRPCRegistry) {
    self.context = context
    self.inner = inner
  }

  func register(into registry: inout GRPCRegistry) {
    let (context, inner) = (context, inner)
    registry.register("/v3electionpb.Election/Campaign", kind: .unary) { call in CampaignCall(call, context, inner) }
    registry.register("/v3electionpb.Election/Observe", kind: .serverStream) { call in
      ElectionObserver(call, context, inner)
    }
    serve("/v3electionpb.Election/Proclaim", into: &registry, proclaim)
    serve("/v3electionpb.Election/Leader", into: &registry, leader)
    serve("/v3electionpb.Election/Resign", into: &registry, resign)
  }

  private func serve<Request: Message>(
    _ path: String, into registry: inout GRPCRegistry,
    _ serve: @escaping @Sendable (Request, any GRPCCall, InnerCalls) -> Void
  ) {
    let (context, inner) = (context, inner)
    registry.unary(path) { message, call in
      if let refusal = context.refusal(of: call) { return call.finish(refusal) }
      do {
        serve(try Request(wire: message), call, InnerCalls(inner, for: call))
      } catch {
        call.finish(EtcdErrors.undecodable(error, streaming: false))
      }
    }
  }

  @Sendable
  private func proclaim(_ request: EtcdElectionProclaimRequest, _ call: any GRPCCall, _ calls: InnerCalls) {
    guard request.hasLeader else { return call.finish(CoordinationErrors.leaderMissing) }
    let leader = request.leader
    calls.lease(leader.lease) { lease in
      switch lease {
      case .failure(let error): call.finish(CoordinationErrors.inner(error))
      case .success(let lease):
        calls.proclaim(request.value, key: leader.key, revision: leader.rev, lease: lease) { outcome in
          switch outcome {
          case .failure(let error): call.finish(error)
          case .success(let header):
            call.reply(EtcdElectionProclaimResponse.with { $0.header = header }.wireBuffer)
          }
        }
      }
    }
  }

  @Sendable
  private func leader(_ request: EtcdElectionLeaderRequest, _ call: any GRPCCall, _ calls: InnerCalls) {
    calls.range(CoordinationKeys(name: request.name).first) { answer in
      switch answer {
      case .failure(let error): call.finish(CoordinationErrors.inner(error))
      case .success(let found):
        guard let record = found.kvs.first else { return call.finish(CoordinationErrors.noLeader) }
        call.reply(EtcdElectionLeaderResponse(found.header, record).wireBuffer)
      }
    }
  }

  /// To resign from what one does not lead is no error.
  @Sendable
  private func resign(_ request: EtcdElectionResignRequest, _ call: any GRPCCall, _ calls: InnerCalls) {
    guard request.hasLeader else { return call.finish(CoordinationErrors.leaderMissing) }
    calls.resign(key: request.leader.key, revision: request.leader.rev) { answer in
      switch answer {
      case .failure(let error): call.finish(CoordinationErrors.inner(error))
      case .success(let answer):
        call.reply(EtcdElectionResignResponse.with { $0.header = answer.header }.wireBuffer)
      }
    }
  }
}

extension EtcdElectionLeaderResponse {
  init(_ header: EtcdResponseHeader, _ record: EtcdKeyValue) {
    self.init()
    self.header = header
    kv = record
  }
}

extension InnerCalls {
  /// Gives the leader's key another value, if it is still the leader's.
  func proclaim(
    _ value: Data, key: Data, revision: Int64, lease: Int64,
    then: @escaping (Result<EtcdResponseHeader, GRPCStatus>) -> Void
  ) {
    let transaction = EtcdTxnRequest.with {
      $0.compare = [.isCreated(key, at: revision)]
      $0.success = [.put(key, value, lease: lease)]
    }
    transact(transaction) { answer in
      switch answer {
      case .failure(let error): then(.failure(CoordinationErrors.inner(error)))
      case .success(let answer):
        then(answer.succeeded ? .success(answer.header) : .failure(CoordinationErrors.notLeader))
      }
    }
  }

  func resign(key: Data, revision: Int64, then: @escaping (Result<EtcdTxnResponse, GRPCStatus>) -> Void) {
    let transaction = EtcdTxnRequest.with {
      $0.compare = [.isCreated(key, at: revision)]
      $0.success = [.delete(key)]
    }
    transact(transaction, then: then)
  }
}
