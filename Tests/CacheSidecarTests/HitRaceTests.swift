import Keyspace
import Primitives
import SidecarCore
import StateMachine
import Testing

/// G5: a hit, the expiry, the evictor and an acknowledgement race on one entry. All interleavings of their commits are
/// run on a real state machine; each ends in one outcome that everybody has learnt.
@Suite struct HitRaceTests {
  private static let layout = StoreLayout()
  private static let entry = EntryName(cache: "c", key: "k")

  /// One world in the tree of interleavings. A value: a branch is a copy.
  private struct World {
    enum Hitter {
      case reading
      case planned(EntryPlan, StoredEntry, lease: LeaseID)
      case done(EntryOutcome)
    }
    enum Evictor {
      case waiting
      case planned(EvictionCandidate)
      case done
    }
    enum Acknowledger {
      case waiting
      case planned(EntrySettlement)
      case done
    }

    var machine = StateMachine()
    var head = JournalHead(epoch: 1)
    var items: [JournalItem] = []
    var nextLease: LeaseID = 100
    var nextAppend: UInt64 = 1
    var hasExpired = false
    var hitter = Hitter.reading
    var evictor = Evictor.waiting
    var acknowledger = Acknowledger.waiting
    var acknowledged: EntrySettlement.Verdict?
    var trace: [String] = []

    let planner = EntryPlanner(layout: HitRaceTests.layout, policy: try! CachePolicy(flag: "c:ttl=10s,jitter=0"))
    let journal = JournalPlanner(layout: HitRaceTests.layout)

    mutating func run(_ command: Command, at clock: Int64 = 0) -> CommandResult {
      var results: [CommandResult] = []
      var events: [KeyspaceEvent] = []
      machine.apply(
        CommandBatch(clock: LeaseClock(milliseconds: clock), commands: [command]), index: machine.appliedIndex + 1,
        term: 1, results: &results, events: &events)
      return results[0]
    }

    mutating func commit(_ comparisons: [Comparison], _ grants: [EntryLease], _ operations: [Operation]) -> Bool {
      let result = run(
        .grantAndTransact(
          grants: grants.map { LeaseGrant(id: $0.id, ttlMilliseconds: $0.ttlMilliseconds) },
          request: TransactionRequest(comparisons: comparisons, success: operations)), at: machine.clock.milliseconds)
      guard case .transaction(let outcome, _) = result else { preconditionFailure("\(result)") }
      return outcome.succeeded
    }

    mutating func commit(_ append: JournalPlanner.Append) -> Bool {
      guard commit(append.comparisons, append.grants, append.operations) else { return false }
      head = append.head
      items += append.chunk?.items ?? []
      return true
    }

    func stored() throws -> StoredEntry {
      func get(_ key: Bytes) throws -> KeyRecord? { try machine.keyspace.range(RangeQuery(.single(key))).records.first }
      return try StoredEntry(
        HitRaceTests.entry, record: try get(HitRaceTests.layout.record(HitRaceTests.entry)),
        marker: try get(HitRaceTests.layout.marker(HitRaceTests.entry)))
    }

    // MARK: Steps; false when there is none to take

    mutating func stepExpiry() -> Bool {
      guard !hasExpired else { return false }
      hasExpired = true
      let clock = LeaseClock(milliseconds: 12_000)
      _ = run(.leaseExpire(ids: machine.expiryBatch(at: clock).ids), at: clock.milliseconds)
      return true
    }

    mutating func stepHit() throws -> Bool {
      switch hitter {
      case .done: return false
      case .reading:
        let stored = try stored()
        nextLease += 1
        hitter = .planned(
          planner.plan(.hit, stored, newLease: nextLease, wallMilliseconds: 0), stored, lease: nextLease)
      case .planned(.answer(let outcome), _, _): hitter = .done(outcome)
      case .planned(.renew(let renewal), _, _):
        let answer = run(.leaseRenew(ids: [renewal.lease]), at: machine.clock.milliseconds)
        guard case .leasesRenewed(let granted, _) = answer else { preconditionFailure("\(answer)") }
        hitter = granted[0] > 0 ? .done(.renewed) : .reading
      case .planned(.change(let change, let outcome, _, _), _, _):
        hitter = commit(change.comparisons, change.grants, change.operations) ? .done(outcome) : .reading
      case .planned(.revive(let revival), _, _):
        nextAppend += 1
        let append = journal.revivals([revival], after: head, appendID: nextAppend)
        hitter = commit(append) ? .done(.revived) : .reading
      case .planned(.evict, _, _): preconditionFailure("a hit evicts nothing")
      }
      return true
    }

