import Keyspace

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
}
