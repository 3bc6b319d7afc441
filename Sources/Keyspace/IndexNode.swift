import Primitives

/// One node of the key index, a B+tree. A leaf holds keys with their histories. An inner node holds children, each
/// under a key that is not above any key of the child and above every key of the child before.
///
/// Nodes are shared between copies of an index; whoever changes one makes it its own first (`makeUnique`), so a change
/// after a copy duplicates the nodes on one path, not the tree. (Hence `@unchecked Sendable`: a node that more than one
/// value can reach is never written.)
final class IndexNode: @unchecked Sendable {
  static let capacity = 64
  /// A full node holds one more for the moment before it is split: what arrays reserve, so that they never grow.
  static let slots = capacity + 1
  /// A node this empty is merged with a neighbour when both fit into one with room to spare.
  static let sparseCount = 16
  static let mergedCount = 48

  var column: KeyColumn
  /// A leaf's; empty in an inner node.
  var histories: [KeyHistory]
  /// An inner node's; empty in a leaf.
  var children: [IndexNode]

  init(column: KeyColumn = KeyColumn(), histories: [KeyHistory] = [], children: [IndexNode] = []) {
    self.column = column
    self.histories = histories
    self.children = children
  }

  var count: Int { column.count }
  var isLeaf: Bool { children.isEmpty }

  @inline(__always)
  static func makeUnique(_ node: inout IndexNode) {
    if !isKnownUniquelyReferenced(&node) {
      node = IndexNode(column: node.column, histories: node.histories, children: node.children)
    }
  }

  /// Cuts the upper half off, or only the last element when keys arrive in order (`isAppending`), which leaves full
  /// nodes behind.
  func split(isAppending: Bool) -> IndexNode {
    let cut = isAppending ? count - 1 : count / 2
    let upper = IndexNode(column: column.split(at: cut))
    if isLeaf {
      upper.histories.reserveCapacity(Self.slots)
      upper.histories.append(contentsOf: histories[cut...])
      histories.removeSubrange(cut...)
    } else {
      upper.children.reserveCapacity(Self.slots)
      upper.children.append(contentsOf: children[cut...])
      children.removeSubrange(cut...)
    }
    return upper
  }

  /// Keeps the tree dense after removals: an empty child goes, a sparse one joins a neighbour.
  func settleChild(at index: Int) {
    let child = children[index]
    if child.count == 0 {
      children.remove(at: index)
      column.remove(at: index)
      return
    }
    guard child.count < Self.sparseCount, children.count > 1 else { return }
    let left = index > 0 ? index - 1 : index
    let upper = children[left + 1]
    guard children[left].count + upper.count <= Self.mergedCount else { return }
    Self.makeUnique(&children[left])
    children[left].column.append(upper.column)
    children[left].histories += upper.histories
    children[left].children += upper.children
    children.remove(at: left + 1)
    column.remove(at: left + 1)
  }
}
