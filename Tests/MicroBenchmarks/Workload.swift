import Keyspace
import Leases
import Primitives
import StateMachine

/// The data all benchmarks share: keys of 60 bytes in no order, as content hashes give them, and values of 100.
enum Workload {
  static let value = Bytes([UInt8](repeating: UInt8(ascii: "v"), count: 100))
  static let prefix = Bytes("/leasehold/cache/objects/")
  private static let keyBytes = 60

  static func key(_ number: Int) -> Bytes {
    var bytes = prefix.array
    bytes.reserveCapacity(keyBytes)
    var generator = SeededGenerator(seed: UInt64(number))
    let scrambled = generator.next()
    for shift in stride(from: 60, through: 0, by: -4) {
      bytes.append(Array("0123456789abcdef".utf8)[Int(scrambled >> UInt64(shift) & 15)])
    }
    while bytes.count < keyBytes { bytes.append(UInt8(ascii: "-")) }
    return Bytes(bytes)
  }

  static func keys(_ numbers: Range<Int>) -> [Bytes] { numbers.map(key) }

  static func lease(_ number: Int) -> LeaseID { LeaseID(number) + 1 }

  static let ttlMilliseconds: Int64 = 7 * 86_400_000

  /// `count` leases with a key each, from `first` on, as our own lease service asks for them.
  static func grantsAndPuts(first: Int, count: Int, ttlMilliseconds: Int64 = ttlMilliseconds) -> Command {
    var request = TransactionRequest()
    var grants: [LeaseGrant] = []
    for number in first..<first + count {
      grants.append(LeaseGrant(id: lease(number), ttlMilliseconds: ttlMilliseconds))
      // A value of its own, as each request on the wire brings one.
      let own = Bytes(Array(value.array[...]).map { $0 })
      request.success.append(.put(PutRequest(key(number), own, lease: lease(number))))
    }
    return .grantAndTransact(grants: grants, request: request)
  }
}

/// A state machine and what applying to it needs.
struct Machine {
  var state = StateMachine()
  var clock = LeaseClock(milliseconds: 1_000)
  private var results: [CommandResult] = []
  private var events: [KeyspaceEvent] = []

  /// With so many leases, a key each.
  init(leases: Int = 0, ttlMilliseconds: Int64 = Workload.ttlMilliseconds) {
    for first in stride(from: 0, to: leases, by: 1_000) {
      apply([
        Workload.grantsAndPuts(first: first, count: min(1_000, leases - first), ttlMilliseconds: ttlMilliseconds)
      ])
    }
  }

  mutating func apply(_ commands: [Command]) {
    results.removeAll(keepingCapacity: true)
    events.removeAll(keepingCapacity: true)
    state.apply(
      CommandBatch(clock: clock, commands: commands), index: state.appliedIndex + 1, term: 1, results: &results,
      events: &events)
    for case .refused(let error) in results { preconditionFailure("\(error)") }
  }
}
