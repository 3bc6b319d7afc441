import Keyspace
import Primitives

private let keyCount = 200_000
private let operations = 20_000

private func filled() -> (Keyspace, [Bytes]) {
  var keyspace = Keyspace()
  var events: [KeyspaceEvent] = []
  let keys = Workload.keys(0..<keyCount)
  for key in keys { put(key, in: &keyspace, &events) }
  return (keyspace, keys)
}

private func put(_ key: Bytes, in keyspace: inout Keyspace, _ events: inout [KeyspaceEvent]) {
  do {
    consume(try keyspace.put(PutRequest(key, Workload.value), leaseExists: { _ in true }, events: &events))
  } catch { preconditionFailure("\(error)") }
  events.removeAll(keepingCapacity: true)
}

private func range(_ query: RangeQuery, in keyspace: borrowing Keyspace) {
  do { consume(try keyspace.range(query)) } catch { preconditionFailure("\(error)") }
}

let keyspaceBenchmarks = [
  MicroBenchmark(name: "keyspace: put of a new key", operations: operations) {
    var (keyspace, _) = filled()
    var events: [KeyspaceEvent] = []
    let rounds = (0...MicroBenchmark.rounds).map { round in
      Workload.keys(keyCount + round * operations..<keyCount + (round + 1) * operations)
    }
    return { round in
      for key in rounds[round] { put(key, in: &keyspace, &events) }
    }
  },
  MicroBenchmark(name: "keyspace: put of a known key", operations: operations) {
    var (keyspace, keys) = filled()
    var events: [KeyspaceEvent] = []
    return { round in
      // Other keys each round: the first second version of a key makes its list of older ones.
      for number in 0..<operations { put(keys[round * operations + number], in: &keyspace, &events) }
    }
  },
  MicroBenchmark(name: "keyspace: range of one key", operations: operations) {
    let (keyspace, keys) = filled()
    return { _ in
      for number in 0..<operations { range(RangeQuery(.single(keys[number * 7 % keyCount])), in: keyspace) }
    }
  },
  MicroBenchmark(name: "keyspace: range of 100 of all keys, a key", operations: 100 * 200) {
    let (keyspace, keys) = filled()
    // Neighbours in order, so that the range holds exactly 100 keys.
    let sorted = keys.sorted()
    return { _ in
      for number in 0..<200 {
        let first = number * 997 % (keyCount - 100)
        range(RangeQuery(.halfOpen(start: sorted[first], end: sorted[first + 100])), in: keyspace)
      }
    }
  },
  MicroBenchmark(name: "keyspace: copy, then put of a known key", operations: 2_000) {
    var (keyspace, keys) = filled()
    var events: [KeyspaceEvent] = []
    return { round in
      for number in 0..<2_000 {
        let snapshot = keyspace
        put(keys[round * 2_000 + number], in: &keyspace, &events)
        consume(snapshot)
      }
    }
  },
  MicroBenchmark(name: "watch index: a key among watchers of 10,000 keys, 1,000 prefixes", operations: operations) {
    var index = WatchIndex()
    let keys = Workload.keys(0..<10_000)
    for (number, key) in keys.enumerated() { index.register(UInt64(number), .single(key)) }
    for number in 0..<1_000 {
      index.register(UInt64(10_000 + number), .prefix(Bytes(keys[number].array[..<35])))
    }
    return { _ in
      for number in 0..<operations {
        var matches = 0
        index.forEachMatch(keys[number % 10_000]) { _ in matches += 1 }
        consume(matches)
      }
    }
  },
  MicroBenchmark(
    name: "watch index: a key and 10,000 watchers of its prefix, a watcher", operations: 10_000 * 20
  ) {
    var index = WatchIndex()
    for number in 0..<10_000 { index.register(UInt64(number), .prefix(Workload.prefix)) }
    let key = Workload.key(1)
    return { _ in
      for _ in 0..<20 {
        var matches = 0
        index.forEachMatch(key) { _ in matches += 1 }
        consume(matches)
      }
    }
  },
]
