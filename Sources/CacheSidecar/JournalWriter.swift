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
    case catchUp(JournalHead, CheckedContinuation<Result<Void, SidecarStoreError>, Never>)
  }

  private struct State {
    var jobs: Deque<Job> = []
    var isRunning = false
    var index = JournalIndex()
    /// The outcome of the last append is unknown: read the head before the next one.
    var mustReload = false
    var wakers: [@Sendable () -> Void] = []
  }

  /// Revivals in one transaction: two operations each, within etcd's 128.
  private static let maxRevivalsPerAppend = 32
  /// What the store holds of one chunk.
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

  /// Until the watch ends, with an error: what other sidecars append becomes known here, and wakes the readers.
  func follow(from revision: Int64) async throws {
    for try await batch in context.store.watch(prefix: context.layout.journalHead, from: revision) {
      if let stored = batch.events.last(where: { $0.kind == .put })?.record { try await catchUp(with: stored) }
    }
    throw SidecarStoreError.unavailable("the watch on the journal's head has ended")
  }

  /// Learns what the store's head tells. Behind the appends under way here: theirs is the usual reason that it moves.
  func catchUp(with stored: KeyRecord) async throws(SidecarStoreError) {
    let head = try head(in: stored)
    guard state.withLock({ $0.index.isBehind(head) }) else { return }
    try await withCheckedContinuation { enqueue(.catchUp(head, $0)) }.get()
  }

  private func head(in stored: KeyRecord) throws(SidecarStoreError) -> JournalHead {
    do { return try JournalHead(decoding: stored.value) } catch {
      throw .refused("the journal's head \(context.layout.journalHead) cannot be read: \(error)")
    }
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
    case .catchUp(let head, let continuation):
      continuation.resume(
        returning: await result { () async throws(SidecarStoreError) in
          if self.state.withLock({ $0.index.isBehind(head) }) { try await self.reload() }
        })
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

  /// Items become readable together with what they tell of: a reader that saw one before its entry's change would take
  /// it for void and pass over it.
  private func appendChunk(_ candidates: [EvictionCandidate]) async throws(SidecarStoreError) -> [Int64?] {
    for _ in 0..<Self.maxConflictRetries {
      let plan = planner.evictions(
        candidates, after: state.withLock { $0.index.head }, appendID: .random(in: .min ... .max))
      let transitions = [Transition(plan.append)] + plan.changes.map(Transition.init)
      let bytes = transitions.reduce(0) { $0 + $1.approximateBytes }
      guard bytes <= Transition.maxCommitBytes || candidates.count == 1 else {
        let half = candidates.count / 2
        return try await appendChunk(Array(candidates[..<half])) + appendChunk(Array(candidates[half...]))
      }
      let outcomes = try await context.store.commit(transitions)
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
      let head = state.withLock { $0.index.head }
      let append = planner.revivals(candidates, after: head, appendID: .random(in: .min ... .max))
      guard let revision = try await context.store.commit([Transition(append)])[0].revision else {
        try await reload()
        if state.withLock({ $0.index.head == head }) { return nil }
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
      let (head, target) = state.withLock { state in (state.index.head, state.index.trimTarget(below: sequence)) }
      guard target > head.first else { return }
      let append = planner.trim(to: target, after: head, appendID: .random(in: .min ... .max))
      if try await context.store.commit([Transition(append)])[0].revision != nil {
        state.withLock { $0.index.noteTrim(append.head) }
        return
      }
      try await reload()
    }
    throw .unavailable("the journal is being written by somebody else")
  }

  /// Makes a committed append visible.
  private func publish(_ append: JournalPlanner.Append) {
    let wakers = state.withLock { state in
      state.index.note(append)
      return state.wakers
    }
    for wake in wakers { wake() }
  }

  /// The head and the index as the store has them.
  private func reload() async throws(SidecarStoreError) {
    guard let stored = try await context.store.get([context.layout.journalHead])[0] else {
      throw .refused("the journal's head \(context.layout.journalHead) is missing from the store")
    }
    let head = try head(in: stored)
    let known = state.withLock { $0.index }
    if known.head == head {
      state.withLock { $0.mustReload = false }
      return
    }
    if known.head.epoch != 0 {
      logger.info("journal: the head has moved", metadata: ["from": "\(known.head.next)", "to": "\(head.next)"])
    }
    let starts = try await readChunkStarts(known.unknown(below: head))
    let wakers = state.withLock { state in
      state.index.reload(head, newStarts: starts)
      state.mustReload = false
      return state.wakers
    }
    for wake in wakers { wake() }
  }

  private func readChunkStarts(_ numbers: Range<UInt64>) async throws(SidecarStoreError) -> [UInt64] {
    var starts: [UInt64] = []
    var start = context.layout.journalChunk(firstSequence: numbers.lowerBound)
    let end = context.layout.journalChunk(firstSequence: numbers.upperBound)
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
  package var epoch: UInt32 { state.withLock { $0.index.head.epoch } }
  package var head: UInt64 { state.withLock { $0.index.head.next - 1 } }
  package var first: UInt64 { state.withLock { $0.index.head.first } }

  package func onAdvance(_ wake: @escaping @Sendable () -> Void) {
    state.withLock { $0.wakers.append(wake) }
  }

  package func items(
    from sequence: UInt64, limit: Int
  ) async throws(SidecarStoreError) -> [(sequence: UInt64, item: JournalItem)] {
    let lookup = state.withLock { $0.index.lookUp(from: sequence, limit: limit) }
    guard !lookup.chunkStarts.isEmpty, limit > 0 else { return [] }
    if let remembered = lookup.remembered { return lookup.items(of: remembered) }
    return lookup.items(of: try await read(lookup.chunkStarts))
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
