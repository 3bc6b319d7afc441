import Primitives

/// Where the sidecar keeps what under its prefix. All keys of one kind share a prefix, so that a scan or a watch of
/// that kind is one range.
///
/// | key | value | lease |
/// |---|---|---|
/// | `r/CACHE/KEY` | the record: `EntryRecord` | none |
/// | `m/CACHE/KEY` | the marker: `EntryMarker` | the entry's; its end starts the eviction |
/// | `j/SEQ16` | a journal chunk: `JournalChunk`, named by its first sequence number in 16 hex digits | none |
/// | `h` | the journal's head: `JournalHead` | none |
/// | `s/NAME` | a subscriber: its acknowledged floor and what it has acknowledged above it | none |
///
/// A record without marker while the record says LIVE is an eviction owed.
package struct StoreLayout: Hashable, Sendable {
  package var prefix: Bytes

  package init(prefix: Bytes = "/leasehold/") { self.prefix = prefix }

  package func record(_ entry: EntryName) -> Bytes { prefix + "r/" + entry.path }
  package func marker(_ entry: EntryName) -> Bytes { prefix + "m/" + entry.path }
  package func journalChunk(firstSequence: UInt64) -> Bytes {
    let digits = String(firstSequence, radix: 16)
    return prefix + "j/" + Bytes(String(repeating: "0", count: 16 - digits.count) + digits)
  }
  package var journalHead: Bytes { prefix + "h" }
  package func subscriber(_ name: String) -> Bytes { prefix + "s/" + Bytes(name) }

  package var allRecords: Bytes { prefix + "r/" }
  package var allMarkers: Bytes { prefix + "m/" }
  package var allJournalChunks: Bytes { prefix + "j/" }
  package var allSubscribers: Bytes { prefix + "s/" }
  package func records(of cache: String) -> Bytes { prefix + "r/" + Bytes(cache) + "/" }
  package func markers(of cache: String) -> Bytes { prefix + "m/" + Bytes(cache) + "/" }

  /// The entry that a record's or a marker's key names; nil for any other key.
  package func entry(of storeKey: Bytes) -> EntryName? {
    for kind in [allRecords, allMarkers] where storeKey.hasPrefix(kind) {
      let path = storeKey.array[kind.count...]
      guard let slash = path.firstIndex(of: UInt8(ascii: "/")),
        let cache = String(validating: path[..<slash], as: UTF8.self)
      else { return nil }
      return EntryName(cache: cache, key: Bytes(path[(slash + 1)...]))
    }
    return nil
  }
}

/// One cached item: `(cache, key)`. A cache's name holds no slash (`CachePolicy` checks it); a key may hold any bytes.
package struct EntryName: Hashable, Sendable {
  package var cache: String
  package var key: Bytes

  package init(cache: String, key: Bytes) {
    self.cache = cache
    self.key = key
  }

  package var path: Bytes { Bytes(cache) + "/" + key }
}
