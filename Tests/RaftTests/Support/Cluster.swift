import Primitives
import Raft

/// Members, their disks and the messages between them; every step is checked and, if wanted, told.
/// Nothing happens by itself: a script or the simulation delivers, completes, crashes.
final class Cluster {
  struct Member {
    var configuration: Configuration
    var disk = SimulatedDisk()
    /// nil while crashed.
    var core: RaftCore?
    /// Entries handed out and not yet reported as applied.
    var unapplied: [Entry] = []
    var applied: LogIndex = 0
  }

  private(set) var members: [NodeID: Member] = [:]
  /// In the order of sending.
  var network: [Message] = []
  private(set) var checker = InvariantChecker()
  var now = Instant(milliseconds: 0)
  var answeredReads = 0
  var deliveredEntries = 0
  /// Takes a line for everything that happens.
  var tell: ((String) -> Void)?

  init(voters: Int, configure: (inout Configuration) -> Void = { _ in }) {
    let ids = Set((1...voters).map { NodeID($0) })
    for id in ids {
      var configuration = Configuration(id: id, voters: ids, electionTimeout: 1_000, heartbeatInterval: 100)
      configure(&configuration)
      members[id] = Member(configuration: configuration)
    }
  }

  var ids: [NodeID] { members.keys.sorted() }
  var violations: [String] { checker.violations }
  func core(_ id: NodeID) -> RaftCore? { members[id]?.core }

  // MARK: Life and death

  func start(_ id: NodeID) {
    guard var member = members[id], member.core == nil else { return }
    let disk = member.disk
    let core = RaftCore(
      configuration: member.configuration, recovered: disk.hardState,
      log: (snapshotIndex: disk.base.index, snapshotTerm: disk.base.term, entries: disk.entries), now: now)
    member.core = core
    member.applied = disk.base.index
    member.unapplied = []
    members[id] = member
    checker.started(id, core)
  }

  func startAll() { for id in ids { start(id) } }

  func crash(_ id: NodeID, keepingWrites kept: Int = 0, tornEntries: Int = -1) {
    members[id]?.disk.crash(keepingWrites: kept, tornEntries: tornEntries)
    members[id]?.core = nil
    if let disk = members[id]?.disk { checker.crashed(id, disk: disk, isSoleVoter: members.count == 1) }
  }

  /// Gives a member that does not run a past.
  func remember(_ id: NodeID, hardState: HardState, entries: [Entry]) {
    members[id]?.disk = SimulatedDisk(hardState: hardState, entries: entries)
    checker.assume(entries)
  }

  // MARK: Steps

  @discardableResult
  func step(_ id: NodeID, _ event: Event) -> Output {
    var output = Output()
    guard let role = core(id)?.role, let term = core(id)?.term else { return output }
    if case .readIndex(let context) = event { checker.readIssued(context, to: id) }
    members[id]!.core!.step(event, at: now, into: &output)
    let core = members[id]!.core!
    checker.check(id, core, output, disks: members.mapValues(\.disk))
    if let tell {
      if core.role != role || core.term != term { tell("  \(TraceText.role(core))") }
      for line in TraceText.lines(output, of: event) { tell("  \(line)") }
    }
    absorb(output, of: id)
    return output
  }

  private func absorb(_ output: Output, of id: NodeID) {
    if !output.persist.isEmpty { members[id]!.disk.enqueue(output.persist) }
    network += output.sendNow
    for held in output.sendAfterPersist where !members[id]!.disk.hold(held) { release(held, of: id) }
    members[id]!.unapplied += output.commit
    answeredReads += output.readStates.count
    deliveredEntries += output.commit.count
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

  /// A snapshot becomes durable, and the log before it goes.
  func compact(_ id: NodeID, through index: LogIndex) {
    members[id]!.disk.compact(through: index)
    step(id, .compact(through: index))
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
