import DequeModule
import Keyspace
import Primitives
import SidecarCore
import Synchronization

/// One request that has to go to the store.
struct EntryWork: Sendable {
  var cache: SidecarCache
  var key: Bytes
  var request: EntryRequest
  /// The lease that the key had at its last renewal here: saves the look-up.
  var known: RenewedLease?
  /// For a hit: nil, the waiters are the cache's (`SidecarCache.finishHit`).
  var completion: EntryCompletion?

  var entry: EntryName { cache.entry(key) }
}

/// Takes requests from any thread and carries them out in batches: while some are with the store, the next ones gather.
/// Each round reads what is not known, plans (`EntryPlanner`), and commits renewals, changes and journal entries side
/// by side; what lost a race is read and planned anew.
final class EntryPipeline: Sendable {
  private struct State {
    var queue: Deque<EntryWork> = []
    var runningCount = 0
  }

  private static let maxBatch = 4_096
  /// Batches with the store at one time: enough to fill the log's own batching, few enough to gather.
  private static let maxConcurrentBatches = 4
  /// A request that lost this many races in a row is refused as "too contended".
  private static let maxRounds = 16

  let context: SidecarContext
  let journal: JournalWriter
  private let state = Mutex(State())

  init(context: SidecarContext, journal: JournalWriter) {
    self.context = context
    self.journal = journal
  }

  /// Requests that wait for a batch.
  var backlog: Int { state.withLock { $0.queue.count } }

  /// True when the hit was coalesced: nothing will be called. Else `completion` gets the outcome, on any thread.
  func hit(_ cache: SidecarCache, _ key: Bytes, completion: () -> EntryCompletion) -> Bool {
    switch cache.admitHit(key, at: context.clock.monotonicMilliseconds(), completion: completion) {
    case .coalesced: return true
    case .joined: return false
    case .mustRenew(let known):
      submit(EntryWork(cache: cache, key: key, request: .hit, known: known, completion: nil))
      return false
    }
  }

  func submit(_ work: EntryWork) {
    let mustStart = state.withLock { state in
      state.queue.append(work)
      guard state.runningCount < Self.maxConcurrentBatches else { return false }
      state.runningCount += 1
      return true
    }
    if mustStart { Task { await run() } }
  }

  private func run() async {
    while true {
      let batch = state.withLock { state -> [EntryWork] in
        let batch = Array(state.queue.prefix(Self.maxBatch))
        state.queue.removeFirst(batch.count)
        if batch.isEmpty { state.runningCount -= 1 }
        return batch
      }
      if batch.isEmpty { return }
      await process(batch)
    }
  }

  private func process(_ batch: [EntryWork]) async {
    var open = batch
    for _ in 0..<Self.maxRounds where !open.isEmpty {
      open = await round(open)
    }
    for work in open { finish(work, .failure(.unavailable("too many changes of this entry at the same time"))) }
  }

  // MARK: One round

  private struct Renewal {
    var work: EntryWork
    var renewal: EntryRenewal
  }

  private struct Change {
    var work: EntryWork
    var change: EntryChange
    var outcome: EntryOutcome
    var lease: LeaseID
    var terms: LeaseTerms
  }

  private struct Plans {
    var renewals: [Renewal] = []
    var changes: [Change] = []
    var evictions: [(work: EntryWork, candidate: EvictionCandidate)] = []
    var revivals: [(work: EntryWork, candidate: RevivalCandidate)] = []
  }

  /// Returns what lost a race.
  private func round(_ batch: [EntryWork]) async -> [EntryWork] {
    let plans = await plan(batch)
    if plans.changes.isEmpty, plans.evictions.isEmpty, plans.revivals.isEmpty {
      return await renew(plans.renewals)
    }
    async let renewals = renew(plans.renewals)
    async let changes = commit(plans.changes)
    async let evictions = evict(plans.evictions)
    async let revivals = revive(plans.revivals)
    return await renewals + changes + evictions + revivals
  }

  private func plan(_ batch: [EntryWork]) async -> Plans {
    var plans = Plans()
    var lookups: [EntryWork] = []
    for work in batch {
      guard let known = work.known else {
        lookups.append(work)
        continue
      }
      plans.renewals.append(Renewal(work: work, renewal: EntryRenewal(known)))
    }
    if lookups.isEmpty { return plans }
    do {
      let entries = try await context.store.readEntries(lookups.map(\.entry), layout: context.layout)
      for (work, entry) in zip(lookups, entries) {
        switch entry {
        case .success(let stored): plan(work, stored, into: &plans)
        case .failure(let error): finish(work, .failure(error))
        }
      }
    } catch {
      for work in lookups { finish(work, .failure(error)) }
    }
    return plans
  }

