import Primitives
import SidecarCore

// What the two halves of the sidecar know of each other: the entry half (hits, HTTP API, evictor) writes the journal, the
// event half (subscribers, the event socket) reads it, keeps cursors and reports what everybody has acknowledged.

/// The journal as its readers see it. Implemented by the entry half.
package protocol EvictionJournal: Sendable {
  var epoch: UInt32 { get }
  /// The last sequence number whose commit is done (0 when none), and the first still kept.
  var head: UInt64 { get }
  var first: UInt64 { get }
  /// Items from `sequence` on, at most `limit`, in order, no gaps; empty at the head.
  func items(from sequence: UInt64, limit: Int) async throws(SidecarStoreError) -> [(
    sequence: UInt64, item: JournalItem
  )]
  /// Calls back (on any thread, at once, cheaply) whenever the head rises.
  func onAdvance(_ wake: @escaping @Sendable () -> Void)
}

/// What subscribers do to entries. Implemented by the entry half.
package protocol EvictionOutcomes: Sendable {
  /// The records of these evictions as they stand: which items are still due (EVICTING under that sequence number).
  func areDue(_ items: [(sequence: UInt64, entry: EntryName)]) async throws(SidecarStoreError) -> [Bool]

  /// A first acknowledgement of some but not all subscribers: sets `acknowledged`. And a last one: removes the record.
  /// `cursor` transitions (the subscribers' new cursors) commit together with them, before this returns.
  /// `stale`: the entry lives again under the generation given (nil: it is gone altogether).
  func settle(
    _ acknowledgements: [Acknowledgement], cursors: [Transition]
  ) async throws(SidecarStoreError) -> [AcknowledgementOutcome]

  /// Veto by a subscriber: back to LIVE, generation + 1, with this TTL (nil: the policy's).
  func keep(_ entry: EntryName, sequence: UInt64, ttlMilliseconds: Int64?) async throws(SidecarStoreError)
    -> KeepOutcome
}

package typealias AcknowledgementOutcome = EntrySettlement.Verdict
