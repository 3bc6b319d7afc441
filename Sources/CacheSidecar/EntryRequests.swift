import Primitives
import SidecarCore
import Synchronization

/// Many requests of one cache at once, with one answer.
extension EntryPipeline {
  /// `completion` gets the results in the order of the requests; at once, on this thread, when every one of them was
  /// coalesced.
  func perform(
    _ requests: [(key: Bytes, request: EntryRequest)], in cache: SidecarCache,
    completion: @escaping @Sendable ([EntryResult]) -> Void
  ) {
    let collector = EntryCollector(count: requests.count, completion: completion)
    var coalescedCount = 0
    for (index, (key, request)) in requests.enumerated() {
      switch request {
      case .hit:
        let isCoalesced = hit(cache, key) { { collector.set(index, $0) } }
        if isCoalesced { coalescedCount += 1 }
      case .register, .evict:
        submit(
          EntryWork(cache: cache, key: key, request: request, known: nil) { result in collector.set(index, result) })
      }
    }
    collector.setCoalesced(coalescedCount)
  }

  func perform(_ requests: [(key: Bytes, request: EntryRequest)], in cache: SidecarCache) async -> [EntryResult] {
    await withCheckedContinuation { continuation in
      perform(requests, in: cache) { continuation.resume(returning: $0) }
    }
  }
}

/// Gathers the results of one batch.
private final class EntryCollector: Sendable {
  private struct State {
    var results: [EntryResult]
    /// Results that are missing, and one for `setCoalesced`.
    var missing: Int
  }

  private let state: Mutex<State>
  private let completion: @Sendable ([EntryResult]) -> Void

  init(count: Int, completion: @escaping @Sendable ([EntryResult]) -> Void) {
    state = Mutex(State(results: Array(repeating: .success(.coalesced), count: count), missing: count + 1))
    self.completion = completion
  }

  func set(_ index: Int, _ result: EntryResult) {
    let results = state.withLock { state -> [EntryResult]? in
      state.results[index] = result
      state.missing -= 1
      return state.missing == 0 ? state.results : nil
    }
    if let results { completion(results) }
  }

  /// The coalesced ones, all at once: what the results begin as. Called once, last.
  func setCoalesced(_ count: Int) {
    let results = state.withLock { state -> [EntryResult]? in
      state.missing -= count + 1
      return state.missing == 0 ? state.results : nil
    }
    if let results { completion(results) }
  }
}
