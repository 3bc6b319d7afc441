import AllocationCounter
import Glibc

/// One hot path. `prepare` builds what it works on, outside of all measuring, and answers with a function that runs
/// `operations` operations; it is called once to warm up and then once for each round, with the round's number from 0.
struct MicroBenchmark: Sendable {
  var name: String
  var operations: Int
  var prepare: @Sendable () -> (_ round: Int) -> Void
}

/// What one operation costs: the median over the rounds of its thread's CPU time (others on the machine do not count), the least of its allocations (a growing table
/// makes single rounds dearer).
struct Cost {
  var nanoseconds: Double
  var allocations: Double
  var allocatedBytes: Double
}

extension MicroBenchmark {
  static let rounds = 5

  func measure() -> Cost {
    let run = prepare()
    run(0)
    var times: [Double] = []
    var allocations: [Double] = []
    var allocatedBytes: [Double] = []
    for round in 1...Self.rounds {
      let (countBefore, bytesBefore) = (allocation_count(), allocation_bytes())
      let begin = Self.now
      run(round)
      let end = Self.now
      let (countAfter, bytesAfter) = (allocation_count(), allocation_bytes())
      let perOperation = 1 / Double(operations)
      times.append(Double(end - begin) * perOperation)
      allocations.append(Double(countAfter - countBefore) * perOperation)
      allocatedBytes.append(Double(bytesAfter - bytesBefore) * perOperation)
    }
    times.sort()
    return Cost(
      nanoseconds: times[times.count / 2], allocations: allocations.min() ?? 0,
      allocatedBytes: allocatedBytes.min() ?? 0)
  }

  private static var now: Int64 {
    var moment = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &moment)
    return Int64(moment.tv_sec) * 1_000_000_000 + Int64(moment.tv_nsec)
  }
}

/// Keeps a result from being optimized away, at the price of a call.
@inline(never)
func consume<T>(_ value: borrowing T) {}

/// A number with so many digits behind the point, without Foundation.
func decimal(_ value: Double, digits: Int) -> String {
  var scale = 1.0
  for _ in 0..<digits { scale *= 10 }
  let scaled = Int64((value * scale).rounded())
  let whole = scaled / Int64(scale)
  guard digits > 0 else { return "\(whole)" }
  let rest = String(scaled % Int64(scale))
  return "\(whole)." + String(repeating: "0", count: digits - rest.count) + rest
}
