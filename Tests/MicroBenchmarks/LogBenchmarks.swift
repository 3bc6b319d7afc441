import Keyspace
import LogFormat
import Primitives
import StateMachine

private func puts(_ count: Int) -> CommandBatch {
  CommandBatch(
    clock: LeaseClock(milliseconds: 1_000_000),
    commands: (0..<count).map { .put(PutRequest(Workload.key($0), Workload.value, lease: Workload.lease($0))) })
}

private func renewals(_ count: Int) -> CommandBatch {
  CommandBatch(
    clock: LeaseClock(milliseconds: 1_000_000), commands: [.leaseRenew(ids: (0..<count).map(Workload.lease))])
}

private func encoding(_ name: String, _ batch: CommandBatch, operations: Int, repeats: Int) -> MicroBenchmark {
  MicroBenchmark(name: "encode: " + name, operations: operations * repeats) {
    { _ in
      for _ in 0..<repeats { consume(batch.encoded()) }
    }
  }
}

private func decoding(_ name: String, _ batch: CommandBatch, operations: Int, repeats: Int) -> MicroBenchmark {
  MicroBenchmark(name: "decode: " + name, operations: operations * repeats) {
    let bytes = batch.encoded()
    return { _ in
      for _ in 0..<repeats {
        do { consume(try CommandBatch(decoding: bytes[...])) } catch { preconditionFailure("\(error)") }
      }
    }
  }
}

private func writing(_ name: String, records: Int, payloadBytes: Int, repeats: Int) -> MicroBenchmark {
  MicroBenchmark(name: "log: " + name, operations: records * repeats) {
    var encoder = BatchEncoder()
    let segment = SegmentHead(number: 1, firstIndex: 1, previousChain: 0, salt: 7)
    let payload = [UInt8](repeating: 7, count: payloadBytes)
    let batch = (0..<records).map { LogRecord(index: UInt64($0 + 1), term: 1, kind: 1, payload: payload) }
    return { _ in
      for number in 0..<repeats {
        encoder.begin(number: UInt64(number + 1), chain: 0)
        for record in batch { encoder.append(record) }
        encoder.seal(in: segment)
        consume(encoder.bytes.count)
      }
    }
  }
}

let logBenchmarks = [
  encoding("an entry of one put", puts(1), operations: 1, repeats: 20_000),
  encoding("a put of an entry of 100", puts(100), operations: 100, repeats: 500),
  encoding("a renewal of an entry of 1,000", renewals(1_000), operations: 1_000, repeats: 200),
  decoding("an entry of one put", puts(1), operations: 1, repeats: 20_000),
  decoding("a put of an entry of 100", puts(100), operations: 100, repeats: 500),
  decoding("a renewal of an entry of 1,000", renewals(1_000), operations: 1_000, repeats: 200),
  writing("a record of 200 bytes, alone in its batch", records: 1, payloadBytes: 200, repeats: 20_000),
  writing("a record of 200 bytes, in a batch of 1,000", records: 1_000, payloadBytes: 200, repeats: 50),
]
