import Keyspace
import Primitives

/// What somebody wants of an entry.
package enum EntryRequest: Hashable, Sendable {
  case hit
  case register(EntryRegistration)
  /// Evict now, by an operator or because the cache has deleted the blob.
  case evict
}

/// The attributes of a registration; what is nil stays as it is (or at its default on a new entry).
package struct EntryRegistration: Hashable, Sendable {
  package var sizeBytes: Int64?
  package var ttlMilliseconds: Int64?
  package var refs: [Bytes]?
  package var labels: [String: String]?

  package init(
    sizeBytes: Int64? = nil, ttlMilliseconds: Int64? = nil, refs: [Bytes]? = nil, labels: [String: String]? = nil
  ) {
    self.sizeBytes = sizeBytes
    self.ttlMilliseconds = ttlMilliseconds
    self.refs = refs
    self.labels = labels
  }
}

/// What came of a request.
package enum EntryOutcome: Int, Hashable, Sendable, CaseIterable {
  /// A hit within the window of a committed renewal.
  case coalesced
  /// The lease runs anew.
  case renewed
  /// A new life: unknown before.
  case registered
  /// A registration of a known entry with other attributes.
  case updated
  /// The eviction under way is off; generation + 1.
  case revived
  /// No such entry, and nothing made one.
  case unknown
  /// A subscriber has deleted it already: cannot be stopped.
  case evicting
  /// The eviction that was asked for is committed (now or earlier).
  case evictionStarted
}

/// An eviction that is due, and what guards it.
package struct EvictionCandidate: Hashable, Sendable {
  package var entry: EntryName
  package var record: EntryRecord
  package var recordRevision: Int64
  package var reason: EvictionReason
  /// How long the entry has been unused.
  package var idleMilliseconds: Int64
  /// The lease of a marker that goes with it; 0 when the marker is gone and must still be gone when this commits.
  package var lease: LeaseID

  package init(
    entry: EntryName, record: EntryRecord, recordRevision: Int64, reason: EvictionReason, idleMilliseconds: Int64,
    lease: LeaseID = 0
  ) {
    self.entry = entry
    self.record = record
    self.recordRevision = recordRevision
    self.reason = reason
    self.idleMilliseconds = idleMilliseconds
    self.lease = lease
  }
}

/// An eviction under way that is called off: the record that takes its place, and the lease of the new life.
package struct RevivalCandidate: Hashable, Sendable {
  package var entry: EntryName
  package var before: EntryRecord
  package var recordRevision: Int64
  /// The sequence number under which the eviction was delivered.
  package var evictionSequence: UInt64
  package var after: EntryRecord
  package var terms: LeaseTerms
  package var lease: LeaseID
}

/// A lease to be renewed, and what is known of its entry once it is.
package struct EntryRenewal: Hashable, Sendable {
  package var lease: LeaseID
  package var generation: UInt64
  package var markerRevision: Int64
  package var windowMilliseconds: Int64

  /// The lease that the key had at its last renewal here.
  package init(_ known: RenewedLease) {
    lease = known.lease
    generation = known.generation
    markerRevision = known.markerRevision
    windowMilliseconds = known.windowMilliseconds
  }

  /// The window is what the lease as granted allows: a policy may have been changed since.
  init(_ stored: StoredEntry, _ record: EntryRecord, _ terms: LeaseTerms) {
    lease = stored.lease
    generation = record.generation
    markerRevision = stored.markerRevision
    let granted = stored.marker?.grantedMilliseconds ?? terms.grantedMilliseconds
    windowMilliseconds = max(0, min(terms.windowMilliseconds, granted - terms.ttlMilliseconds))
  }

  package func renewed(issuedAtMilliseconds: Int64) -> RenewedLease {
    RenewedLease(
      lease: lease, generation: generation, markerRevision: markerRevision,
      issuedAtMilliseconds: issuedAtMilliseconds, windowMilliseconds: windowMilliseconds)
  }
}

/// The step that a request calls for, given the entry as it stands.
package enum EntryPlan: Hashable, Sendable {
  case answer(EntryOutcome)
  /// Renew the lease of the marker that was read.
  case renew(EntryRenewal)
  /// One guarded change; it grants `lease` under `terms`.
  case change(EntryChange, EntryOutcome, lease: LeaseID, terms: LeaseTerms)
  /// Through the journal.
  case evict(EvictionCandidate)
  case revive(RevivalCandidate)
}

/// The step that a veto calls for.
package enum KeepPlan: Hashable, Sendable {
  case answer(KeepOutcome)
  case revive(RevivalCandidate)
}

