import Keyspace
import Logging
import Primitives
import SidecarCore
import Synchronization

/// Commits what subscribers acknowledge: collects for a few milliseconds, then one `EvictionOutcomes.settle` carries
/// the acknowledgements of everybody together with the cursors. One commit at a time, in the order of the requests, so
/// that it is always clear whose acknowledgement is the last.
package final class SettlementQueue: Sendable {
  /// Awaited one after another, in the order of the requests.
  package typealias Completion<Value> = @Sendable (Result<Value, SidecarStoreError>) async -> Void

  package enum Request: Sendable {
    case settle(name: String, CursorSettlement, Completion<[EventMessage.StaleEvent]>)
    /// Makes a subscriber's record where there is none.
    case create(name: String, SubscriberRecord, Completion<Void>)
    case forget(name: String, Completion<Void>)

    var name: String {
      switch self {
      case .settle(let name, _, _), .create(let name, _, _), .forget(let name, _): name
      }
    }
  }

  /// How long acknowledgements wait for company.
  private static let coalescing = Duration.milliseconds(2)
  /// Acknowledgements in one commit; one more request may take it beyond.
  private static let maxAcknowledgementsPerCommit = 2_000
  private static let journalPageItems = 1_000
  private static let retryDelays: [Duration] = [
    .milliseconds(50), .milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800),
  ]

  private let layout: StoreLayout
  private let journal: any EvictionJournal
  private let outcomes: any EvictionOutcomes
  private let requests = Mutex<[Request]>([])
  /// As committed.
  private let committed: Mutex<SubscriberDirectory>
  private let wakes: AsyncStream<Void>
  private let wake: AsyncStream<Void>.Continuation

  package init(
    layout: StoreLayout, journal: any EvictionJournal, outcomes: any EvictionOutcomes, directory: SubscriberDirectory
  ) {
    self.layout = layout
    self.journal = journal
    self.outcomes = outcomes
    committed = Mutex(directory)
    (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  package var directory: SubscriberDirectory { committed.withLock { $0 } }

  package func setPolicyNames(_ names: [String: Set<String>]) { committed.withLock { $0.policyNames = names } }

  package func enqueue(_ request: Request) {
    requests.withLock { $0.append(request) }
    wake.yield()
  }

  /// Until the task is cancelled. Requests still queued then fail.
  package func run() async {
    for await _ in wakes {
      // An interrupted wait only means that what is there goes out at once.
      try? await Task.sleep(for: Self.coalescing)
      while let batch = takeBatch() { await commit(batch) }
    }
    while let batch = takeBatch() { await fail(batch, .unavailable("the event hub has stopped")) }
  }

  /// As many requests as make one commit; one with unread sequence numbers goes alone.
  private func takeBatch() -> [Request]? {
    requests.withLock { queue in
      var count = 0
      var acknowledgements = 0
      for request in queue {
        if case .settle(_, let settlement, _) = request {
          if !settlement.unread.isEmpty {
            if count == 0 { count = 1 }
            break
          }
          acknowledgements += settlement.evictions.count
        }
        count += 1
        if acknowledgements >= Self.maxAcknowledgementsPerCommit { break }
      }
      guard count > 0 else { return nil }
      let batch = Array(queue.prefix(count))
      queue.removeFirst(count)
      return batch
    }
  }

  private func commit(_ batch: [Request]) async {
    if batch.count == 1, case .settle(let name, let settlement, let completion) = batch[0], !settlement.unread.isEmpty {
      await settleUnread(name, settlement, completion)
      return
    }
    var commit = Commit(directory: directory)
    for request in batch { commit.add(request) }
    do {
      let stale = try await carryOut(commit)
      await complete(batch, stale)
    } catch {
      await fail(batch, error)
    }
  }

  /// One commit while it is put together: the directory as it will be, and what that takes.
  private struct Commit {
    var directory: SubscriberDirectory
    var touched: Set<String> = []
    var acknowledgements: [Acknowledgement] = []
    /// How many acknowledgements each request has added.
    var counts: [Int] = []

    init(directory: SubscriberDirectory) { self.directory = directory }

    mutating func add(_ request: Request) {
      touched.insert(request.name)
      let before = acknowledgements.count
      switch request {
      case .settle(let name, let settlement, _): add(settlement, by: name)
      case .create(let name, let record, _): if directory.records[name] == nil { directory.put(record, for: name) }
      case .forget(let name, _): directory.forget(name)
      }
      counts.append(acknowledgements.count - before)
    }

    mutating func add(_ settlement: CursorSettlement, by name: String) {
      directory.acknowledge(settlement.sequences, by: name)
      if let parked = settlement.parked { directory.setParked(parked, of: name) }
      for eviction in settlement.evictions {
        acknowledgements.append(
          Acknowledgement(
            sequence: eviction.sequence, entry: eviction.entry, generation: eviction.generation,
            isLast: directory.isAcknowledgedByAll(eviction.sequence, cache: eviction.entry.cache),
            blobIsGone: settlement.blobIsGone))
      }
    }

    func cursors(_ layout: StoreLayout, before: SubscriberDirectory) -> [Transition] {
      touched.sorted().compactMap { name in
        let record = directory.records[name]
        guard record != before.records[name] else { return nil }
        let key = layout.subscriber(name)
        let operation: Operation =
          record.map { .put(PutRequest(key, $0.encoded())) } ?? .delete(DeleteRequest(.single(key)))
        return Transition(comparisons: [], grants: [], operations: [operation], revokes: [])
      }
    }
  }

  /// The stale ones among the acknowledgements of each request.
  private func carryOut(_ commit: Commit) async throws(SidecarStoreError) -> [[EventMessage.StaleEvent]] {
    let cursors = commit.cursors(layout, before: directory)
    var results: [AcknowledgementOutcome] = []
    if !cursors.isEmpty || !commit.acknowledgements.isEmpty {
      results = try await settle(commit.acknowledgements, cursors)
    }
    committed.withLock { committed in
      let policyNames = committed.policyNames
      committed = commit.directory
      committed.policyNames = policyNames
    }
    var stale: [[EventMessage.StaleEvent]] = []
    var index = 0
    for count in commit.counts {
      stale.append(
        (index..<index + count).compactMap { place in
          // Gone altogether is what an acknowledgement wants.
          guard place < results.count, case .stale(let generation?) = results[place] else { return nil }
          return EventMessage.StaleEvent(
            sequence: commit.acknowledgements[place].sequence, livingGeneration: generation)
        })
      index += count
    }
    return stale
  }

  /// Settling twice is harmless, so a lost answer is asked for again.
  private func settle(
    _ acknowledgements: [Acknowledgement], _ cursors: [Transition]
  ) async throws(SidecarStoreError) -> [AcknowledgementOutcome] {
    var attempt = 0
    while true {
      do {
        return try await outcomes.settle(acknowledgements, cursors: cursors)
      } catch {
        guard case .unavailable = error, attempt < Self.retryDelays.count, !Task.isCancelled else { throw error }
        // A cancelled wait ends the loop above.
        try? await Task.sleep(for: Self.retryDelays[attempt])
        attempt += 1
      }
    }
  }

  /// Acknowledgements of events that this process has not read: their items are looked up, a page a commit.
  private func settleUnread(
    _ name: String, _ settlement: CursorSettlement, _ completion: @escaping Completion<[EventMessage.StaleEvent]>
  ) async {
    var stale: [EventMessage.StaleEvent] = []
    var rest = settlement
    let unread = settlement.unread
    do throws(SidecarStoreError) {
      for range in unread.ranges {
        var position = range.lowerBound
        while position <= range.upperBound {
          let wanted = range.upperBound - position + 1
          let page = try await journal.items(from: position, limit: Int(min(wanted, UInt64(Self.journalPageItems))))
            .filter { $0.sequence <= range.upperBound }
          // Numbers that the journal does not have any more are only counted.
          let end = page.last.map(\.sequence) ?? range.upperBound
          rest.unread = SequenceSet([position...end])
          let record = directory.records[name]
          rest.evictions += page.compactMap { $0.item.eviction(sequence: $0.sequence) }.filter { eviction in
            // What is not told to this subscriber is not its to acknowledge.
            record.map { $0.scope.includes(eviction.entry.cache) && $0.start <= eviction.sequence } ?? false
          }
          var commit = Commit(directory: directory)
          commit.add(.settle(name: name, rest, completion))
          stale += try await carryOut(commit).joined()
          rest.evictions = []
          rest.passed = SequenceSet()
          position = end + 1
        }
      }
      await completion(.success(stale))
    } catch {
      await completion(.failure(error))
    }
  }

  private func complete(_ batch: [Request], _ stale: [[EventMessage.StaleEvent]]) async {
    for (request, stale) in zip(batch, stale) {
      switch request {
      case .settle(_, _, let completion): await completion(.success(stale))
      case .create(_, _, let completion), .forget(_, let completion):
        await completion(.success(()))
      }
    }
  }

  private func fail(_ batch: [Request], _ error: SidecarStoreError) async {
    for request in batch {
      switch request {
      case .settle(_, _, let completion): await completion(.failure(error))
      case .create(_, _, let completion), .forget(_, let completion):
        await completion(.failure(error))
      }
    }
  }
}

extension JournalItem {
  func eviction(sequence: UInt64) -> CursorSettlement.Eviction? {
    guard case .evict(let entry, let generation, _, _, _, _) = self else { return nil }
    return CursorSettlement.Eviction(sequence: sequence, entry: entry, generation: generation)
  }
}
