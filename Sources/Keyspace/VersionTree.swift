import Primitives

/// Versions by ordinal, to which only higher ones are added: a radix tree, six bits a level. Every node has up to 64
/// slots, of which a bit field says which are taken, and keeps only those: a lookup is a population count a level, a
/// hole costs nothing, an empty node is gone. Nodes are copied when they are changed while shared.
struct VersionTree: Sendable {
  /// Where a walk begins.
  enum Start {
    /// With versions made at this main revision or later.
    case main(Int64)
    case ordinal(UInt64)
  }

  private var root = LogNode()
  /// Levels above the chunks that hold versions.
  private var height = 0

  private static let bitsPerLevel: UInt64 = 6

  private var rootShift: UInt64 { UInt64(height) * Self.bitsPerLevel }

  /// The version at `ordinal`, which is there.
  subscript(ordinal: UInt64) -> StoredVersion {
    // The nodes stay alive with `root`, so the way down counts no references.
    var node = Unmanaged.passUnretained(root)
    var shift = rootShift
    while shift > 0 {
      node = node._withUnsafeGuaranteedRef { .passUnretained($0.children[$0.position(of: ordinal >> shift)]) }
      shift -= Self.bitsPerLevel
    }
    return node._withUnsafeGuaranteedRef { $0.versions[$0.position(of: ordinal)] }
  }

  /// - Parameter ordinal: above all ordinals of the tree.
  mutating func append(_ version: StoredVersion, at ordinal: UInt64) {
    while ordinal >> (rootShift + Self.bitsPerLevel) > 0 { grow() }
    Self.append(version, at: ordinal, shift: rootShift, in: &root)
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
    let bit = LogNode.bit(of: ordinal >> shift)
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

  /// Removes and returns the version at `ordinal`, which is there.
  mutating func remove(_ ordinal: UInt64) -> StoredVersion { Self.remove(ordinal, shift: rootShift, in: &root) }

  private static func remove(_ ordinal: UInt64, shift: UInt64, in node: inout LogNode) -> StoredVersion {
    LogNode.makeUnique(&node)
    let position = node.position(of: ordinal >> shift)
    if shift == 0 {
      node.occupied &= ~LogNode.bit(of: ordinal)
      return node.versions.remove(at: position)
    }
    let removed = remove(ordinal, shift: shift - bitsPerLevel, in: &node.children[position])
    node.dropChildIfEmpty(at: position, digit: ordinal >> shift)
    return removed
  }

  /// Removes all versions below `ordinal` by cutting the tree along one path; returns the nodes that held them.
  mutating func removePrefix(below ordinal: UInt64) -> [LogNode] {
    guard ordinal >> (rootShift + Self.bitsPerLevel) == 0 else {
      let all = root
      root = LogNode()
      return [all]
    }
    var dropped: [LogNode] = []
    Self.removePrefix(below: ordinal, shift: rootShift, in: &root, dropped: &dropped)
    return dropped
  }

  private static func removePrefix(
    below ordinal: UInt64, shift: UInt64, in node: inout LogNode, dropped: inout [LogNode]
  ) {
    let bit = LogNode.bit(of: ordinal >> shift)
    let below = node.occupied & (bit - 1)
    let count = below.nonzeroBitCount
    if count > 0 || (shift > 0 && node.occupied & bit != 0) { LogNode.makeUnique(&node) }
    if shift == 0 {
      guard count > 0 else { return }
      dropped.append(LogNode(occupied: below, versions: Array(node.versions[..<count])))
      node.versions.removeFirst(count)
      node.occupied &= ~below
      return
    }
    if count > 0 {
      dropped.append(contentsOf: node.children[..<count])
      node.children.removeFirst(count)
      node.occupied &= ~below
    }
    guard node.occupied & bit != 0 else { return }
    removePrefix(below: ordinal, shift: shift - bitsPerLevel, in: &node.children[0], dropped: &dropped)
    node.dropChildIfEmpty(at: 0, digit: ordinal >> shift)
  }

  /// Visits the versions from `start` on, in order, with their ordinals, until `body` answers false; answers whether
  /// it came to the end.
  @discardableResult
  func forEach(from start: Start, _ body: (UInt64, StoredVersion) -> Bool) -> Bool {
    guard root.occupied != 0 else { return true }
    if case .ordinal(let ordinal) = start, ordinal >> (rootShift + Self.bitsPerLevel) > 0 { return true }
    return Self.visit(root, shift: rootShift, base: 0, from: start, body)
  }

  private static func visit(
    _ node: LogNode, shift: UInt64, base: UInt64, from start: Start?, _ body: (UInt64, StoredVersion) -> Bool
  ) -> Bool {
    let (first, childStart) = firstPosition(in: node, shift: shift, from: start)
    var slots = node.occupied
    for _ in 0..<first { slots &= slots - 1 }
    var position = first
    while slots != 0 {
      let place = base | UInt64(slots.trailingZeroBitCount) << shift
      if shift == 0 {
        if !body(place, node.versions[position]) { return false }
      } else {
        let bound = position == first ? childStart : nil
        if !visit(node.children[position], shift: shift - bitsPerLevel, base: place, from: bound, body) { return false }
      }
      slots &= slots - 1
      position += 1
    }
    return true
  }

  /// Where in `node` a walk begins, and from where in the child that stands there (nil: all of it).
  private static func firstPosition(in node: LogNode, shift: UInt64, from start: Start?) -> (Int, Start?) {
    switch start {
    case nil: return (0, nil)
    case .main(let main):
      let first = node.firstPosition(from: main)
      // The child before the first one that starts late enough may end late enough.
      return (shift > 0 ? max(0, first - 1) : first, start)
    case .ordinal(let ordinal):
      let isTaken = node.occupied & LogNode.bit(of: ordinal >> shift) != 0
      return (node.position(of: ordinal >> shift), isTaken ? start : nil)
    }
  }
}

/// One node of the version tree: a chunk of versions, or a branch of nodes. `@unchecked Sendable` because a node that
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

  /// The bit of the slot that the low six bits of `digit` name.
  @inline(__always)
  static func bit(of digit: UInt64) -> UInt64 { 1 << (digit & 63) }

  func dropChildIfEmpty(at position: Int, digit: UInt64) {
    guard children[position].occupied == 0 else { return }
    children.remove(at: position)
    occupied &= ~Self.bit(of: digit)
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
