import Raft

// Linearizable reads: a barrier is confirmed by the leader and answered when its index has been applied.

extension NodeLoop {
  func confirmBarriers(_ context: UInt64, at index: LogIndex) {
    guard let confirmed = barriers[context] else { return }
    barriers[context] = confirmed.map { Barrier(eventLoop: $0.eventLoop, completion: $0.completion, index: index) }
  }

  func refuseBarriers(_ context: UInt64) {
    for barrier in barriers.removeValue(forKey: context) ?? [] {
      barrier.eventLoop.execute { barrier.completion(.failure(.noLeader)) }
    }
  }

  func answerBarriers() {
    guard !barriers.isEmpty else { return }
    let appliedIndex = applied.withLock { $0.machine.appliedIndex }
    for (context, group) in barriers where group.allSatisfy({ ($0.index ?? .max) <= appliedIndex }) {
      barriers[context] = nil
      for barrier in group { barrier.eventLoop.execute { barrier.completion(.success(())) } }
    }
  }
}
