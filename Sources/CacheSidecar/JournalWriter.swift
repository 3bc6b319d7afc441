import DequeModule
import Keyspace
import Logging
import Primitives
import SidecarCore
import Synchronization

/// The one writer of the journal: every append goes through its queue, one commit at a time. Also the journal as its
/// readers see it.
///
/// A crash leaves behind: nothing of an append, or its items without some of the entries' changes. Such items are void
/// (their records are not EVICTING under their sequence number), and the next scan finds what is still owed.
package final class JournalWriter: Sendable {
  private enum Job {
    case evict([EvictionCandidate], CheckedContinuation<Result<[Int64?], SidecarStoreError>, Never>)
    case revive([RevivalCandidate], CheckedContinuation<Result<[Int64?], SidecarStoreError>, Never>)
    case trim(below: UInt64, CheckedContinuation<Result<Void, SidecarStoreError>, Never>)
  }

  private struct State {
    var jobs: Deque<Job> = []
    var isRunning = false
    var head = JournalHead(epoch: 0)
    /// The outcome of the last append is unknown: read the head before the next one.
    var mustReload = false
    /// First sequence number of each chunk kept, ascending.
    var chunkStarts: [UInt64] = []
    var recentChunks: Deque<JournalChunk> = []
    var recentItemCount = 0
    var wakers: [@Sendable () -> Void] = []
  }

  /// Items of recent chunks kept in memory, so that prompt readers need not go to the store.
  private static let maxRecentItems = 20_000
  /// Revivals in one transaction: two operations each, within etcd's 128.
  private static let maxRevivalsPerAppend = 32
  /// A chunk and the changes that follow stay far below a request's limit.
  private static let maxChunkBytes = 512 * 1024
  private static let maxConflictRetries = 8

  private let context: SidecarContext
  private let planner: JournalPlanner
  private let logger: Logger
  private let state = Mutex(State())

  init(context: SidecarContext, logger: Logger) {
    self.context = context
    planner = JournalPlanner(layout: context.layout)
    self.logger = logger
  }

  /// Reads the journal's head and index, or begins a journal. Before anything else.
  func open() async throws(SidecarStoreError) {
    if try await context.store.get([context.layout.journalHead])[0] == nil {
      let head = JournalHead(epoch: .random(in: 1...UInt32.max), appendID: .random(in: .min ... .max))
      // A conflict means that another sidecar has begun it just now: theirs counts.
      _ = try await context.store.commit([Transition(planner.creation(of: head))])
    }
    try await reload()
  }

  // MARK: Appending

  /// Commits these evictions. The revision of each, nil for one whose guard failed: somebody else has changed the entry
  /// first.
  func evict(_ candidates: [EvictionCandidate]) async throws(SidecarStoreError) -> [Int64?] {
    guard !candidates.isEmpty else { return [] }
    return try await withCheckedContinuation { enqueue(.evict(candidates, $0)) }.get()
  }

  /// Calls these evictions off. The revision of each, nil for one whose guard failed.
  func revive(_ candidates: [RevivalCandidate]) async throws(SidecarStoreError) -> [Int64?] {
    guard !candidates.isEmpty else { return [] }
    return try await withCheckedContinuation { enqueue(.revive(candidates, $0)) }.get()
  }

  /// Forgets whole chunks of items below `sequence`: everybody has acknowledged them.
  package func trim(below sequence: UInt64) async throws(SidecarStoreError) {
    try await withCheckedContinuation { enqueue(.trim(below: sequence, $0)) }.get()
  }

  private func enqueue(_ job: Job) {
    let mustStart = state.withLock { state in
      state.jobs.append(job)
      defer { state.isRunning = true }
      return !state.isRunning
    }
    if mustStart { Task { await run() } }
  }

  private func run() async {
    while true {
      let next = state.withLock { state -> Job? in
        if state.jobs.isEmpty { state.isRunning = false }
        return state.jobs.popFirst()
      }
      guard let next else { return }
      await perform(next)
    }
  }

  private func perform(_ job: Job) async {
    switch job {
    case .evict(let candidates, let continuation):
      continuation.resume(
        returning: await result { () async throws(SidecarStoreError) in try await self.append(candidates) })
    case .revive(let candidates, let continuation):
      continuation.resume(
        returning: await result { () async throws(SidecarStoreError) in try await self.append(candidates) })
    case .trim(let sequence, let continuation):
      continuation.resume(
        returning: await result { () async throws(SidecarStoreError) in try await self.cut(below: sequence) })
    }
  }

  private func result<T>(
    _ body: () async throws(SidecarStoreError) -> T
  ) async -> Result<T, SidecarStoreError> {
    do {
      if state.withLock({ $0.mustReload }) { try await reload() }
      return .success(try await body())
    } catch {
      state.withLock { $0.mustReload = true }
      return .failure(error)
    }
  }

  private func append(_ candidates: [EvictionCandidate]) async throws(SidecarStoreError) -> [Int64?] {
    var done: [Int64?] = []
    var rest = candidates[...]
    while !rest.isEmpty {
      let part = Self.chunk(of: rest)
      rest = rest.dropFirst(part.count)
      done += try await appendChunk(part)
    }
    return done
  }

  /// As many as fit one chunk by number and by bytes; at least one.
  private static func chunk(of candidates: ArraySlice<EvictionCandidate>) -> [EvictionCandidate] {
    var bytes = 0
    var part: [EvictionCandidate] = []
    for candidate in candidates.prefix(Limits.maxJournalChunkItems) {
      bytes += candidate.entry.key.count + candidate.entry.cache.utf8.count + 64
      if bytes > maxChunkBytes, !part.isEmpty { break }
      part.append(candidate)
    }
    return part
  }

  private func appendChunk(_ candidates: [EvictionCandidate]) async throws(SidecarStoreError) -> [Int64?] {
    for _ in 0..<Self.maxConflictRetries {
      let plan = planner.evictions(
        candidates, after: state.withLock { $0.head }, appendID: .random(in: .min ... .max))
      let outcomes = try await context.store.commit([Transition(plan.append)] + plan.changes.map(Transition.init))
      guard outcomes[0].revision != nil else {
        try await reload()
        continue
      }
      let revisions = outcomes.dropFirst().map(\.revision)
      for (index, revision) in revisions.enumerated() {
        guard let revision else { continue }
        let candidate = candidates[index]
        context.note(plan.changes[index], revision: revision)
        context.metrics.countEviction(cache: candidate.entry.cache, reason: candidate.reason)
      }
      publish(plan.append)
      return revisions
    }
    throw .unavailable("the journal is being written by somebody else")
  }

  private func append(_ candidates: [RevivalCandidate]) async throws(SidecarStoreError) -> [Int64?] {
    var revisions: [Int64?] = []
    var rest = candidates[...]
    while !rest.isEmpty {
      let part = Array(rest.prefix(Self.maxRevivalsPerAppend))
      rest = rest.dropFirst(part.count)
      if let revision = try await appendRevivals(part) {
        revisions += part.map { _ in revision }
      } else if part.count == 1 {
        revisions.append(nil)
      } else {
        // One of them has changed: find it, one by one.
        for candidate in part { revisions.append(try await appendRevivals([candidate])) }
      }
    }
    return revisions
  }

  /// The commit's revision; nil when a record has changed.
  private func appendRevivals(_ candidates: [RevivalCandidate]) async throws(SidecarStoreError) -> Int64? {
    for _ in 0..<Self.maxConflictRetries {
      let head = state.withLock { $0.head }
      let append = planner.revivals(candidates, after: head, appendID: .random(in: .min ... .max))
      guard let revision = try await context.store.commit([Transition(append)])[0].revision else {
        try await reload()
        if state.withLock({ $0.head == head }) { return nil }
        continue
      }
      for candidate in candidates {
        context.note(
          EntryChange(
            entry: candidate.entry, before: candidate.before, after: candidate.after, comparisons: [], operations: []),
          revision: revision)
      }
      publish(append)
      return revision
    }
    throw .unavailable("the journal is being written by somebody else")
  }

  private func cut(below sequence: UInt64) async throws(SidecarStoreError) {
    for _ in 0..<Self.maxConflictRetries {
      let (head, target) = state.withLock { state in (state.head, Self.trimTarget(state, below: sequence)) }
      guard target > head.first else { return }
      let append = planner.trim(to: target, after: head, appendID: .random(in: .min ... .max))
      if try await context.store.commit([Transition(append)])[0].revision != nil {
        state.withLock { state in
          state.head = append.head
          state.chunkStarts.removeAll { $0 < target }
          while let oldest = state.recentChunks.first, oldest.firstSequence < target {
            state.recentItemCount -= oldest.items.count
            state.recentChunks.removeFirst()
          }
        }
        return
      }
      try await reload()
    }
    throw .unavailable("the journal is being written by somebody else")
  }

  /// The first sequence number that must stay: the start of the chunk that holds `sequence`.
  private static func trimTarget(_ state: State, below sequence: UInt64) -> UInt64 {
    if sequence >= state.head.next { return state.head.next }
    return state.chunkStarts.last { $0 <= sequence } ?? state.head.first
  }

  /// Makes a committed append visible.
  private func publish(_ append: JournalPlanner.Append) {
    guard let chunk = append.chunk else { preconditionFailure("an append without items") }
    let wakers = state.withLock { state in
      state.head = append.head
      state.chunkStarts.append(chunk.firstSequence)
      state.recentChunks.append(chunk)
      state.recentItemCount += chunk.items.count
      while state.recentItemCount > Self.maxRecentItems, state.recentChunks.count > 1 {
        state.recentItemCount -= state.recentChunks.removeFirst().items.count
      }
      return state.wakers
    }
    for wake in wakers { wake() }
  }

  /// The head and the index as the store has them.
  private func reload() async throws(SidecarStoreError) {
    guard let stored = try await context.store.get([context.layout.journalHead])[0] else {
      throw .refused("the journal's head \(context.layout.journalHead) is missing from the store")
    }
    let head: JournalHead
    do { head = try JournalHead(decoding: stored.value) } catch {
      throw .refused("the journal's head \(context.layout.journalHead) cannot be read: \(error)")
    }
    let known = state.withLock { $0 }
    if known.head == head {
      state.withLock { $0.mustReload = false }
      return
    }
    if known.head.epoch != 0 {
      logger.info("journal: the head has moved", metadata: ["from": "\(known.head.next)", "to": "\(head.next)"])
    }
    var starts = known.chunkStarts.filter { $0 >= head.first }
    let from = known.head.epoch == head.epoch ? known.head.next : head.first
    if known.head.epoch != head.epoch { starts = [] }
    starts += try await readChunkStarts(from: from, to: head.next)
    let wakers = state.withLock { state in
      state.head = head
      state.chunkStarts = starts
      state.recentChunks.removeAll()
      state.recentItemCount = 0
      state.mustReload = false
      return state.wakers
    }
    for wake in wakers { wake() }
  }

  private func readChunkStarts(from: UInt64, to: UInt64) async throws(SidecarStoreError) -> [UInt64] {
    var starts: [UInt64] = []
    var start = context.layout.journalChunk(firstSequence: from)
    let end = context.layout.journalChunk(firstSequence: to)
    while start < end {
      var query = RangeQuery(.halfOpen(start: start, end: end), limit: Int64(Limits.maxJournalChunkItems))
      query.keysOnly = true
      let page = try await context.store.range(query)
      for record in page.records {
        let digits = String(decoding: record.key.array[context.layout.allJournalChunks.count...], as: UTF8.self)
        guard let first = UInt64(digits, radix: 16) else {
          throw .refused("the journal has a chunk with the name \(record.key)")
        }
        starts.append(first)
      }
      guard page.more, let last = page.records.last else { break }
      start = last.key.successor
    }
    return starts
  }
}

