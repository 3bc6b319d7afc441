import Keyspace
import Primitives
import SidecarCore
import Testing

@Suite struct EntryPlannerTests {
  private let layout = StoreLayout()
  private let entry = EntryName(cache: "c", key: "k")

  private func planner(_ flag: String = "c:ttl=10s,jitter=0") throws -> EntryPlanner {
    EntryPlanner(layout: layout, policy: try CachePolicy(flag: flag))
  }

  private func stored(_ record: EntryRecord?, marked: Bool) throws -> StoredEntry {
    let marker = EntryMarker(generation: record?.generation ?? 1, grantedMilliseconds: 11_250)
    return try StoredEntry(
      entry,
      record: record.map {
        KeyRecord(key: layout.record(entry), value: $0.encoded(), createRevision: 2, modRevision: 5, version: 1)
      },
      marker: marked
        ? KeyRecord(
          key: layout.marker(entry), value: marker.encoded(), createRevision: 2, modRevision: 4, version: 1, lease: 77)
        : nil)
  }

  private var live: EntryRecord { EntryRecord(sizeBytes: 9, registeredAtMilliseconds: 1, ttlMilliseconds: 10_000) }

  private func evicting(acknowledged: Bool = false) -> EntryRecord {
    var record = live
    record.state = .evicting(sequence: 6, reason: .expired)
    record.acknowledged = acknowledged
    return record
  }

  @Test func aHitOnAnUnknownKeyRegistersItOnlyWhenThePolicySaysSo() throws {
    let nothing = try stored(nil, marked: false)
    let onHit = try planner().plan(.hit, nothing, newLease: 7, wallMilliseconds: 3)
    guard case .change(let change, .registered, let lease, let terms) = onHit else {
      Issue.record("\(onHit)")
      return
    }
    #expect(lease == 7)
    #expect(terms.grantedMilliseconds == 11_250)
    #expect(change.grants == [EntryLease(id: 7, ttlMilliseconds: 11_250)])
    #expect(change.after?.registeredAtMilliseconds == 3)
    #expect(change.comparisons.contains(.isAt(layout.record(entry), revision: 0)))
    let explicit = try planner("c:register=explicit").plan(.hit, nothing, newLease: 7, wallMilliseconds: 3)
    #expect(explicit == .answer(.unknown))
    #expect(try planner().plan(.evict, nothing, newLease: 7, wallMilliseconds: 3) == .answer(.unknown))
  }

  @Test func aHitOnALivingEntryRenewsItsLease() throws {
    let plan = try planner().plan(.hit, try stored(live, marked: true), newLease: 7, wallMilliseconds: 3)
    guard case .renew(let renewal) = plan else {
      Issue.record("\(plan)")
      return
    }
    #expect(renewal.lease == 77 && renewal.markerRevision == 4 && renewal.windowMilliseconds == 1_250)
  }

  @Test func aHitThatComesBeforeTheEvictionIsDecidedMarksTheSameLifeAgain() throws {
    let plan = try planner().plan(.hit, try stored(live, marked: false), newLease: 7, wallMilliseconds: 3)
    guard case .change(let change, .renewed, _, _) = plan else {
      Issue.record("\(plan)")
      return
    }
    #expect(change.after?.generation == 1)
    #expect(change.comparisons == [.isAt(layout.record(entry), revision: 5), .isAt(layout.marker(entry), revision: 0)])
    #expect(change.operations.count == 1, "the marker alone is written")
  }

  @Test func aHitCallsAnEvictionOffUntilASubscriberHasDeletedTheBlob() throws {
    let plan = try planner().plan(.hit, try stored(evicting(), marked: false), newLease: 7, wallMilliseconds: 3)
    guard case .revive(let revival) = plan else {
      Issue.record("\(plan)")
      return
    }
    #expect(revival.after.generation == 2)
    #expect(revival.after.state == .live)
    #expect(revival.evictionSequence == 6)
    let late = try planner().plan(
      .hit, try stored(evicting(acknowledged: true), marked: false), newLease: 7, wallMilliseconds: 3)
    #expect(late == .answer(.evicting))
  }

