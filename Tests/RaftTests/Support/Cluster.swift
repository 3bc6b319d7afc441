import Primitives
import Raft

/// Members, their disks and the messages between them; every step is checked and, if wanted, told.
/// Nothing happens by itself: a script or the simulation delivers, completes, crashes.
final class Cluster {
  struct Member {
    var configuration: Configuration
    var disk: SimulatedDisk
    var starts: UInt64 = 0
    /// nil while crashed.
    var core: RaftCore?
    /// Entries handed out and not yet reported as applied.
    var unapplied: [Entry] = []
    var applied: LogIndex = 0
  }

  /// What has happened, to see that a run is worth something.
  struct Counts: Equatable {
    var delivered = 0
    var reads = 0
    var followerReads = 0
    var restores = 0
    /// States that the log had reached by itself.
    var unwantedStates = 0
    var successions = 0
  }

  private(set) var members: [NodeID: Member] = [:]
  private let configure: (inout Configuration) -> Void
  /// In the order of sending.
  var network: [Message] = []
  /// Leaders that want a peer brought to their state, each in a term.
  var wantedSnapshots: [(from: NodeID, to: NodeID, term: Term)] = []
  private(set) var checker: InvariantChecker
  var now = Instant(milliseconds: 0)
  private(set) var counts = Counts()
  /// Takes a line for everything that happens.
  var tell: ((String) -> Void)?
  /// Takes a line for what makes it happen; scripts know that by themselves.
  var tellCause: ((String) -> Void)?

  /// With `genesis` all begin behind entry 1/1, which tells who they are; otherwise with an empty log.
  init(voters: Int, genesis: Bool = false, configure: @escaping (inout Configuration) -> Void = { _ in }) {
    let membership = Membership(voters: (1...voters).map { NodeID($0) })
    self.configure = configure
    checker = InvariantChecker(founders: membership, genesis: genesis)
    for id in membership.voters {
      add(
        id,
        SimulatedDisk(
          hardState: HardState(term: genesis ? 1 : 0),
          base: EntryID(index: genesis ? 1 : 0, term: genesis ? 1 : 0), membership: membership))
    }
  }

  private func add(_ id: NodeID, _ disk: SimulatedDisk) {
    var configuration = Configuration(id: id, electionTimeout: 1_000, heartbeatInterval: 100)
    configure(&configuration)
    members[id] = Member(configuration: configuration, disk: disk)
  }

  /// A member that knows nothing yet.
  func join(_ id: NodeID) {
    guard members[id] == nil else { return }
    add(id, SimulatedDisk(membership: .empty))
    start(id)
  }

  var ids: [NodeID] { members.keys.sorted() }
  var violations: [String] { checker.violations }
  func core(_ id: NodeID) -> RaftCore? { members[id]?.core }

  // MARK: Life and death

  func start(_ id: NodeID) {
    guard var member = members[id], member.core == nil else { return }
    let disk = member.disk
    tellCause?("\(now.milliseconds): \(id) starts, \(disk.hardState), log \(disk.base)...\(disk.lastIndex)")
    var configuration = member.configuration
    configuration.seed &+= member.starts
    member.starts += 1
    let core = RaftCore(
      configuration: configuration, membership: disk.membership, recovered: disk.hardState,
      log: (snapshotIndex: disk.base.index, snapshotTerm: disk.base.term, entries: disk.entries), now: now)
    member.core = core
    member.applied = disk.base.index
    member.unapplied = []
    members[id] = member
    checker.started(id, core)
  }

  func startAll() { for id in ids { start(id) } }

  func crash(_ id: NodeID, keepingWrites kept: Int = 0, tornEntries: Int = -1) {
    tellCause?("\(now.milliseconds): \(id) crashes, \(kept) writes and \(tornEntries) entries survive")
    members[id]?.disk.crash(keepingWrites: kept, tornEntries: tornEntries)
    if let core = core(id) { checker.crashed(id, core, disk: members[id]!.disk) }
    members[id]?.core = nil
  }

  /// Gives a member that does not run a past.
  func remember(_ id: NodeID, hardState: HardState, entries: [Entry]) {
    guard let disk = members[id]?.disk else { return }
    members[id]!.disk = SimulatedDisk(
      hardState: hardState, base: disk.base, membership: disk.membership, entries: entries)
    checker.assume(entries)
  }

