import Keyspace
import Member
import Primitives
import SidecarCore
import StateMachine

/// Hits, registrations and deletions on their way through one sidecar.
final class SidecarRequests {
  typealias Completion = (Result<EntryOutcome, ProposalError>) -> Void

  private struct Work {
    var entry: EntryName
    var request: EntryRequest
    var known: RenewedLease?
    /// Nil for a hit: `waiters` wait.
    var completion: Completion?
    var rounds = 0
  }

  private static let maxRounds = 16

  private unowned let sidecar: SimulatedSidecar
  private let planners: [String: EntryPlanner]
  private var coalescers: [String: HitCoalescer]
  private var waiters: [EntryName: [(hitAt: Int64, completion: Completion)]] = [:]

  init(_ sidecar: SimulatedSidecar) {
    self.sidecar = sidecar
    let policies = SimulatedSidecar.policies.map { ($0.name, $0) }
    planners = Dictionary(
      uniqueKeysWithValues: policies.map { ($0, EntryPlanner(layout: SimulatedSidecar.layout, policy: $1)) })
    coalescers = Dictionary(
      uniqueKeysWithValues: policies.map {
        ($0, HitCoalescer(windowMilliseconds: $1.windowMilliseconds, now: sidecar.now))
      })
  }

  private var store: SimulatedStore { sidecar.store }

  func forget(_ entry: EntryName, revision: Int64) {
    coalescers[entry.cache]!.forget(entry.key, revision: revision, at: sidecar.now)
  }

  func remember(_ entry: EntryName, _ lease: RenewedLease) {
    coalescers[entry.cache]!.remember(entry.key, lease, at: sidecar.now)
  }

  func perform(_ request: EntryRequest, _ entry: EntryName, _ completion: @escaping Completion) {
    if request == .hit { return hit(entry, completion) }
    carryOut(Work(entry: entry, request: request, completion: completion))
  }

  private func hit(_ entry: EntryName, _ completion: @escaping Completion) {
    switch coalescers[entry.cache]!.hit(entry.key, at: sidecar.now) {
    case .coalesced: completion(.success(.coalesced))
    case .join: waiters[entry, default: []].append((sidecar.now, completion))
    case .renew(let known):
      waiters[entry] = [(sidecar.now, completion)]
      let work = Work(entry: entry, request: .hit, known: known)
      if sidecar.mistake == .renewsNothing, known != nil { finish(work, .success(.renewed)) } else { carryOut(work) }
    }
  }

  private func carryOut(_ work: Work) {
    guard work.rounds < Self.maxRounds else { return finish(work, .failure(.tooManyRequests)) }
    if let known = work.known { return renew(work, EntryRenewal(known)) }
    store.entries([work.entry], SimulatedSidecar.layout) { [unowned self] result in
      switch result {
      case .failure(let error): finish(work, .failure(error))
      case .success(let entries): if let entry = entries.first { plan(work, entry) }
      }
    }
  }

  private func plan(_ work: Work, _ stored: StoredEntry) {
    let lease = LeaseID.random(in: 1_000_000...LeaseID.max, using: &sidecar.generator)
    let plan = planners[work.entry.cache]!.plan(
      work.request, stored, newLease: lease, wallMilliseconds: sidecar.wallMilliseconds)
    switch plan {
    case .answer(let outcome): finish(work, .success(outcome))
    case .renew(let renewal):
      let isFresh = coalescers[work.entry.cache]!.isFresh(work.entry.key, lease: renewal.lease, at: sidecar.now)
      if work.completion != nil, isFresh { finish(work, .success(.coalesced)) } else { renew(work, renewal) }
    case .change(let change, let outcome, let lease, let terms):
      commit(work, change, outcome, lease, terms)
    case .evict(let candidate): evict(work, candidate)
    case .revive(let candidate): revive(work, candidate)
    }
  }