extension JournalWriter: EvictionJournal, JournalTrimming {
  package var epoch: UInt32 { state.withLock { $0.head.epoch } }
  package var head: UInt64 { state.withLock { $0.head.next - 1 } }
  package var first: UInt64 { state.withLock { $0.head.first } }

  package func onAdvance(_ wake: @escaping @Sendable () -> Void) {
    state.withLock { $0.wakers.append(wake) }
  }

  package func items(
    from sequence: UInt64, limit: Int
  ) async throws(SidecarStoreError) -> [(sequence: UInt64, item: JournalItem)] {
    let (start, chunks, remembered) = state.withLock { state in
      let start = max(sequence, state.head.first)
      let chunks = Self.chunks(state, from: start, limit: limit)
      var remembered: [JournalChunk]?
      if let first = chunks.first, let oldest = state.recentChunks.first, oldest.firstSequence <= first {
        let last = chunks[chunks.index(before: chunks.endIndex)]
        remembered = state.recentChunks.filter { (first...last).contains($0.firstSequence) }
      }
      return (start, chunks, remembered)
    }
    guard !chunks.isEmpty, limit > 0 else { return [] }
    var items: [(sequence: UInt64, item: JournalItem)] = []
    let wanted: [JournalChunk]
    if let remembered { wanted = remembered } else { wanted = try await read(chunks) }
    for chunk in wanted {
      for (offset, item) in chunk.items.enumerated() {
        let number = chunk.firstSequence + UInt64(offset)
        if number >= start, items.count < limit { items.append((number, item)) }
      }
    }
    return items
  }

  /// The starts of the chunks that hold `limit` items from `start` on.
  private static func chunks(_ state: State, from start: UInt64, limit: Int) -> ArraySlice<UInt64> {
    let starts = state.chunkStarts
    var low = 0
    var high = starts.count
    while low < high {
      let middle = (low + high) / 2
      if starts[middle] <= start { low = middle + 1 } else { high = middle }
    }
    let begin = max(0, low - 1)
    let wanted = start + UInt64(max(0, limit))
    var end = begin
    while end < starts.count, starts[end] < wanted { end += 1 }
    return starts[begin..<end]
  }

  private func read(_ starts: ArraySlice<UInt64>) async throws(SidecarStoreError) -> [JournalChunk] {
    let records = try await context.store.get(starts.map { context.layout.journalChunk(firstSequence: $0) })
    var chunks: [JournalChunk] = []
    for (start, record) in zip(starts, records) {
      // Trimmed meanwhile: whoever asked is behind the journal and will see so from `first`.
      guard let record else { continue }
      do { chunks.append(try JournalChunk(decoding: record.value)) } catch {
        throw .refused("the journal's chunk \(start) cannot be read: \(error)")
      }
    }
    return chunks
  }
}
