import Logging
import Primitives
import SidecarCore
import StateMachine

/// The entry half of a sidecar over one store: entries, hits, evictions, the journal.
///
///     let sidecar = try Sidecar(store: store, policies: policies, logger: logger)
///     try await sidecar.open()        // reads the journal's head
///     sidecar.addRoutes(to: &router)  // the HTTP API
///     await sidecar.run()             // evicts, until cancelled
package final class Sidecar: Sendable {
  package let caches: [String: SidecarCache]
  package let journal: JournalWriter
  package let metrics: SidecarMetrics
  let context: SidecarContext
  let pipeline: EntryPipeline
  private let evictor: Evictor
  private let eventOutcomes: Outcomes

  package init(
    store: any SidecarStore, policies: [CachePolicy], layout: StoreLayout = StoreLayout(),
    clock: SidecarClock = .system, logger: Logger
  ) {
    metrics = SidecarMetrics()
    context = SidecarContext(store: store, layout: layout, clock: clock, metrics: metrics)
    let now = clock.monotonicMilliseconds()
    caches = Dictionary(
      policies.map { ($0.name, SidecarCache(policy: $0, layout: layout, now: now)) },
      uniquingKeysWith: { first, _ in preconditionFailure("two policies for the cache \(first.name)") })
    journal = JournalWriter(context: context, logger: logger)
    pipeline = EntryPipeline(context: context, journal: journal)
    evictor = Evictor(context: context, journal: journal, caches: caches, logger: logger)
    eventOutcomes = Outcomes(context: context, journal: journal, caches: caches)
  }

  /// Before anything else.
  package func open() async throws(SidecarStoreError) { try await journal.open() }

  /// Evicts what is due until the task is cancelled.
  package func run() async { await evictor.run() }

  /// One scan for what is owed: `run` does it at its start and hourly.
  package func scan() async throws(SidecarStoreError) { try await evictor.scan() }

  /// For the event half.
  package var outcomes: any EvictionOutcomes { eventOutcomes }

  /// Requests of one cache, carried out at the same time; results in their order.
  package func perform(
    _ requests: [(key: Bytes, request: EntryRequest)], in cache: SidecarCache, hook: HookKind
  ) async -> [EntryResult] {
    let results = await pipeline.perform(requests, in: cache)
    count(results, cache: cache, hook: hook)
    return results
  }

  /// True when the hit was coalesced: done. Else `completion` gets the outcome, on any thread.
  package func hit(_ cache: SidecarCache, _ key: Bytes, completion: () -> EntryCompletion) -> Bool {
    pipeline.hit(cache, key, completion: completion)
  }

  func count(_ results: [EntryResult], cache: SidecarCache, hook: HookKind) {
    var counts = [UInt64](repeating: 0, count: EntryOutcome.allCases.count)
    var failures: UInt64 = 0
    for result in results {
      switch result {
      case .success(let outcome): counts[outcome.rawValue] += 1
      case .failure: failures += 1
      }
    }
    for (outcome, count) in zip(EntryOutcome.allCases, counts) where count > 0 {
      metrics.countHit(cache: cache.name, hook: hook, outcome: outcome.label, count)
    }
    if failures > 0 { metrics.countHit(cache: cache.name, hook: hook, outcome: "failed", failures) }
  }
}
