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
    var together = SettlementBatch(directory)
    for request in batch {
      switch request {
      case .settle(let name, let settlement, _): together.add(settlement, by: name)
      case .create(let name, let record, _): together.create(name, record)
      case .forget(let name, _): together.forget(name)
      }
    }
    do {
      let stale = try await carryOut(together)
      await complete(batch, stale)
    } catch {
      await fail(batch, error)
    }
  }

  /// The stale ones among the acknowledgements of each request.
  private func carryOut(_ batch: SettlementBatch) async throws(SidecarStoreError) -> [[EventMessage.StaleEvent]] {
    let cursors = batch.cursors(layout).map { Transition(operations: [$0]) }
    var verdicts: [AcknowledgementOutcome] = []
    if !cursors.isEmpty || !batch.acknowledgements.isEmpty {
      verdicts = try await settle(batch.acknowledgements, cursors)
    }
    committed.withLock { committed in
      let policyNames = committed.policyNames
      committed = batch.directory
      committed.policyNames = policyNames
    }
    return batch.stale(verdicts)
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
            record?.isTold(of: eviction) ?? false
          }
          var batch = SettlementBatch(directory)
          batch.add(rest, by: name)
          stale += try await carryOut(batch).joined()
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