  // MARK: Steps

  @discardableResult
  func step(_ id: NodeID, _ event: Event) -> Output {
    var output = Output()
    guard let role = core(id)?.role, let term = core(id)?.term else { return output }
    tellCause?("\(now.milliseconds): \(id) \(TraceText.event(event))")
    if case .readIndex(let context) = event { checker.readIssued(context, to: id) }
    members[id]!.core!.step(event, at: now, into: &output)
    let core = members[id]!.core!
    checker.check(id, core, output, disks: members.mapValues(\.disk))
    if let tell {
      if core.role != role || core.term != term { tell("  \(TraceText.role(core))") }
      for line in TraceText.lines(output, of: event) { tell("  \(line)") }
    }
    count(output, of: event, on: core)
    absorb(output, of: id)
    return output
  }

  private func absorb(_ output: Output, of id: NodeID) {
    if let mark = output.restore {
      members[id]!.unapplied = []
      members[id]!.applied = mark.last.index
    }
    if !output.persist.isEmpty { members[id]!.disk.enqueue(output.persist, restore: output.restore) }
    for peer in output.sendSnapshot { wantedSnapshots.append((id, peer, members[id]!.core!.term)) }
    network += output.sendNow
    for held in output.sendAfterPersist where !members[id]!.disk.hold(held) { release(held, of: id) }
    members[id]!.unapplied += output.commit
  }

  private func count(_ output: Output, of event: Event, on core: RaftCore) {
    counts.delivered += output.commit.count
    counts.reads += output.readStates.count
    if core.role != .leader { counts.followerReads += output.readStates.count }
    if output.restore != nil { counts.restores += 1 }
    guard case .received(let message) = event else { return }
    if case .snapshot = message.body, output.restore == nil { counts.unwantedStates += 1 }
    if case .timeoutNow = message.body, core.role == .candidate { counts.successions += 1 }
  }

  private func release(_ held: HeldMessage, of id: NodeID) {
    checker.checkRelease(held, disk: members[id]!.disk)
    network.append(held.message)
  }

  /// The disk finishes its oldest writes; one completion speaks for all of them.
  func completeWrites(_ id: NodeID, count: Int = .max) {
    var last: Entry?
    var done = 0
    while done < count, let write = members[id]?.disk.completeFirst() {
      done += 1
      last = write.entries.last ?? last
      for held in write.held {
        tell?("  sends \(TraceText.message(held.message))")
        release(held, of: id)
      }
    }
    if let last { step(id, .persisted(index: last.index, term: last.term)) }
  }

  func pendingWrites(_ id: NodeID) -> Int { members[id]?.disk.queue.count ?? 0 }

  /// The state machine catches up.
  func apply(_ id: NodeID, count: Int = .max) {
    guard let member = members[id], let last = member.unapplied.prefix(count).last else { return }
    members[id]!.unapplied.removeFirst(min(count, member.unapplied.count))
    members[id]!.applied = last.index
    step(id, .applied(last.index))
  }

  /// A snapshot becomes durable, and the log before it goes. Not while a received state is on its way to the disk.
  func compact(_ id: NodeID, through index: LogIndex) {
    guard let member = members[id], let core = member.core, let term = core.term(at: index),
      member.disk.term(at: index) == term
    else { return }
    members[id]!.disk.compact(through: index)
    step(id, .compact(through: index))
  }

  /// A member's state as it is applied now.
  func snapshot(of id: NodeID) -> SnapshotMark? {
    guard let member = members[id], let core = member.core, let term = core.term(at: member.applied) else { return nil }
    return SnapshotMark(
      last: EntryID(index: member.applied, term: term), membership: core.membership(asOf: member.applied))
  }

  func deliver(_ message: Message) { step(message.to, .received(message)) }

  /// Time goes on to the member's next deadline.
  func awaitDeadline(_ id: NodeID) {
    guard let core = members[id]?.core, core.nextDeadline != .never else { return }
    now = max(now, core.nextDeadline)
    step(id, .tick)
  }

  var leader: NodeID? {
    ids.filter { core($0)?.role == .leader }.max { core($0)!.term < core($1)!.term }
  }
}
