import Keyspace
import Member
import Primitives
import Raft
import StateMachine

/// What must hold whatever happens. It sees every entry when the first member applies it, and every member afterwards.
struct Oracle {
  struct Lease {
    /// True time before which it may not expire: the moment before the last acknowledged grant or renewal was asked
    /// for, and its TTL.
    var notBefore: Int64
    var ttlMilliseconds: Int64
  }

  private(set) var violations: [String] = []
  /// Highest index that any member has applied.
  private(set) var appliedIndex: LogIndex = 1
  private var entries: [LogIndex: Entry] = [:]
  private var hashes: [LogIndex: UInt64] = [:]
  private var leaders: [Term: NodeID] = [:]
  private var revisions: [NodeID: Int64] = [:]
  /// Where each client's write came to be.
  private(set) var writes: [Int: LogIndex] = [:]
  private(set) var leases: [LeaseID: Lease] = [:]
  private(set) var expired: [LeaseID: LogIndex] = [:]
  private(set) var expiryCount = 0
  /// Whose state has been damaged on purpose, and who has found its own to be.
  var damaged: Set<NodeID> = []
  private(set) var found: Set<NodeID> = []

  mutating func violate(_ text: String) { violations.append(text) }

  mutating func expect(_ condition: Bool, _ text: @autoclosure () -> String) {
    if !condition { violations.append(text()) }
  }

  // MARK: Members

  mutating func started(_ id: NodeID, _ machine: StateMachine) { revisions[id] = machine.keyspace.revision }

  mutating func restored(_ id: NodeID, _ machine: StateMachine) {
    checkHash(machine, at: id)
    revisions[id] = machine.keyspace.revision
  }

  mutating func check(_ id: NodeID, _ core: MemberCore) {
    if core.isLeader {
      let other = leaders[core.raft.term, default: id]
      expect(other == id, "term \(core.raft.term) has two leaders, \(other) and \(id)")
      leaders[core.raft.term] = id
    }
    for case .corrupt(let index, let own, let agreed) in core.output.notices {
      found.insert(id)
      guard !damaged.contains(id) else { continue }
      violate("member \(id) believes its state to be corrupt at \(index): \(own) against \(agreed)")
    }
  }

  /// State machine safety: every member applies the same entry at the same index.
  mutating func willApply(_ entry: Entry, at id: NodeID, _ machine: StateMachine) {
    if let known = entries[entry.index] {
      expect(known == entry, "member \(id) applies another entry \(entry.index) than others did")
    } else {
      entries[entry.index] = entry
    }
  }

  mutating func applied(
    _ batch: [Entry], _ events: [KeyspaceEvent], at id: NodeID, _ machine: StateMachine, trueTime: Int64
  ) {
    checkHash(machine, at: id)
    let revision = machine.keyspace.revision
    expect(revision >= revisions[id, default: 0], "the revision falls on member \(id)")
    revisions[id] = revision
    var last: Int64 = 0
    for event in events {
      expect(event.record.modRevision >= last, "events out of order on member \(id)")
      last = event.record.modRevision
    }
    // The state is that after the whole batch: what a caller has revoked in it is gone for another reason.
    let commands = batch.compactMap { Self.batch(of: $0)?.commands }.joined()
    let revoked = Set(commands.compactMap { if case .leaseRevoke(let id) = $0 { id } else { nil } })
    for entry in batch where entry.index > appliedIndex { note(entry, machine, revoked, trueTime: trueTime) }
    appliedIndex = max(appliedIndex, batch.last!.index)
  }

  private mutating func checkHash(_ machine: StateMachine, at id: NodeID) {
    if damaged.contains(id) { return }
    let hash = machine.rollingHash
    let known = hashes[machine.appliedIndex, default: hash]
    expect(known == hash, "member \(id) has another state than others at \(machine.appliedIndex)")
    hashes[machine.appliedIndex] = hash
  }

  // MARK: The history of the cluster

  /// An entry that nobody has applied before.
  private mutating func note(_ entry: Entry, _ machine: StateMachine, _ revoked: Set<LeaseID>, trueTime: Int64) {
    guard let batch = Self.batch(of: entry) else { return }
    for command in batch.commands {
      for number in Clients.writes(in: command) {
        let before = writes[number]
        expect(before == nil, "write \(number) happens twice, at \(before ?? 0) and \(entry.index)")
        writes[number] = entry.index
      }
      switch command {
      case .leaseExpire(let ids): noteExpiry(ids.filter { !revoked.contains($0) }, entry.index, machine, trueTime)
      case .leaseRevoke(let id): leases[id] = nil
      default: break
      }
    }
  }

  private mutating func noteExpiry(
    _ ids: [LeaseID], _ index: LogIndex, _ machine: StateMachine, _ trueTime: Int64
  ) {
    for id in ids where !machine.leases.contains(id) && expired[id] == nil {
      expired[id] = index
      expiryCount += 1
      guard let lease = leases[id] else { continue }
      expect(
        trueTime >= lease.notBefore,
        "lease \(id) expires \((lease.notBefore - trueTime) / World.millisecond) ms early")
    }
  }

  static func batch(of entry: Entry) -> CommandBatch? {
    switch entry.payload {
    case .empty: nil
    case .command(let bytes): try? CommandBatch(decoding: bytes[...])
    case .membership(_, let bytes): bytes.isEmpty ? nil : try? CommandBatch(decoding: bytes[...])
    }
  }

  /// A grant or renewal that was asked for at `asked` has been acknowledged.
  mutating func alive(_ id: LeaseID, ttlMilliseconds: Int64, asked: Int64) {
    let notBefore = asked + ttlMilliseconds * World.millisecond
    let known = leases[id]?.notBefore ?? 0
    leases[id] = Lease(notBefore: max(known, notBefore), ttlMilliseconds: ttlMilliseconds)
  }
}