  private func plan(_ work: EntryWork, _ stored: StoredEntry, into plans: inout Plans) {
    let plan = work.cache.planner.plan(
      work.request, stored, newLease: FreshLease.pick(), wallMilliseconds: context.clock.wallMilliseconds())
    switch plan {
    case .answer(let outcome): finish(work, .success(outcome))
    case .renew(let renewal):
      let now = context.clock.monotonicMilliseconds()
      if work.completion != nil, work.cache.isFresh(work.key, lease: renewal.lease, at: now) {
        finish(work, .success(.coalesced))
      } else {
        plans.renewals.append(Renewal(work: work, renewal: renewal))
      }
    case .change(let change, let outcome, let lease, let terms):
      plans.changes.append(Change(work: work, change: change, outcome: outcome, lease: lease, terms: terms))
    case .evict(let candidate): plans.evictions.append((work, candidate))
    case .revive(let candidate): plans.revivals.append((work, candidate))
    }
  }

  private func renew(_ renewals: [Renewal]) async -> [EntryWork] {
    if renewals.isEmpty { return [] }
    let issuedAt = context.clock.monotonicMilliseconds()
    let granted: [Int64]
    do { granted = try await context.store.renew(renewals.map(\.renewal.lease)) } catch {
      for renewal in renewals { finish(renewal.work, .failure(error)) }
      return []
    }
    var lost: [EntryWork] = []
    for (renewal, ttl) in zip(renewals, granted) {
      guard ttl > 0 else {
        // The lease is gone: the entry is on its way out, or has another lease. Look.
        var work = renewal.work
        work.known = nil
        lost.append(work)
        continue
      }
      let lease = renewal.renewal.renewed(issuedAtMilliseconds: issuedAt)
      finish(renewal.work, .success(.renewed), remembering: lease)
    }
    context.metrics.countRenewals(renewals.count - lost.count)
    return lost
  }

  private func commit(_ changes: [Change]) async -> [EntryWork] {
    if changes.isEmpty { return [] }
    let issuedAt = context.clock.monotonicMilliseconds()
    let outcomes: [TransitionOutcome]
    do { outcomes = try await context.store.commit(changes.map { Transition($0.change) }) } catch {
      for change in changes { finish(change.work, .failure(error)) }
      return []
    }
    var lost: [EntryWork] = []
    for (change, outcome) in zip(changes, outcomes) {
      guard let revision = outcome.revision else {
        lost.append(change.work)
        continue
      }
      context.note(change.change, revision: revision)
      let lease = RenewedLease(
        lease: change.lease, generation: change.change.after?.generation ?? 0, markerRevision: revision,
        issuedAtMilliseconds: issuedAt, windowMilliseconds: change.terms.windowMilliseconds)
      finish(change.work, .success(change.outcome), remembering: lease)
    }
    return lost
  }

  private func evict(_ evictions: [(work: EntryWork, candidate: EvictionCandidate)]) async -> [EntryWork] {
    if evictions.isEmpty { return [] }
    let revisions: [Int64?]
    do { revisions = try await journal.evict(await measured(evictions.map(\.candidate))) } catch {
      for eviction in evictions { finish(eviction.work, .failure(error)) }
      return []
    }
    var lost: [EntryWork] = []
    for (eviction, revision) in zip(evictions, revisions) {
      guard let revision else {
        lost.append(eviction.work)
        continue
      }
      let work = eviction.work
      work.cache.forget(work.key, revision: revision, at: context.clock.monotonicMilliseconds())
      finish(work, .success(.evictionStarted))
    }
    return lost
  }

  /// With the idle time, told from what is left of their leases.
  private func measured(_ candidates: [EvictionCandidate]) async throws(SidecarStoreError) -> [EvictionCandidate] {
    var measured = candidates
    let times = try await context.store.timeToLive(candidates.map(\.lease))
    for (index, time) in times.enumerated() {
      guard let time else { continue }
      measured[index].idleMilliseconds = max(0, time.grantedMilliseconds - time.remainingMilliseconds)
    }
    return measured
  }

  private func revive(_ revivals: [(work: EntryWork, candidate: RevivalCandidate)]) async -> [EntryWork] {
    if revivals.isEmpty { return [] }
    let issuedAt = context.clock.monotonicMilliseconds()
    let revisions: [Int64?]
    do { revisions = try await journal.revive(revivals.map(\.candidate)) } catch {
      for revival in revivals { finish(revival.work, .failure(error)) }
      return []
    }
    var lost: [EntryWork] = []
    for (revival, revision) in zip(revivals, revisions) {
      guard let revision else {
        lost.append(revival.work)
        continue
      }
      let candidate = revival.candidate
      let lease = RenewedLease(
        lease: candidate.lease, generation: candidate.after.generation, markerRevision: revision,
        issuedAtMilliseconds: issuedAt, windowMilliseconds: candidate.terms.windowMilliseconds)
      finish(revival.work, .success(.revived), remembering: lease)
    }
    return lost
  }

  // MARK: The end of a request

  private func finish(_ work: EntryWork, _ result: EntryResult, remembering lease: RenewedLease? = nil) {
    let now = context.clock.monotonicMilliseconds()
    guard let completion = work.completion else {
      for uncovered in work.cache.finishHit(work.key, result, remembering: lease, at: now) {
        if hit(work.cache, work.key, completion: { uncovered }) { uncovered(.success(.coalesced)) }
      }
      return
    }
    if let lease { work.cache.remember(work.key, lease, at: now) }
    completion(result)
  }
}
