import Primitives

/// The keys in order, each with its history: a B+tree with value semantics, copied lazily node by node.
struct KeyIndex: Sendable {
  private var root: IndexNode

  init(root: IndexNode = IndexNode()) { self.root = root }

  /// The key as the index holds it (so that versions share one buffer) and its history.
  @inline(__always)
  func find(_ key: Bytes) -> (key: Bytes, history: KeyHistory)? {
    // The nodes stay alive with `root`, so the way down counts no references.
    var node = Unmanaged.passUnretained(root)
    while let child = node._withUnsafeGuaranteedRef({ node -> Unmanaged<IndexNode>? in
      node.isLeaf ? nil : Unmanaged.passUnretained(node.children[node.column.childIndex(for: key)])
    }) {
      node = child
    }
    return node._withUnsafeGuaranteedRef { leaf in
      guard let index = leaf.column.index(of: key) else { return nil }
      return (leaf.column.keys[index], leaf.histories[index])
    }
  }

  /// Adds a version to `key`'s history. Returns the key as the index holds it and the version before.
  mutating func append(_ reference: VersionReference, to key: Bytes) -> (key: Bytes, previous: VersionReference?) {
    var outcome: (key: Bytes, previous: VersionReference?) = (key, nil)
    if let upper = Self.append(reference, to: key, in: &root, outcome: &outcome) {
      let lower = root
      root = IndexNode(children: [lower, upper])
      root.column.insert(lower.column.keys[0], at: 0)
      root.column.insert(upper.column.keys[0], at: 1)
    }
    return outcome
  }

  /// Returns the upper half of `node` when it had to be split.
  private static func append(
    _ reference: VersionReference, to key: Bytes, in node: inout IndexNode,
    outcome: inout (key: Bytes, previous: VersionReference?)
  ) -> IndexNode? {
    IndexNode.makeUnique(&node)
    if node.isLeaf {
      if let index = node.column.index(of: key) {
        outcome = (node.column.keys[index], node.histories[index].latest)
        node.histories[index].append(reference)
        return nil
      }
      let index = node.column.search(key).index
      if node.count == 0 { node.histories.reserveCapacity(IndexNode.slots) }
      node.column.insert(key, at: index)
      node.histories.insert(KeyHistory(reference), at: index)
      guard node.count > IndexNode.capacity else { return nil }
      return node.split(isAppending: index == node.count - 1)
    }
    let index = node.column.childIndex(for: key)
    if index == 0, key < node.column.keys[0] { node.column.lowerFirst(to: key) }
    guard let upper = append(reference, to: key, in: &node.children[index], outcome: &outcome) else { return nil }
    node.column.insert(upper.column.keys[0], at: index + 1)
    node.children.insert(upper, at: index + 1)
    guard node.count > IndexNode.capacity else { return nil }
    return node.split(isAppending: index == node.count - 2)
  }

  /// Visits the keys of `range` in order until `body` answers false.
  func forEach(in range: KeyRange, _ body: (Bytes, KeyHistory) -> Bool) {
    switch range {
    case .single(let key):
      if let (key, history) = find(key) { _ = body(key, history) }
    case .halfOpen(let start, let end):
      guard start < end else { return }
      _ = Self.visit(root, from: start, below: end, body)
    case .from(let start):
      _ = Self.visit(root, from: start, below: nil, body)
    }
  }

  /// Answers false when the walk is over. `start` and `end` are nil where the node is known to lie inside of them.
  private static func visit(
    _ node: IndexNode, from start: Bytes?, below end: Bytes?, _ body: (Bytes, KeyHistory) -> Bool
  ) -> Bool {
    if node.isLeaf {
      let first = start.map { node.column.search($0).index } ?? 0
      let last = end.map { node.column.search($0).index } ?? node.count
      var index = first
      while index < last {
        if !body(node.column.keys[index], node.histories[index]) { return false }
        index += 1
      }
      return true
    }
    let first = start.map { node.column.childIndex(for: $0) } ?? 0
    let last = end.map { node.column.childIndex(for: $0) } ?? node.count - 1
    guard first <= last else { return true }
    for index in first...last {
      let startInside = index == first ? start : nil
      let endInside = index == last ? end : nil
      if !visit(node.children[index], from: startInside, below: endInside, body) { return false }
    }
    return true
  }

  /// Drops the oldest `expendable` versions of `key`; the key itself when that is all it has.
  mutating func forget(_ expendable: Int, of key: Bytes) {
    Self.forget(expendable, of: key, in: &root)
    while root.children.count == 1 { root = root.children[0] }
  }

  private static func forget(_ expendable: Int, of key: Bytes, in node: inout IndexNode) {
    IndexNode.makeUnique(&node)
    if node.isLeaf {
      guard let index = node.column.index(of: key) else {
        preconditionFailure("only a key of the index can be forgotten")
      }
      if expendable < node.histories[index].count {
        node.histories[index].dropFirst(expendable)
      } else {
        node.column.remove(at: index)
        node.histories.remove(at: index)
      }
      return
    }
    let index = node.column.childIndex(for: key)
    forget(expendable, of: key, in: &node.children[index])
    node.settleChild(at: index)
  }
}