  /// The race is lost: look again.
  private func again(_ work: Work) {
    var work = work
    work.known = nil
    work.rounds += 1
    carryOut(work)
  }

  private func renew(_ work: Work, _ renewal: EntryRenewal) {
    let issuedAt = sidecar.now
    store.renew(renewal.lease) { [unowned self] result in
      switch result {
      case .failure(let error): finish(work, .failure(error))
      case .success(0): again(work)
      case .success:
        finish(work, .success(.renewed), remembering: renewal.renewed(issuedAtMilliseconds: issuedAt))
      }
    }
  }

  private func commit(
    _ work: Work, _ change: EntryChange, _ outcome: EntryOutcome, _ lease: LeaseID, _ terms: LeaseTerms
  ) {
    let issuedAt = sidecar.now
    store.commit([Command(change)]) { [unowned self] result in
      switch result.map({ $0[0] }) {
      case .failure(let error): finish(work, .failure(error))
      case .success(nil): again(work)
      case .success(let revision?):
        finish(
          work, .success(outcome),
          remembering: RenewedLease(
            lease: lease, generation: change.after?.generation ?? 0, markerRevision: revision,
            issuedAtMilliseconds: issuedAt, windowMilliseconds: terms.windowMilliseconds))
      }
    }
  }

  private func evict(_ work: Work, _ candidate: EvictionCandidate) {
    sidecar.journal.evict([candidate]) { [unowned self] result in
      switch result.map({ $0[0] }) {
      case .failure(let error): finish(work, .failure(error))
      case .success(nil): again(work)
      case .success(let revision?):
        forget(work.entry, revision: revision)
        finish(work, .success(.evictionStarted))
      }
    }
  }

  private func revive(_ work: Work, _ candidate: RevivalCandidate) {
    let issuedAt = sidecar.now
    sidecar.journal.revive(candidate) { [unowned self] result in
      switch result {
      case .failure(let error): finish(work, .failure(error))
      case .success(nil): again(work)
      case .success(let revision?):
        finish(
          work, .success(.revived),
          remembering: RenewedLease(
            lease: candidate.lease, generation: candidate.after.generation, markerRevision: revision,
            issuedAtMilliseconds: issuedAt, windowMilliseconds: candidate.terms.windowMilliseconds))
      }
    }
  }

  /// A subscriber's veto.
  func keep(_ entry: EntryName, sequence: UInt64, rounds: Int = 0, _ completion: @escaping (KeepOutcome) -> Void) {
    guard rounds < Self.maxRounds else { return completion(.failed) }
    store.entries([entry], SimulatedSidecar.layout) { [unowned self] result in
      guard case .success(let entries) = result, let stored = entries.first else { return completion(.failed) }
      let lease = LeaseID.random(in: 1_000_000...LeaseID.max, using: &sidecar.generator)
      let plan = planners[entry.cache]!.planKeep(stored, sequence: sequence, ttlMilliseconds: nil, newLease: lease)
      switch plan {
      case .answer(let outcome): completion(outcome)
      case .revive(let revival):
        sidecar.journal.revive(revival) { [unowned self] result in
          switch result {
          case .failure: completion(.failed)
          case .success(nil): keep(entry, sequence: sequence, rounds: rounds + 1, completion)
          case .success: completion(.kept)
          }
        }
      }
    }
  }

  private func finish(
    _ work: Work, _ result: Result<EntryOutcome, ProposalError>, remembering lease: RenewedLease? = nil
  ) {
    if let lease { remember(work.entry, lease) }
    if let completion = work.completion { return completion(result) }
    coalescers[work.entry.cache]!.finish(work.entry.key)
    for waiter in waiters.removeValue(forKey: work.entry) ?? [] {
      // A hit that the renewal does not cover is one anew.
      if let lease, !lease.covers(hitAtMilliseconds: waiter.hitAt) {
        hit(work.entry, waiter.completion)
      } else {
        waiter.completion(result)
      }
    }
  }
}
