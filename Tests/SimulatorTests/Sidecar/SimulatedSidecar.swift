import Keyspace
import Member
import Primitives
import Raft
import SidecarCore
import StateMachine

/// What a sidecar may be made to do wrong, for the tests of the oracle.
enum SidecarMistake {
  /// Evicts whatever has become of the entry since it was read.
  case evictsUnguarded
  /// Answers a hit on a lease that it knows without renewing it.
  case renewsNothing
  /// Takes every subscriber's acknowledgement for the last one.
  case settlesAlone
  /// Counts what it reads as told.
  case skipsDeliveries
  /// Tells of evictions without looking whether they are off.
  case deliversUnchecked
  /// Never looks for what the watch has not told.
  case neverScans
}

/// The sidecar in a member's process: the rules are `SidecarCore`'s, and what is around them does the same transactions,
/// reads and retries as the shell, one step at a time.
final class SimulatedSidecar {
  static let policies = [
    "c:ttl=1s,window=250ms,jitter=20,subscribers=janitor+mirror",
    "d:ttl=2s,window=1s,jitter=0,register=explicit,subscribers=janitor",
  ]
  .map { try! CachePolicy(flag: $0) }
  static let layout = StoreLayout()

  unowned let world: World
  let member: SimulatedMember
  /// Of the member's process.
  let life: Int
  let store: SimulatedStore
  let mistake: SidecarMistake?
  var generator: SeededGenerator
  private(set) var journal: SidecarJournal!
  private(set) var requests: SidecarRequests!
  private(set) var evictor: SidecarEvictor!
  /// The event half; one sidecar of the cluster has it at a time.
  private(set) var hub: SidecarHub?
  private(set) var isOpen = false
  private var tasks: [Int: () throws -> Void] = [:]
  private var lastTask = 0
  /// Came due while the process was stopped.
  private var deferred: [Int] = []

  init(in member: SimulatedMember, of world: World) {
    self.world = world
    self.member = member
    life = member.life!.number
    mistake = world.mistake
    generator = SeededGenerator(seed: world.generator.next())
    store = SimulatedStore(member, in: world)
    journal = SidecarJournal(self)
    requests = SidecarRequests(self)
    evictor = SidecarEvictor(self)
    store.onAsk = { [unowned self] in
      after(microseconds: random(20, 200)) { [unowned self] in try world.turn(member, store.takeOutbox()) }
    }
    open()
  }

  /// The process is gone.
  func stop() {
    store.stop()
    tasks = [:]
    hub = nil
    journal = nil
    requests = nil
    evictor = nil
  }

  private func open() {
    journal.open { [unowned self] isOpen in
      guard isOpen else { return after(microseconds: 300_000) { [unowned self] in open() } }
      self.isOpen = true
      evictor.start()
    }
  }

  func startHub() {
    guard isOpen, hub == nil else { return }
    hub = SidecarHub(self)
  }

  // MARK: Time

  /// The process's own clock.
  var now: Int64 { member.time(world.now).milliseconds }
  /// Since 1970, with nobody's clock right.
  var wallMilliseconds: Int64 { now }

  func random(_ low: Int64, _ high: Int64) -> Int64 { Int64.random(in: low...high, using: &generator) }

  func after(microseconds delay: Int64, _ body: @escaping () throws -> Void) {
    lastTask += 1
    tasks[lastTask] = body
    world.schedule(.sidecar(member.id, life: life, task: lastTask), afterMicroseconds: delay)
  }

  func perform(_ task: Int) throws {
    if member.isPaused {
      deferred.append(task)
    } else {
      try tasks.removeValue(forKey: task)?()
    }
  }

  func resumed() throws {
    let due = deferred
    deferred = []
    for task in due { try perform(task) }
  }
}

extension World {
  static let sidecarCount = 2

  func scheduleSidecars() {
    guard hasSidecars else { return }
    schedule(.supervision, afterMilliseconds: random(10, 300))
    for user in 0..<CacheUsers.count { schedule(.cacheUser(user), afterMilliseconds: random(500, 1_500)) }
    for place in consumers.indices { schedule(.consumer(place, .connect), afterMilliseconds: random(100, 4_000)) }
  }

  /// Some members have a sidecar, one of these the event half.
  func superviseSidecars() {
    schedule(.supervision, afterMilliseconds: random(100, 500))
    let alive = members.keys.sorted().filter { members[$0]!.life != nil }
    for id in alive where sidecars[id] == nil && sidecars.count < Self.sidecarCount {
      sidecars[id] = SimulatedSidecar(in: members[id]!, of: self)
    }
    if !sidecars.values.contains(where: { $0.hub != nil }) {
      let ready = sidecars.keys.sorted().filter { sidecars[$0]!.isOpen }
      if let id = ready.randomElement(using: &generator) { sidecars[id]!.startHub() }
    }
  }

  func endSidecar(of id: NodeID) {
    guard let sidecar = sidecars.removeValue(forKey: id) else { return }
    cacheUsers.sidecarDied(id)
    if sidecar.hub != nil { for place in consumers.indices { consumers[place].disconnected() } }
    sidecar.stop()
  }

  /// Nothing of this world is used any more: what keeps itself alive lets go.
  func end() { for id in sidecars.keys.sorted() { endSidecar(of: id) } }

  var hub: SidecarHub? { sidecars.values.lazy.compactMap(\.hub).first { $0.isLoaded } }
}
