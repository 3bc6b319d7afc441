import Primitives
import Synchronization

/// What has been published and not yet been looked at by one event loop. Bounded: when the loop cannot keep up, what
/// waits is dropped and its first revision remembered, and the watches read it from history.
final class WatchInbox: Sendable {
  struct Mail {
    var batches: [PublishedBatch] = []
    /// Everything from this revision up to the batches is missing.
    var gapStart: Int64?
    /// The latest compaction among what has arrived.
    var compactRevision: Int64?
  }

  private struct Contents {
    var mail = Mail()
    var bytes = 0
    /// Somebody is up to date and must be told; otherwise nothing is kept.
    var isListening = false
    var isWakeScheduled = false
  }

  private let contents = Mutex(Contents())
  private let counters: WatchCounters

  init(counters: WatchCounters) { self.counters = counters }

  /// From here on nothing may be missed. Called with the applied state's lock held: what is applied later arrives.
  func listen() { contents.withLock { $0.isListening = true } }

  /// Nobody is up to date any more.
  func stopListening() {
    contents.withLock { contents in
      contents.isListening = false
      drop(&contents)
      contents.mail = Mail()
      contents.isWakeScheduled = false
    }
  }

  /// Something has arrived since the last `take`, be it only the news of a compaction.
  var hasMail: Bool { contents.withLock { $0.isWakeScheduled } }

  /// No events wait here.
  var isEmpty: Bool { contents.withLock { $0.mail.batches.isEmpty && $0.mail.gapStart == nil } }

  /// True when the owner has to be woken. Called with the applied state's lock held, as is `postGap`.
  func post(_ batch: PublishedBatch, compactRevision: Int64?) -> Bool {
    contents.withLock { contents in
      guard contents.isListening else { return false }
      if let compactRevision { contents.mail.compactRevision = compactRevision }
      if let first = batch.events.first {
        let isFull = contents.bytes > 0 && contents.bytes + batch.bytes > Limits.maxWatchInboxBytes
        if isFull || contents.mail.gapStart != nil {
          let start = contents.mail.batches.first?.events.first?.record.modRevision ?? first.record.modRevision
          contents.mail.gapStart = min(contents.mail.gapStart ?? .max, start)
          drop(&contents)
        } else {
          contents.mail.batches.append(batch)
          contents.bytes += batch.bytes
          counters.pending(batch.events.count)
        }
      }
      return shouldWake(&contents)
    }
  }

  func postGap(from revision: Int64) -> Bool {
    contents.withLock { contents in
      guard contents.isListening else { return false }
      let start = contents.mail.batches.first?.events.first?.record.modRevision ?? revision
      contents.mail.gapStart = min(contents.mail.gapStart ?? .max, start)
      drop(&contents)
      return shouldWake(&contents)
    }
  }

  func take() -> Mail {
    contents.withLock { contents in
      let mail = contents.mail
      contents.mail = Mail()
      contents.bytes = 0
      contents.isWakeScheduled = false
      return mail
    }
  }

  private func shouldWake(_ contents: inout Contents) -> Bool {
    defer { contents.isWakeScheduled = true }
    return !contents.isWakeScheduled
  }

  private func drop(_ contents: inout Contents) {
    counters.pending(-contents.mail.batches.reduce(0) { $0 + $1.events.count })
    contents.mail.batches = []
    contents.bytes = 0
  }
}

/// Figures about watches, read by a scrape.
package final class WatchCounters: Sendable {
  private let slowWatches = Atomic<Int>(0)
  private let toldEvents = Atomic<Int>(0)
  private let pendingEvents = Atomic<Int>(0)

  package init() {}

  /// Watches that read history: new ones with a start in the past, and those whose client does not keep up.
  package var slow: Int { slowWatches.load(ordering: .relaxed) }
  /// Events handed to watches, counted once for each watch.
  package var told: Int { toldEvents.load(ordering: .relaxed) }
  /// Applied events that wait for an event loop to look at them.
  package var pending: Int { pendingEvents.load(ordering: .relaxed) }

  func slow(_ change: Int) { slowWatches.wrappingAdd(change, ordering: .relaxed) }
  func told(_ count: Int) { toldEvents.wrappingAdd(count, ordering: .relaxed) }
  func pending(_ change: Int) { pendingEvents.wrappingAdd(change, ordering: .relaxed) }
}
