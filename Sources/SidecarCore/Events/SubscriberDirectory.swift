import Primitives

/// Who must acknowledge what: every subscriber's committed record, and the names that policies add.
///
/// An eviction of a cache waits for the names its policy lists and for every name that ever subscribed to that cache
/// and was not forgotten. With nobody to wait for it stays owed.
package struct SubscriberDirectory: Hashable, Sendable {
  package private(set) var records: [String: SubscriberRecord]
  /// Names by cache; a name counts from the policy's first day, subscribed or not.
  package var policyNames: [String: Set<String>]

  package init(records: [String: SubscriberRecord] = [:], policyNames: [String: Set<String>] = [:]) {
    self.records = records
    self.policyNames = policyNames
  }

  /// Makes or replaces a record.
  package mutating func put(_ record: SubscriberRecord, for name: String) { records[name] = record }

  package mutating func forget(_ name: String) { records[name] = nil }

  /// Adds to a subscriber's cursor. A name that was forgotten meanwhile stays forgotten.
  package mutating func acknowledge(_ sequences: SequenceSet, by name: String) {
    for range in sequences.ranges {
      records[name]?.cursor.insert(range)
      records[name]?.parked.remove(range)
    }
  }

  package mutating func setParked(_ parked: SequenceSet, of name: String) { records[name]?.parked = parked }

  /// Whom the eviction `sequence` of this cache waits for.
  package func waiters(for sequence: UInt64, cache: String) -> Set<String> {
    var names = policyNames[cache] ?? []
    for (name, record) in records where record.scope.includes(cache) { names.insert(name) }
    return names.filter { records[$0].map { $0.start <= sequence } ?? true }
  }

  /// Whether everybody whom the eviction `sequence` of this cache waits for has acknowledged it. False when it waits
  /// for nobody.
  package func isAcknowledgedByAll(_ sequence: UInt64, cache: String) -> Bool {
    let names = waiters(for: sequence, cache: cache)
    return !names.isEmpty && names.allSatisfy { records[$0]?.cursor.contains(sequence) ?? false }
  }

  /// Below it (inclusive) nobody needs the journal any more; nil without any subscriber. A policy's name that has
  /// never subscribed holds everything back.
  package var minimumFloor: UInt64? {
    let isAwaited = policyNames.values.contains { names in names.contains { records[$0] == nil } }
    return isAwaited ? nil : records.values.map(\.cursor.floor).min()
  }
}
