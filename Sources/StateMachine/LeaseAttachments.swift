import Keyspace
import Leases
import Primitives

/// The keys of one lease: 8 bytes while there is at most one, which is what caches have.
enum AttachedKeys: Sendable {
  case none
  case one(Bytes)
  case several(Set<Bytes>)

  var count: Int {
    switch self {
    case .none: 0
    case .one: 1
    case .several(let keys): keys.count
    }
  }

  var sorted: [Bytes] {
    switch self {
    case .none: []
    case .one(let key): [key]
    case .several(let keys): keys.sorted()
    }
  }

  mutating func insert(_ key: Bytes) {
    switch self {
    case .none: self = .one(key)
    case .one(let only):
      if only != key { self = .several([only, key]) }
    case .several(var keys):
      self = .none  // so that the set is changed in place
      keys.insert(key)
      self = .several(keys)
    }
  }

  mutating func remove(_ key: Bytes) {
    switch self {
    case .none: return
    case .one(let only):
      if only == key { self = .none }
    case .several(var keys):
      self = .none
      keys.remove(key)
      if keys.count == 1, let last = keys.first { self = .one(last) } else { self = .several(keys) }
    }
  }
}

/// Which keys hang on which lease, beside the lease table by its slots. It follows the keyspace's events, which carry
/// the lease of a key before and after; so no map from key to lease is needed.
struct LeaseAttachments: Sendable {
  private var keysBySlot = ChunkedArray<AttachedKeys>()

  init() {}

  /// With room for leases in the slots below `slotCount`.
  init(slotCount: Int) { keysBySlot = ChunkedArray(repeating: .none, count: slotCount) }

  func keys(at slot: Int) -> AttachedKeys { slot < keysBySlot.count ? keysBySlot[slot] : .none }

  /// What hung on the slot, which is free then.
  mutating func detachAll(at slot: Int) -> [Bytes] {
    guard slot < keysBySlot.count else { return [] }
    let keys = keysBySlot[slot].sorted
    keysBySlot[slot] = .none
    return keys
  }

  mutating func attach(_ key: Bytes, at slot: Int) {
    while keysBySlot.count <= slot { keysBySlot.append(.none) }
    keysBySlot[slot].insert(key)
  }

  mutating func detach(_ key: Bytes, at slot: Int) {
    guard slot < keysBySlot.count else { return }
    keysBySlot[slot].remove(key)
  }

  /// A put moves the key to the put's lease, whichever that is; a delete detaches it.
  mutating func follow(_ event: KeyspaceEvent, in leases: LeaseTable) {
    let before = event.previous?.lease ?? 0
    let after = event.kind == .put ? event.record.lease : 0
    guard before != after else { return }
    if let slot = leases.slot(of: before) { keysBySlot[slot].remove(event.record.key) }
    if after != 0 {
      guard let slot = leases.slot(of: after) else {
        preconditionFailure("the keyspace accepted a put on lease \(after), which does not exist")
      }
      attach(event.record.key, at: slot)
    }
  }
}
