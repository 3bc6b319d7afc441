import Leases
import Primitives

private let leaseCount = 1_000_000
private let operations = 50_000

/// A million leases, their deadlines spread over `seconds` from clock zero.
private func filled(overSeconds seconds: Int64) -> LeaseTable {
  var table = LeaseTable()
  for number in 0..<leaseCount {
    let ttl = seconds * 1_000 * Int64(number + 1) / Int64(leaseCount) + 1
    precondition(table.grant(Workload.lease(number), ttlMilliseconds: ttl, at: .zero))
  }
  return table
}

/// Lease numbers in no order, the same each time.
private func someLeases(seed: UInt64) -> [LeaseID] {
  var random = SeededGenerator(seed: seed)
  return (0..<operations).map { _ in Workload.lease(Int.random(in: 0..<leaseCount, using: &random)) }
}

let leaseBenchmarks = [
  MicroBenchmark(name: "leases: grant beside a million", operations: operations) {
    var table = filled(overSeconds: 3_600)
    return { round in
      for number in 0..<operations {
        let id = Workload.lease(leaseCount + round * operations + number)
        consume(table.grant(id, ttlMilliseconds: 600_000, at: .zero))
      }
    }
  },
  MicroBenchmark(name: "leases: renew among a million", operations: operations) {
    var table = filled(overSeconds: 3_600)
    let rounds = (0...MicroBenchmark.rounds).map { someLeases(seed: UInt64($0)) }
    return { round in
      for id in rounds[round] { consume(table.renew(id, at: LeaseClock(milliseconds: Int64(round + 1) * 10))) }
    }
  },
  MicroBenchmark(name: "leases: name and remove those that are due, a lease", operations: operations) {
    // Fifty thousand a second come due; one round is one second.
    var table = filled(overSeconds: Int64(leaseCount / operations))
    return { round in
      let clock = LeaseClock(milliseconds: Int64(round + 1) * 1_000)
      while true {
        let due = table.due(at: clock, limit: Limits.maxExpiriesPerCommand)
        if due.isEmpty { break }
        for id in due { consume(table.remove(id)) }
      }
      table.advance(to: clock)
    }
  },
  MicroBenchmark(name: "leases: tick of the wheel, 100 ms, a million leases over an hour", operations: 600) {
    var table = filled(overSeconds: 3_600)
    var clock = LeaseClock.zero
    return { _ in
      for _ in 0..<600 {
        clock = clock.advanced(byMilliseconds: 100)
        table.advance(to: clock)
        consume(table.due(at: clock, limit: 0))
        consume(table.nextDeadline)
      }
    }
  },
  MicroBenchmark(name: "leases: tick of the wheel, 100 ms, a million leases over a week", operations: 600) {
    var table = filled(overSeconds: 7 * 86_400)
    var clock = LeaseClock.zero
    return { _ in
      for _ in 0..<600 {
        clock = clock.advanced(byMilliseconds: 100)
        table.advance(to: clock)
        consume(table.nextDeadline)
      }
    }
  },
]