    mutating func stepEvictor() throws -> Bool {
      switch evictor {
      case .done: return false
      case .waiting:
        guard hasExpired else { return false }
        let stored = try stored()
        guard let record = stored.record, record.state == .live, stored.marker == nil else {
          evictor = .done
          return true
        }
        evictor = .planned(
          EvictionCandidate(
            entry: HitRaceTests.entry, record: record, recordRevision: stored.recordRevision, reason: .expired,
            idleMilliseconds: 0))
      case .planned(let candidate):
        nextAppend += 1
        let plan = journal.evictions([candidate], after: head, appendID: nextAppend)
        guard commit(plan.append) else { preconditionFailure("one writer, one head") }
        _ = commit(plan.changes[0].comparisons, [], plan.changes[0].operations)
        evictor = .done
      }
      return true
    }

    /// Acknowledges the first eviction, as the last subscriber.
    mutating func stepAcknowledger() throws -> Bool {
      switch acknowledger {
      case .done: return false
      case .waiting:
        guard head.next > 1 else { return false }
        acknowledger = .planned(
          EntrySettlement(
            of: try stored(), sequence: 1, generation: 1, isLast: true, blobIsGone: false, layout: HitRaceTests.layout))
      case .planned(let settlement):
        if let change = settlement.change, !commit(change.comparisons, [], change.operations) {
          acknowledger = .waiting
        } else {
          acknowledged = settlement.verdict
          acknowledger = .done
        }
      }
      return true
    }
  }

  private func start() throws -> World {
    var world = World()
    let hasBegun = world.commit(world.journal.creation(of: world.head))
    #expect(hasBegun)
    guard
      case .change(let change, .registered, _, _) = world.planner.plan(
        .register(EntryRegistration()), try world.stored(), newLease: 1, wallMilliseconds: 0)
    else { preconditionFailure("an unknown key is registered") }
    let isRegistered = world.commit(change.comparisons, change.grants, change.operations)
    #expect(isRegistered)
    return world
  }

  /// Depth first over all choices of who steps next; `check` sees every end.
  private func explore(_ world: World, withAcknowledger: Bool, _ check: (World) throws -> Void) throws -> Int {
    var ends = 0
    var canStep = false
    for actor in 0..<(withAcknowledger ? 4 : 3) {
      var next = world
      let stepped =
        switch actor {
        case 0: next.stepExpiry()
        case 1: try next.stepHit()
        case 2: try next.stepEvictor()
        default: try next.stepAcknowledger()
        }
      guard stepped else { continue }
      canStep = true
      next.trace.append(["expiry", "hit", "evictor", "ack"][actor])
      ends += try explore(next, withAcknowledger: withAcknowledger, check)
    }
    if canStep { return ends }
    try check(world)
    return 1
  }

  @Test func aHitAndAnExpiryHaveOneWinner() throws {
    var outcomes: Set<EntryOutcome> = []
    let ends = try explore(try start(), withAcknowledger: false) { world in
      guard case .done(let outcome) = world.hitter else {
        Issue.record("\(world.trace)")
        return
      }
      outcomes.insert(outcome)
      let stored = try world.stored()
      switch outcome {
      case .renewed:
        // The hit came first in the log, or after the lease's end and before the decision. An expiry behind a renewal at
        // its own moment finds the lease extended.
        #expect(stored.record?.generation == 1, "\(world.trace)")
        #expect(stored.record?.state == .live && stored.marker != nil || world.items.isEmpty == false, "\(world.trace)")
      case .revived:
        #expect(stored.record?.generation == 2 && stored.marker?.generation == 2, "\(world.trace)")
        #expect(world.items.last == .cancel(Self.entry, of: 1, generation: 2), "\(world.trace)")
      default: Issue.record("a hit came to \(outcome): \(world.trace)")
      }
    }
    #expect(ends == 17)
    #expect(outcomes == [.renewed, .revived])
  }

  @Test func anAcknowledgementKillsItsOwnLifeOnly() throws {
    var verdicts: [EntrySettlement.Verdict] = []
    let ends = try explore(try start(), withAcknowledger: true) { world in
      guard case .done(let outcome) = world.hitter else {
        Issue.record("\(world.trace)")
        return
      }
      let stored = try world.stored()
      if let verdict = world.acknowledged { verdicts.append(verdict) }
      switch (outcome, world.acknowledged) {
      case (.revived, .accepted?):
        Issue.record("the eviction was both called off and acknowledged: \(world.trace)")
      case (.revived, _): #expect(stored.record?.generation == 2 && stored.marker != nil, "\(world.trace)")
      case (.registered, let verdict):
        #expect(verdict == .accepted && stored.record?.state == .live, "\(world.trace)")
      default: break
      }
      // Nothing living is ever without its marker, nothing is EVICTING under a number that is not its own.
      if stored.record?.state == .live { #expect(stored.marker != nil, "\(world.trace)") }
      if case .evicting(let sequence, _)? = stored.record?.state {
        guard case .evict? = world.items[Int(sequence) - 1] as JournalItem? else {
          Issue.record("\(world.trace)")
          return
        }
      }
    }
    #expect(ends == 86)
    #expect(verdicts.contains(.accepted) && verdicts.contains(.stale(livingGeneration: 2)))
  }
}