  @Test func anUploadStartsANewLifeEvenThen() throws {
    let plan = try planner().plan(
      .register(EntryRegistration(sizeBytes: 12)), try stored(evicting(acknowledged: true), marked: false),
      newLease: 7, wallMilliseconds: 99)
    guard case .revive(let revival) = plan else {
      Issue.record("\(plan)")
      return
    }
    #expect(revival.after.generation == 2)
    #expect(revival.after.sizeBytes == 12)
    #expect(!revival.after.acknowledged)
    #expect(revival.after.registeredAtMilliseconds == 99)
  }

  @Test func aRegistrationOfAKnownEntryWritesOnlyWhatChanges() throws {
    let same = try planner().plan(
      .register(EntryRegistration(sizeBytes: 9)), try stored(live, marked: true), newLease: 7, wallMilliseconds: 3)
    guard case .renew = same else {
      Issue.record("\(same)")
      return
    }
    let other = try planner().plan(
      .register(EntryRegistration(ttlMilliseconds: 20_000)), try stored(live, marked: true), newLease: 7,
      wallMilliseconds: 3)
    guard case .change(let change, .updated, _, let terms) = other else {
      Issue.record("\(other)")
      return
    }
    #expect(terms.ttlMilliseconds == 20_000)
    #expect(change.after?.sizeBytes == 9)
    #expect(change.revokes == [77], "the lease it had has lost its marker")
  }

  @Test func aVetoCallsOffOnlyAnEvictionThatNobodyHasCarriedOut() throws {
    func keep(_ record: EntryRecord?, sequence: UInt64 = 6) throws -> KeepPlan {
      try planner().planKeep(
        try stored(record, marked: false), sequence: sequence, ttlMilliseconds: nil, newLease: 7)
    }
    guard case .revive(let revival) = try keep(evicting()) else {
      Issue.record("the eviction is under way")
      return
    }
    #expect(revival.after.generation == 2 && revival.lease == 7)
    #expect(try keep(evicting(acknowledged: true)) == .answer(.tooLate))
    #expect(try keep(evicting(), sequence: 5) == .answer(.stale(livingGeneration: nil)))
    #expect(try keep(live) == .answer(.stale(livingGeneration: 1)))
    #expect(try keep(nil) == .answer(.stale(livingGeneration: nil)))
  }

  @Test func acknowledgementsSettleTheirOwnLifeOnly() throws {
    func settle(_ record: EntryRecord?, marked: Bool = false, generation: UInt64 = 1, isLast: Bool, gone: Bool = false)
      throws -> EntrySettlement
    {
      EntrySettlement(
        of: try stored(record, marked: marked), sequence: 6, generation: generation, isLast: isLast, blobIsGone: gone,
        layout: layout)
    }
    #expect(try settle(evicting(), isLast: false).change?.after?.acknowledged == true)
    #expect(try settle(evicting(acknowledged: true), isLast: false).change == nil)
    let last = try settle(evicting(), isLast: true)
    #expect(last.verdict == .accepted)
    #expect(last.change != nil && last.change?.after == nil)
    #expect(try settle(nil, isLast: true).verdict == .stale(livingGeneration: nil))
    var second = live
    second.generation = 2
    let stale = try settle(second, marked: true, isLast: true)
    #expect(stale.verdict == .stale(livingGeneration: 2))
    #expect(stale.change == nil)
    let dropped = try settle(second, marked: true, isLast: true, gone: true)
    #expect(dropped.change?.operations.count == 2)
    #expect(dropped.change?.revokes == [77])
    var other = evicting()
    other.state = .evicting(sequence: 9, reason: .expired)
    #expect(try settle(other, isLast: true, gone: true).change == nil, "the other eviction is delivered by itself")
  }
}
