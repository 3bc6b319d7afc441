import NIOCore
import StateMachine

// The cluster's members, as this one knows and changes them.

extension Node {
  package var members: [ClusterMember] { read { $0.cluster.members } }

  package var isLearner: Bool { published.isLearner }

  package var isCorrupt: Bool { published.isCorrupt }

  package func changeMembership(
    _ change: MemberChange, on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<[ClusterMember], MembershipError>) -> Void
  ) {
    propose([.member(change)], on: eventLoop) { outcome in
      switch outcome {
      case .failure(.membership(let refusal)): completion(.failure(.unready(refusal)))
      case .failure(let error): completion(.failure(.proposal(error)))
      case .success(let results):
        switch results[0] {
        case .members(let members, _): completion(.success(members))
        case .refused(.member(let refusal)): completion(.failure(.refused(refusal)))
        default: preconditionFailure("a change of members came to \(results[0])")
        }
      }
    }
  }

  package func transferLeadership(
    to target: UInt64, on eventLoop: any EventLoop,
    completion: @escaping @Sendable (Result<Void, TransferError>) -> Void
  ) {
    let waiter = Waiter(eventLoop: eventLoop) { outcome in
      switch outcome {
      case .success: completion(.success(()))
      case .failure(.badLeaderTransferee): completion(.failure(.badTransferee))
      case .failure(.notLeader): completion(.failure(.notLeader))
      case .failure(.stopped): completion(.failure(.stopped))
      case .failure: completion(.failure(.tookTooLong))
      }
    }
    post(transferTo: target, waiter)
  }
}
