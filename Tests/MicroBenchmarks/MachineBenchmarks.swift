import Keyspace
import Primitives
import StateMachine

// What one applied entry costs a member, without log, threads and network. Commands are made ahead, as they come decoded
// or from the proposer.

private let leaseCount = 200_000
private let batch = 1_000
private let batches = 20
private let operations = batch * batches

private func applying(
  _ name: String, operations: Int, ttlMilliseconds: Int64 = Workload.ttlMilliseconds, entries: Int,
  advance: Int64 = 1, _ make: @escaping @Sendable (_ entry: Int) -> [Command]
) -> MicroBenchmark {
  MicroBenchmark(name: "apply: " + name, operations: operations) {
    var machine = Machine(leases: leaseCount, ttlMilliseconds: ttlMilliseconds)
    let rounds = (0...MicroBenchmark.rounds).map { round in
      (0..<entries).map { make(round * entries + $0) }
    }
    return { round in
      machine.clock = machine.clock.advanced(byMilliseconds: advance)
      for commands in rounds[round] { machine.apply(commands) }
    }
  }
}

private func put(_ number: Int) -> Command {
  .put(PutRequest(Workload.key(number), Workload.value, lease: Workload.lease(number)))
}

let machineBenchmarks = [
  applying("a put alone in its entry", operations: 10_000, entries: 10_000) { [put($0)] },
  applying("a put in an entry of 1,000", operations: operations, entries: batches) { entry in
    (entry * batch..<(entry + 1) * batch).map(put)
  },
  applying("a transaction of 10 puts, in an entry of 100", operations: 100 * batches, entries: batches) { entry in
    (0..<100).map { number in
      let first = (entry * 100 + number) * 10
      return .transaction(
        TransactionRequest(
          success: (first..<first + 10).map { .put(PutRequest(Workload.key($0), Workload.value)) }))
    }
  },
  applying("a lease with a key, 100 in a command", operations: operations, entries: batches * 10) { entry in
    [Workload.grantsAndPuts(first: leaseCount + entry * 100, count: 100)]
  },
  applying("a lease with a key, 1,000 in a command", operations: operations, entries: batches) { entry in
    [Workload.grantsAndPuts(first: leaseCount + entry * batch, count: batch)]
  },
  applying("a renewal, 1,000 in a command", operations: operations, entries: batches) { entry in
    [.leaseRenew(ids: (entry * batch..<(entry + 1) * batch).map(Workload.lease))]
  },
  applying(
    "an expiry with a key, 1,000 in a command", operations: operations, ttlMilliseconds: 1, entries: batches,
    advance: 1_000
  ) { entry in
    [.leaseExpire(ids: (entry * batch..<(entry + 1) * batch).map(Workload.lease))]
  },
]
