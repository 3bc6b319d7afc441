import Glibc

/// Tests/MicroBenchmarks/run builds this and calls it; see there.
@main
struct Program {
  private enum Mode {
    case show
    case check(String)
    case record(String)
    case memory(Int)
  }

  private var only = ""
  private var mode = Mode.show

  static func main() {
    var program = Program()
    program.readArguments()
    program.run()
  }

  private mutating func readArguments() {
    var arguments = CommandLine.arguments.dropFirst()
    while let flag = arguments.popFirst() {
      guard let value = arguments.popFirst() else { refuse(usage) }
      switch flag {
      case "--only": only = value
      case "--check": mode = .check(value)
      case "--record": mode = .record(value)
      case "--memory":
        guard let leases = Int(value), leases > 0 else { refuse(usage) }
        mode = .memory(leases)
      default: refuse(usage)
      }
    }
  }

  private func run() {
    switch mode {
    case .show: _ = measureAll()
    case .record(let path): AllocationTable(measureAll()).write(to: path)
    case .check(let path):
      let complaints = AllocationTable(readingFrom: path).complaints(about: measureAll(), complete: only.isEmpty)
      for complaint in complaints { print(complaint) }
      print(complaints.isEmpty ? "allocations are as expected" : "\(complaints.count) differ from \(path)")
      exit(complaints.isEmpty ? 0 : 1)
    case .memory(let leases): printMemory(leases: leases)
    }
  }

  private func measureAll() -> [(name: String, cost: Cost)] {
    let all = keyspaceBenchmarks + leaseBenchmarks + machineBenchmarks + logBenchmarks
    let chosen = all.filter { only.isEmpty || $0.name.contains(only) }
    if chosen.isEmpty { refuse("nothing is called \(only)") }
    print("| hot path | ns | allocations | bytes allocated |")
    print("|---|---|---|---|")
    var costs: [(name: String, cost: Cost)] = []
    for benchmark in chosen {
      let cost = benchmark.measure()
      let figures = [
        decimal(cost.nanoseconds, digits: 0), decimal(cost.allocations, digits: 2),
        decimal(cost.allocatedBytes, digits: 0),
      ]
      print("| \(benchmark.name) | \(figures.joined(separator: " | ")) |")
      fflush(nil)
      costs.append((benchmark.name, cost))
    }
    return costs
  }
}

private let usage = "usage: MicroBenchmarks [--only TEXT] [--check TABLE | --record TABLE | --memory LEASES]"

func refuse(_ text: String) -> Never {
  let line = Array((text + "\n").utf8)
  _ = write(STDERR_FILENO, line, line.count)
  exit(64)
}