/// The rules of an entry's life as a function from an entry and a request to a step.
package struct EntryPlanner: Sendable {
  package var layout: StoreLayout
  package var policy: CachePolicy

  package init(layout: StoreLayout, policy: CachePolicy) {
    self.layout = layout
    self.policy = policy
  }

  /// `newLease`: a fresh ID, used when the step grants one. `wallMilliseconds` since 1970 becomes `registeredAt`.
  package func plan(
    _ request: EntryRequest, _ stored: StoredEntry, newLease: LeaseID, wallMilliseconds: Int64
  ) -> EntryPlan {
    guard let record = stored.record else {
      return planAbsent(request, stored, newLease: newLease, wallMilliseconds: wallMilliseconds)
    }
    switch (record.state, request) {
    case (.live, .hit):
      return stored.marker == nil ? remark(stored, record, newLease: newLease) : renewal(of: stored, record)
    case (.live, .register(let registration)):
      return planKnown(registration, stored, record, newLease: newLease)
    case (.live, .evict):
      return .evict(deletion(of: stored, record))
    case (.evicting, .evict):
      return .answer(.evictionStarted)
    case (.evicting, .hit) where record.acknowledged:
      return .answer(.evicting)
    case (.evicting(let sequence, _), .hit):
      return .revive(
        revival(
          of: stored, record, sequence: sequence, with: EntryRegistration(), lease: newLease,
          registeredAtMilliseconds: record.registeredAtMilliseconds))
    case (.evicting(let sequence, _), .register(let registration)):
      // The blob is in the cache anew, whoever has deleted the old one: a life of its own.
      return .revive(
        revival(
          of: stored, record, sequence: sequence, with: registration, lease: newLease,
          registeredAtMilliseconds: wallMilliseconds))
    }
  }

  /// A subscriber's veto: back to LIVE with this TTL (nil: the entry's own).
  package func planKeep(
    _ stored: StoredEntry, sequence: UInt64, ttlMilliseconds: Int64?, newLease: LeaseID
  ) -> KeepPlan {
    guard let record = stored.record, stored.isEvicting(as: sequence) else {
      return .answer(.stale(livingGeneration: stored.record?.state == .live ? stored.record?.generation : nil))
    }
    if record.acknowledged { return .answer(.tooLate) }
    return .revive(
      revival(
        of: stored, record, sequence: sequence, with: EntryRegistration(ttlMilliseconds: ttlMilliseconds),
        lease: newLease, registeredAtMilliseconds: record.registeredAtMilliseconds))
  }

  private func planAbsent(
    _ request: EntryRequest, _ stored: StoredEntry, newLease: LeaseID, wallMilliseconds: Int64
  ) -> EntryPlan {
    let registration: EntryRegistration
    switch request {
    case .evict: return .answer(.unknown)
    case .hit where policy.registration == .explicit: return .answer(.unknown)
    case .hit: registration = EntryRegistration()
    case .register(let given): registration = given
    }
    let record = EntryRecord(
      sizeBytes: registration.sizeBytes ?? 0, refs: registration.refs ?? [], labels: registration.labels ?? [:],
      registeredAtMilliseconds: wallMilliseconds,
      ttlMilliseconds: registration.ttlMilliseconds ?? policy.ttlMilliseconds)
    return marking(stored, becomes: record, lease: newLease, writesRecord: true, outcome: .registered)
  }

  private func planKnown(
    _ registration: EntryRegistration, _ stored: StoredEntry, _ record: EntryRecord, newLease: LeaseID
  ) -> EntryPlan {
    let after = Self.updated(record, by: registration)
    if after == record {
      return stored.marker == nil ? remark(stored, record, newLease: newLease) : renewal(of: stored, record)
    }
    return marking(stored, becomes: after, lease: newLease, writesRecord: true, outcome: .updated)
  }

  private func renewal(of stored: StoredEntry, _ record: EntryRecord) -> EntryPlan {
    let terms = policy.terms(for: stored.entry.key, ttlMilliseconds: record.ttlMilliseconds)
    return .renew(EntryRenewal(stored, record, terms))
  }

  /// LIVE, but the lease has run out and nobody has decided the eviction yet: this hit won the race. Same life.
  private func remark(_ stored: StoredEntry, _ record: EntryRecord, newLease: LeaseID) -> EntryPlan {
    marking(stored, becomes: record, lease: newLease, writesRecord: false, outcome: .renewed)
  }

  private func marking(
    _ stored: StoredEntry, becomes record: EntryRecord, lease: LeaseID, writesRecord: Bool, outcome: EntryOutcome
  ) -> EntryPlan {
    let terms = policy.terms(for: stored.entry.key, ttlMilliseconds: record.ttlMilliseconds)
    let marker = layout.marker(stored.entry)
    var change = EntryChange(
      entry: stored.entry, before: stored.record, after: record,
      comparisons: [
        .isAt(layout.record(stored.entry), revision: stored.recordRevision),
        .isAt(marker, revision: stored.markerRevision),
      ],
      grants: [EntryLease(id: lease, ttlMilliseconds: terms.grantedMilliseconds)],
      operations: [
        .put(
          PutRequest(
            marker,
            EntryMarker(generation: record.generation, grantedMilliseconds: terms.grantedMilliseconds).encoded(),
            lease: lease))
      ])
    if writesRecord { change.operations.append(.put(PutRequest(layout.record(stored.entry), record.encoded()))) }
    if stored.lease != 0 { change.revokes.append(stored.lease) }
    return .change(change, outcome, lease: lease, terms: terms)
  }

  private func deletion(of stored: StoredEntry, _ record: EntryRecord) -> EvictionCandidate {
    EvictionCandidate(
      entry: stored.entry, record: record, recordRevision: stored.recordRevision, reason: .deleted,
      idleMilliseconds: 0, lease: stored.lease)
  }

  private func revival(
    of stored: StoredEntry, _ record: EntryRecord, sequence: UInt64, with registration: EntryRegistration,
    lease: LeaseID, registeredAtMilliseconds: Int64
  ) -> RevivalCandidate {
    var after = Self.updated(record, by: registration)
    after.state = .live
    after.generation = record.generation + 1
    after.acknowledged = false
    after.registeredAtMilliseconds = registeredAtMilliseconds
    return RevivalCandidate(
      entry: stored.entry, before: record, recordRevision: stored.recordRevision, evictionSequence: sequence,
      after: after, terms: policy.terms(for: stored.entry.key, ttlMilliseconds: after.ttlMilliseconds), lease: lease)
  }

  private static func updated(_ record: EntryRecord, by registration: EntryRegistration) -> EntryRecord {
    var after = record
    if let size = registration.sizeBytes { after.sizeBytes = size }
    if let ttl = registration.ttlMilliseconds { after.ttlMilliseconds = ttl }
    if let refs = registration.refs { after.refs = refs }
    if let labels = registration.labels { after.labels = labels }
    return after
  }
}
