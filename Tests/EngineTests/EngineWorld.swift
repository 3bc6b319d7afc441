import Engine
import Keyspace
import Leases
import Primitives
import StateMachine
import Storage
import TestSupport

/// A state machine with its engine, as a node drives them: entries are applied, now and then a cut is committed while
/// more entries are applied, and the state is rebased.
struct EngineWorld {
  let place = TemporaryDirectory()
  var options = EngineOptions(unsafeNoSync: true)
  private(set) var engine: StateEngine
  var machine: StateMachine
  private(set) var milliseconds: Int64 = 0
  var random: SeededGenerator

  var directory: String { "\(place.path)/state" }
  var file: String { "\(directory)/data.mdb" }

  init(seed: UInt64 = 1, options: EngineOptions = EngineOptions(unsafeNoSync: true)) throws {
    self.options = options
    random = SeededGenerator(seed: seed)
    (engine, machine) = try StateEngine.open(directory: "\(place.path)/state", options: options)
  }

  // MARK: What a node does

  mutating func apply(_ commands: [Command]) {
    var results: [CommandResult] = []
    var events: [KeyspaceEvent] = []
    let batch = CommandBatch(clock: LeaseClock(milliseconds: milliseconds), commands: commands)
    machine.apply(batch, index: machine.appliedIndex + 1, term: 1, results: &results, events: &events)
  }

  mutating func apply(_ commands: Command...) { apply(commands) }

  /// Commits a cut; `meanwhile` runs between the cut and its end.
  mutating func commit(meanwhile: (inout EngineWorld) -> Void = { _ in }) throws {
    let changes = machine.cut()
    meanwhile(&self)
    rebase(onto: try engine.commit(changes))
  }

  mutating func defragment() throws { rebase(onto: try engine.defragment()) }

  mutating func rebase(onto commit: EngineCommit) {
    _ = machine.rebase(
      onto: commit.archive, below: commit.belowOrdinal, archivedBytes: commit.archivedBytes)
  }

  /// Closes and opens again; the state is what has been committed.
  mutating func reopen() throws {
    engine.close()
    machine = StateMachine()
    (engine, machine) = try StateEngine.open(directory: directory, options: options)
  }

  /// Lets go of the state and of its archive.
  mutating func release() { machine = StateMachine() }

  mutating func setClock(_ milliseconds: Int64) { self.milliseconds = milliseconds }

  /// The state that a process finds which starts on a copy of the files as they are now.
  func stateAfterKill() throws -> [UInt8] {
    let copy = try copiedDirectory()
    let (_, machine) = try StateEngine.open(directory: copy.path, options: options)
    return machine.encoded()
  }

  /// A copy of the files, as a kill leaves them.
  func copiedDirectory() throws -> TemporaryDirectory {
    let copy = TemporaryDirectory()
    for name in try files() {
      try TemporaryDirectory.write(TemporaryDirectory.read("\(directory)/\(name)"), to: "\(copy.path)/\(name)")
    }
    return copy
  }

  func files() throws -> [String] { try POSIXDisk().list(directory).sorted() }

  /// What verification says of the files as they are now.
  func verification() throws -> StateVerification.Report {
    let copy = try copiedDirectory()
    return try StateVerification.verify(directory: copy.path)
  }

  // MARK: Random life

  mutating func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

  /// Few keys, so that they are written again and again; some longer than the engine's own keys may be.
  mutating func key() -> Bytes {
    let number = pick(0..<60)
    switch number % 8 {
    case 0: return Bytes([UInt8](repeating: UInt8(number), count: 511 + number % 3))
    case 1: return Bytes([UInt8(number)])
    default: return Bytes("key/\(number)")
    }
  }

  mutating func value() -> Bytes {
    let count = pick(0..<20) == 0 ? pick(0..<9_000) : pick(0..<40)
    return Bytes([UInt8](repeating: UInt8(pick(0..<256)), count: count))
  }

  mutating func lease() -> LeaseID {
    [1, 2, 3, 4, 5, .max, 1 << 40, -7][pick(0..<8)]
  }

  mutating func command() -> Command {
    switch pick(0..<21) {
    case 0..<9: return .put(PutRequest(key(), value(), lease: pick(0..<2) == 0 ? lease() : 0))
    case 9..<12: return .delete(DeleteRequest(.single(key())))
    case 12..<15: return .leaseGrant(id: lease(), ttlMilliseconds: Int64(pick(1_000..<60_000)))
    case 15: return .leaseRevoke(id: lease())
    case 16: return .leaseRenew(ids: [lease(), lease()])
    case 17: return .leaseExpire(ids: machine.expiryBatch(at: LeaseClock(milliseconds: milliseconds)).ids)
    case 18: return .delete(DeleteRequest(.from(key())))
    case 19: return .member(.add(ClusterMember(id: UInt64(pick(1..<9)), peerURLs: ["http://\(pick(0..<99)):2380"])))
    default: return .compact(revision: machine.keyspace.revision - Int64(pick(0..<20)))
    }
  }

  mutating func live(entries: Int) {
    for _ in 0..<entries {
      milliseconds += Int64(pick(0..<2_000))
      apply((0..<pick(1..<5)).map { _ in command() })
    }
  }
}

extension Command {
  static func put(_ key: Bytes, _ value: Bytes = "value", lease: LeaseID = 0) -> Command {
    .put(PutRequest(key, value, lease: lease))
  }
  static func grant(_ id: LeaseID, _ ttlMilliseconds: Int64 = 60_000) -> Command {
    .leaseGrant(id: id, ttlMilliseconds: ttlMilliseconds)
  }
}
