import CacheSidecar
import Logging
import Primitives
import SidecarCore

/// A sidecar on a test store, opened.
struct EntryFixture {
  let store: EntryTestStore
  let sidecar: Sidecar
  let layout = StoreLayout()

  init(_ flags: String..., store: EntryTestStore = EntryTestStore()) async throws {
    self.store = store
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    sidecar = Sidecar(
      store: store,
      policies: try (flags.isEmpty ? ["c:ttl=10s,window=1s,jitter=0"] : flags).map { try CachePolicy(flag: $0) },
      clock: store.clock, logger: logger)
    try await sidecar.open()
  }

  var cache: SidecarCache { sidecar.caches["c"]! }

  func entry(_ key: Bytes) -> EntryName { EntryName(cache: "c", key: key) }

  func perform(_ requests: [(key: Bytes, request: EntryRequest)]) async -> [EntryOutcome?] {
    await sidecar.perform(requests, in: cache, hook: .batch).map { try? $0.get() }
  }

  func hit(_ key: Bytes) async -> EntryOutcome? { await perform([(key, .hit)])[0] }

  func register(_ key: Bytes, size: Int64? = nil) async -> EntryOutcome? {
    await perform([(key, .register(EntryRegistration(sizeBytes: size)))])[0]
  }

  func evict(_ key: Bytes) async -> EntryOutcome? { await perform([(key, .evict)])[0] }

  func record(_ key: Bytes) async throws -> EntryRecord? { try await sidecar.entry(key, in: cache)?.record }

  func journal() async throws -> [(sequence: UInt64, item: JournalItem)] {
    try await sidecar.journal.items(from: 1, limit: 1_000_000)
  }

  func acknowledge(_ sequence: UInt64, _ key: Bytes, generation: UInt64 = 1, isLast: Bool, gone: Bool = false)
    async throws -> AcknowledgementOutcome
  {
    try await sidecar.outcomes.settle(
      [
        Acknowledgement(
          sequence: sequence, entry: entry(key), generation: generation, isLast: isLast, blobIsGone: gone)
      ], cursors: [])[0]
  }
}
