import Keyspace
import Primitives

/// How entries and the journal change together.
///
/// Evictions come in batches: one transaction appends their items (chunk and head), then every entry changes in a
/// transaction of its own. Each of those is guarded by the head's very value, `appendID` included: should another
/// append slip in between (a second writer, or a lost answer to an earlier append), none of them goes through under a
/// sequence number that is not its own.
///
/// Revivals come with their `cancel` items in one transaction, all or nothing: a cancel that is in the journal has
/// happened.
package struct JournalPlanner: Sendable {
  package var layout: StoreLayout

  package init(layout: StoreLayout) { self.layout = layout }

  /// A transaction that moves the head.
  package struct Append: Hashable, Sendable {
    package var head: JournalHead
    /// Nil for a trim.
    package var chunk: JournalChunk?
    package var comparisons: [Comparison]
    package var grants: [EntryLease] = []
    package var operations: [Operation]
  }

  /// `appendID` is random. At most `Limits.maxJournalChunkItems` candidates, at least one.
  package func evictions(
    _ candidates: [EvictionCandidate], after head: JournalHead, appendID: UInt64
  ) -> (append: Append, changes: [EntryChange]) {
    precondition(!candidates.isEmpty && candidates.count <= Limits.maxJournalChunkItems)
    let items = candidates.map { candidate in
      JournalItem.evict(
        candidate.entry, generation: candidate.record.generation, reason: candidate.reason,
        sizeBytes: candidate.record.sizeBytes, idleMilliseconds: candidate.idleMilliseconds,
        registeredAtMilliseconds: candidate.record.registeredAtMilliseconds)
    }
    let append = append(items, after: head, appendID: appendID)
    let headGuard = Comparison(.single(layout.journalHead), .equal, .value(append.head.encoded()))
    let changes = candidates.enumerated().map { index, candidate in
      change(candidate, sequence: head.next + UInt64(index), headGuard: headGuard)
    }
    return (append, changes)
  }

  /// Calls evictions off, all or nothing.
  package func revivals(
    _ candidates: [RevivalCandidate], after head: JournalHead, appendID: UInt64
  ) -> Append {
    precondition(!candidates.isEmpty && candidates.count <= Limits.maxJournalChunkItems)
    let items = candidates.map { candidate in
      JournalItem.cancel(candidate.entry, of: candidate.evictionSequence, generation: candidate.after.generation)
    }
    var append = append(items, after: head, appendID: appendID)
    for candidate in candidates {
      let record = layout.record(candidate.entry)
      let granted = candidate.terms.grantedMilliseconds
      let marker = EntryMarker(generation: candidate.after.generation, grantedMilliseconds: granted)
      append.comparisons.append(.isAt(record, revision: candidate.recordRevision))
      append.grants.append(EntryLease(id: candidate.lease, ttlMilliseconds: granted))
      append.operations.append(.put(PutRequest(record, candidate.after.encoded())))
      append.operations.append(
        .put(PutRequest(layout.marker(candidate.entry), marker.encoded(), lease: candidate.lease)))
    }
    return append
  }

  /// Deletes the chunks before the one that begins with `first`, which becomes the oldest sequence number kept.
  package func trim(to first: UInt64, after head: JournalHead, appendID: UInt64) -> Append {
    var next = head
    next.first = first
    next.appendID = appendID
    return Append(
      head: next, chunk: nil, comparisons: [headIs(head)],
      operations: [
        .put(PutRequest(layout.journalHead, next.encoded())),
        .delete(
          DeleteRequest(
            .halfOpen(
              start: layout.journalChunk(firstSequence: 0), end: layout.journalChunk(firstSequence: first)))),
      ])
  }

  /// The journal's beginning: only where there is none.
  package func creation(of head: JournalHead) -> Append {
    Append(
      head: head, chunk: nil, comparisons: [.isAbsent(layout.journalHead)],
      operations: [.put(PutRequest(layout.journalHead, head.encoded()))])
  }

  private func headIs(_ head: JournalHead) -> Comparison {
    Comparison(.single(layout.journalHead), .equal, .value(head.encoded()))
  }

  private func append(_ items: [JournalItem], after head: JournalHead, appendID: UInt64) -> Append {
    let chunk = JournalChunk(firstSequence: head.next, items: items)
    var next = head
    next.next += UInt64(items.count)
    next.appendID = appendID
    return Append(
      head: next, chunk: chunk, comparisons: [headIs(head)],
      operations: [
        .put(PutRequest(layout.journalChunk(firstSequence: chunk.firstSequence), chunk.encoded())),
        .put(PutRequest(layout.journalHead, next.encoded())),
      ])
  }

  private func change(
    _ candidate: EvictionCandidate, sequence: UInt64, headGuard: Comparison
  ) -> EntryChange {
    let recordKey = layout.record(candidate.entry)
    let markerKey = layout.marker(candidate.entry)
    var after = candidate.record
    after.state = .evicting(sequence: sequence, reason: candidate.reason)
    after.acknowledged = false
    var change = EntryChange(
      entry: candidate.entry, before: candidate.record, after: after,
      comparisons: [.isAt(recordKey, revision: candidate.recordRevision), headGuard],
      operations: [.put(PutRequest(recordKey, after.encoded()))])
    if candidate.reason == .deleted {
      change.operations.append(.delete(DeleteRequest(.single(markerKey))))
      if candidate.lease != 0 { change.revokes = [candidate.lease] }
    } else {
      change.comparisons.append(.isAbsent(markerKey))
    }
    return change
  }
}
