import Primitives

/// One version of one key as it is stored. The kind is a put, or a deletion with its cause (a tombstone, whose value,
/// create revision, version and lease are empty).
package struct StoredVersion: Hashable, Sendable {
  package var key: Bytes
  package var value: Bytes
  package var revision: Revision
  package var createRevision: Int64
  package var version: Int64
  package var lease: LeaseID
  package var kind: KeyspaceEvent.Kind

  package init(_ record: KeyRecord, sub: Int64, kind: KeyspaceEvent.Kind) {
    key = record.key
    value = record.value
    revision = Revision(main: record.modRevision, sub: sub)
    createRevision = record.createRevision
    version = record.version
    lease = record.lease
    self.kind = kind
  }

  package var record: KeyRecord {
    KeyRecord(
      key: key, value: value, createRevision: createRevision, modRevision: revision.main, version: version,
      lease: lease)
  }

  /// What the version counts against the quota: its bytes and a fixed share for its bookkeeping.
  package var sizeInBytes: Int { key.count + value.count + Self.bookkeepingBytes }
  private static let bookkeepingBytes = 96
}

/// Every kept version in the order it was made. A version's *ordinal* is its place in the order of all versions ever
/// made (in this process: decoding a keyspace numbers anew); compaction leaves holes, ordinals stay.
///
/// The store is a radix tree over ordinals, six bits a level. Every node has up to 64 slots, of which a bit field
/// says which are taken, and keeps only those: a lookup is a population count a level, a hole costs nothing, an empty
/// node is gone. Nodes are copied when they are changed while shared. This type is all that the keyspace knows of
/// where versions live: an engine on disk takes its place.
struct VersionLog: Sendable {
  private var root = LogNode()
  /// Levels above the chunks that hold versions.
  private var height = 0
  private(set) var nextOrdinal: UInt64 = 0
  private(set) var sizeInBytes = 0

  private static let bitsPerLevel: UInt64 = 6

  subscript(ordinal: UInt64) -> StoredVersion {
    // The nodes stay alive with `root`, so the way down counts no references.
    var node = Unmanaged.passUnretained(root)
    var shift = UInt64(height) * Self.bitsPerLevel
    while shift > 0 {
      node = node._withUnsafeGuaranteedRef { .passUnretained($0.children[$0.position(of: ordinal >> shift)]) }
      shift -= Self.bitsPerLevel
    }
    return node._withUnsafeGuaranteedRef { $0.versions[$0.position(of: ordinal)] }
  }

  /// Appends a version behind all others and returns its ordinal.
  @discardableResult
  mutating func append(_ version: StoredVersion) -> UInt64 {
    let ordinal = nextOrdinal
    if ordinal >> (UInt64(height + 1) * Self.bitsPerLevel) > 0 { grow() }
    nextOrdinal += 1
    sizeInBytes += version.sizeInBytes
    Self.append(version, at: ordinal, shift: UInt64(height) * Self.bitsPerLevel, in: &root)
    return ordinal
  }

  private mutating func grow() {
    let lower = root
    root = LogNode()
    if lower.occupied != 0 {
      root.children.append(lower)
      root.occupied = 1
    }
    height += 1
  }

  private static func append(_ version: StoredVersion, at ordinal: UInt64, shift: UInt64, in node: inout LogNode) {
    LogNode.makeUnique(&node)
    let bit = UInt64(1) << ((ordinal >> shift) & 63)
    if shift == 0 {
      if node.occupied == 0 { node.versions.reserveCapacity(LogNode.slots) }
      node.versions.append(version)
      node.occupied |= bit
      return
    }
    if node.occupied & bit == 0 {
      node.children.append(LogNode())
      node.occupied |= bit
    }
    append(version, at: ordinal, shift: shift - bitsPerLevel, in: &node.children[node.children.count - 1])
  }

  mutating func remove(_ ordinal: UInt64) {
    sizeInBytes -= Self.remove(ordinal, shift: UInt64(height) * Self.bitsPerLevel, in: &root).sizeInBytes
  }

  private static func remove(_ ordinal: UInt64, shift: UInt64, in node: inout LogNode) -> StoredVersion {
    LogNode.makeUnique(&node)
    let position = node.position(of: ordinal >> shift)
    let bit = UInt64(1) << ((ordinal >> shift) & 63)
    if shift == 0 {
      node.occupied &= ~bit
      return node.versions.remove(at: position)
    }
    let removed = remove(ordinal, shift: shift - bitsPerLevel, in: &node.children[position])
    if node.children[position].occupied == 0 {
      node.children.remove(at: position)
      node.occupied &= ~bit
    }
    return removed
  }

  /// Visits the versions made at main revision `main` or later, in order, with their ordinals, until `body` answers
  /// false.
  func forEach(from main: Int64, _ body: (UInt64, StoredVersion) -> Bool) {
    guard root.occupied != 0 else { return }
    _ = Self.visit(
      root, shift: UInt64(height) * Self.bitsPerLevel, base: 0, from: main, body)
  }

  private static func visit(
    _ node: LogNode, shift: UInt64, base: UInt64, from main: Int64?, _ body: (UInt64, StoredVersion) -> Bool
  ) -> Bool {
    var first = 0
    if let main {
      first = node.firstPosition(from: main)
      // The child before the first one that starts late enough may end late enough.
      if shift > 0 { first = max(0, first - 1) }
    }
    var slots = node.occupied
    for _ in 0..<first { slots &= slots - 1 }
    var position = first
    while slots != 0 {
      let place = base | UInt64(slots.trailingZeroBitCount) << shift
      if shift == 0 {
        if !body(place, node.versions[position]) { return false }
      } else {
        let bound = position == first ? main : nil
        if !visit(node.children[position], shift: shift - bitsPerLevel, base: place, from: bound, body) { return false }
      }
      slots &= slots - 1
      position += 1
    }
    return true
  }
}

/// One node of the version log: a chunk of versions, or a branch of nodes. `@unchecked Sendable` because a node that
/// more than one value can reach is never written (`makeUnique`).
final class LogNode: @unchecked Sendable {
  static let slots = 64

  /// Which of the 64 slots are taken.
  var occupied: UInt64
  /// A chunk's taken slots in order; empty in a branch.
  var versions: [StoredVersion]
  /// A branch's taken slots in order; empty in a chunk.
  var children: [LogNode]

  init(occupied: UInt64 = 0, versions: [StoredVersion] = [], children: [LogNode] = []) {
    self.occupied = occupied
    self.versions = versions
    self.children = children
  }

  @inline(__always)
  static func makeUnique(_ node: inout LogNode) {
    if !isKnownUniquelyReferenced(&node) {
      node = LogNode(occupied: node.occupied, versions: node.versions, children: node.children)
    }
  }

  /// Where among the taken slots the one stands that the low six bits of `digit` name.
  @inline(__always)
  func position(of digit: UInt64) -> Int {
    (occupied & ((1 << (digit & 63)) - 1)).nonzeroBitCount
  }

  /// The position of the first slot whose first version was made at main revision `main` or later.
  func firstPosition(from main: Int64) -> Int {
    var low = 0
    var high = occupied.nonzeroBitCount
    while low < high {
      let middle = (low + high) / 2
      if firstMain(at: middle) < main { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private func firstMain(at position: Int) -> Int64 {
    guard !children.isEmpty else { return versions[position].revision.main }
    var node = children[position]
    while !node.children.isEmpty { node = node.children[0] }
    return node.versions[0].revision.main
  }
}
