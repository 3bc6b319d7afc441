import Primitives

/// What happens to a subscriber: the input of `SubscriberState.step`.
package enum SubscriberEvent: Sendable {
  /// A connection asked for this name (and its record is committed).
  case attached(connection: UInt64, Subscription, AttachmentKind, node: String, JournalBounds)
  case detached(connection: UInt64)
  /// The journal has grown or was trimmed.
  case advanced(JournalBounds)
  /// The connection holds more unsent bytes than is good.
  case congested(connection: UInt64)
  case writable(connection: UInt64)
  /// Answers `.read`.
  case read([JournalReading])
  /// Answers `.verify`: those whose eviction is off.
  case verified(notDue: Set<UInt64>)
  /// A `.read` or `.verify` came to nothing; it is asked for again in a while.
  case readFailed
  /// `request` names the answer.
  case op(SubscriberOp, request: UInt64)
  /// Committed. `stale`: entries that live again.
  case settled(CursorSettlement, stale: [EventMessage.StaleEvent])
  /// Nothing of it is known to be committed.
  case unsettled(CursorSettlement)
  case kept(request: UInt64, sequence: UInt64, KeepOutcome)
  /// Time has passed: due several times a second.
  case clock
}

package enum KeepOutcome: Hashable, Sendable {
  case kept
  case stale(livingGeneration: UInt64?)
  /// Another subscriber has deleted it already: the eviction stands, for this one as well.
  case tooLate
  /// No eviction has this number.
  case unknown
  case failed
}

package enum AttachmentKind: Hashable, Sendable {
  /// Until it ends: what was delivered before and not acknowledged is delivered again at once.
  case stream
  /// One answer with at most `limit` events; what earlier polls took comes again when its wait is over.
  case poll(limit: Int)
}

package struct JournalBounds: Hashable, Sendable {
  package var epoch: UInt32
  package var first: UInt64
  package var head: UInt64

  package init(epoch: UInt32, first: UInt64, head: UInt64) {
    self.epoch = epoch
    self.first = first
    self.head = head
  }
}

/// One journal item as read for a subscriber. `isDue` is false for an eviction whose record is not EVICTING under this
/// sequence number.
package struct JournalReading: Hashable, Sendable {
  package var sequence: UInt64
  package var item: JournalItem
  package var isDue: Bool

  package init(sequence: UInt64, item: JournalItem, isDue: Bool) {
    self.sequence = sequence
    self.item = item
    self.isDue = isDue
  }
}

/// What is to be committed for one subscriber: acknowledgements, and its cursor with them.
package struct CursorSettlement: Hashable, Sendable {
  package struct Eviction: Hashable, Sendable {
    package var sequence: UInt64
    package var entry: EntryName
    package var generation: UInt64

    package init(sequence: UInt64, entry: EntryName, generation: UInt64) {
      self.sequence = sequence
      self.entry = entry
      self.generation = generation
    }
  }

  /// The answer that waits for it.
  package var request: UInt64?
  package var evictions: [Eviction] = []
  package var blobIsGone = false
  /// Acknowledged sequence numbers that were not delivered in this process's life: their items are to be looked up in
  /// the journal and settled as well.
  package var unread = SequenceSet()
  /// Cancels that were acknowledged, and what this subscriber is not told of: only the cursor learns of them.
  package var passed = SequenceSet()
  /// The whole set of parked events when it has changed.
  package var parked: SequenceSet?

  package init() {}

  /// Everything the cursor gains.
  package var sequences: SequenceSet {
    var result = passed
    for range in unread.ranges { result.insert(range) }
    for eviction in evictions { result.insert(eviction.sequence) }
    return result
  }
}

/// What the shell has to do: the output of `SubscriberState.step`, in order.
package enum SubscriberAction: Hashable, Sendable {
  case send(connection: UInt64, EventMessage)
  /// First or repeated deliveries, in order.
  case deliver(connection: UInt64, [EvictEvent], batch: Int)
  case answer(request: UInt64, EventMessage)
  /// Read at most `limit` items from `from` on, find out which are due, and come back with `.read`.
  case read(from: UInt64, limit: Int, SubscriberScope)
  /// Find out which of these are still due before they are delivered again; come back with `.verified`.
  case verify([CursorSettlement.Eviction])
  /// Commit, and come back with `.settled` or `.unsettled`.
  case settle(CursorSettlement)
  /// Veto; come back with `.kept`. `entry` is nil when it has to be looked up in the journal.
  case keep(request: UInt64, sequence: UInt64, entry: EntryName?, ttlMilliseconds: Int64?)
  /// Remove the subscriber's record; then answer.
  case forget(request: UInt64)
  /// Say this last word, if any, then close.
  case close(connection: UInt64, EventMessage?)
}
