import Keyspace

/// Events that watches of one range are told together. One object for all of them, so that what it costs to prepare
/// (the encoded form above all) is paid once. Bound to the event loop whose hub made it.
package final class WatchedEvents {
  /// Whole revisions, ascending; not empty.
  package let events: [KeyspaceEvent]
  /// The keyspace's when the events were read.
  package let revision: Int64
  /// What the etcd service has made of them.
  var encoded = EncodedWatchEvents()

  package init(_ events: [KeyspaceEvent], revision: Int64) {
    precondition(!events.isEmpty, "watches are not told of nothing")
    self.events = events
    self.revision = revision
  }

  var firstRevision: Int64 { events[0].record.modRevision }
  var lastRevision: Int64 { events[events.count - 1].record.modRevision }

  /// What a watch that begins at `revision` sees; nil when that is nothing.
  func from(_ revision: Int64) -> WatchedEvents? {
    if revision <= firstRevision { return self }
    guard let start = events.firstIndex(where: { $0.record.modRevision >= revision }) else { return nil }
    return WatchedEvents(Array(events[start...]), revision: self.revision)
  }
}

extension [KeyspaceEvent] {
  /// The events, which are whole revisions in order, as watches are told of them: the previous value is the one of the
  /// revision before, as etcd reads it, and not what the same transaction had put in between.
  func withPreviousOfEarlierRevisions() -> [KeyspaceEvent] {
    guard contains(where: \.followsItsOwnRevision) else { return self }
    var events = self
    for index in indices where self[index].followsItsOwnRevision {
      let record = self[index].record
      let sameRevision = self[..<index].reversed().prefix { $0.record.modRevision == record.modRevision }
      events[index].previous = sameRevision.last { $0.record.key == record.key }?.previous
    }
    return events
  }
}

extension KeyspaceEvent {
  fileprivate var followsItsOwnRevision: Bool { previous?.modRevision == record.modRevision }

  /// What an event weighs in a queue: its bytes and about what the wire adds.
  var approximateBytes: Int {
    record.key.count + record.value.count + (previous.map { $0.key.count + $0.value.count } ?? 0) + 64
  }
}
