import Primitives

/// A range of keys that is not empty: from `start` on, below `end`.
struct Interval: Hashable {
  /// Where an interval ends. Any bound is below `unbounded`.
  enum End: Hashable, Comparable {
    case below(Bytes)
    case unbounded

    func isAbove(_ key: Bytes) -> Bool {
      switch self {
      case .below(let end): key < end
      case .unbounded: true
      }
    }
  }

  let start: Bytes
  let end: End

  /// Nil for an empty range.
  init?(_ range: KeyRange) {
    switch range {
    case .single(let key):
      (start, end) = (key, .below(key.successor))
    case .halfOpen(let start, let end):
      guard start < end else { return nil }
      (self.start, self.end) = (start, .below(end))
    case .from(let start):
      (self.start, end) = (start, .unbounded)
    }
  }

  /// Orders the tree: by start, then by end.
  static func precedes(_ left: Interval, _ right: Interval) -> Bool {
    let order = left.start.compare(right.start)
    return order != 0 ? order < 0 : left.end < right.end
  }
}

/// Distinct intervals with the watchers of each, searched by a key that they hold.
///
/// A treap over the intervals' starts (a search tree that random priorities keep balanced), in one flat array; every
/// node knows the furthest end below it, so that a search skips subtrees that end too early.
struct IntervalTree: Sendable {
  private struct Node {
    var interval: Interval
    var watchers: [UInt64]
    var priority: UInt64
    var furthestEnd: Interval.End
    var left: Int?
    var right: Int?
  }

  private var nodes: [Node] = []
  private var freeNodes: [Int] = []
  private var root: Int?
  private var priorities = SeededGenerator(seed: 0x1ea5_e401)

  func forEachMatch(_ key: Bytes, _ body: (UInt64) -> Void) { visit(root, key, body) }

  private func visit(_ index: Int?, _ key: Bytes, _ body: (UInt64) -> Void) {
    guard let index, nodes[index].furthestEnd.isAbove(key) else { return }
    visit(nodes[index].left, key, body)
    guard nodes[index].interval.start <= key else { return }
    if nodes[index].interval.end.isAbove(key) {
      for watcher in nodes[index].watchers { body(watcher) }
    }
    visit(nodes[index].right, key, body)
  }

  mutating func insert(_ watcher: UInt64, _ interval: Interval) {
    if let index = find(interval) {
      nodes[index].watchers.append(watcher)
      return
    }
    let node = Node(
      interval: interval, watchers: [watcher], priority: priorities.next(), furthestEnd: interval.end, left: nil,
      right: nil)
    let index: Int
    if let free = freeNodes.popLast() {
      index = free
      nodes[index] = node
    } else {
      index = nodes.count
      nodes.append(node)
    }
    root = insert(index, under: root)
  }

  mutating func remove(_ watcher: UInt64, _ interval: Interval) {
    guard let index = find(interval) else { return }
    nodes[index].watchers.removeAll { $0 == watcher }
    guard nodes[index].watchers.isEmpty else { return }
    root = detach(interval, under: root)
    freeNodes.append(index)
  }

  private func find(_ interval: Interval) -> Int? {
    var next = root
    while let index = next {
      if nodes[index].interval == interval { return index }
      next = Interval.precedes(interval, nodes[index].interval) ? nodes[index].left : nodes[index].right
    }
    return nil
  }

  /// Hangs the node `new` into the subtree `index`; answers the subtree's new top.
  private mutating func insert(_ new: Int, under index: Int?) -> Int {
    guard let index else { return new }
    if nodes[new].priority > nodes[index].priority {
      (nodes[new].left, nodes[new].right) = split(index, before: nodes[new].interval)
      updateFurthestEnd(new)
      return new
    }
    if Interval.precedes(nodes[new].interval, nodes[index].interval) {
      nodes[index].left = insert(new, under: nodes[index].left)
    } else {
      nodes[index].right = insert(new, under: nodes[index].right)
    }
    updateFurthestEnd(index)
    return index
  }

  /// Takes the node of `interval` out of the subtree `index`; answers the subtree's new top.
  private mutating func detach(_ interval: Interval, under index: Int?) -> Int? {
    guard let index else { return nil }
    if nodes[index].interval == interval { return join(nodes[index].left, nodes[index].right) }
    if Interval.precedes(interval, nodes[index].interval) {
      nodes[index].left = detach(interval, under: nodes[index].left)
    } else {
      nodes[index].right = detach(interval, under: nodes[index].right)
    }
    updateFurthestEnd(index)
    return index
  }

  /// Parts a subtree into what precedes `interval` and the rest.
  private mutating func split(_ index: Int?, before interval: Interval) -> (lower: Int?, upper: Int?) {
    guard let index else { return (nil, nil) }
    if Interval.precedes(nodes[index].interval, interval) {
      let (lower, upper) = split(nodes[index].right, before: interval)
      nodes[index].right = lower
      updateFurthestEnd(index)
      return (index, upper)
    }
    let (lower, upper) = split(nodes[index].left, before: interval)
    nodes[index].left = upper
    updateFurthestEnd(index)
    return (lower, index)
  }

  /// Joins two subtrees of which the first precedes the second.
  private mutating func join(_ lower: Int?, _ upper: Int?) -> Int? {
    guard let lower else { return upper }
    guard let upper else { return lower }
    if nodes[lower].priority > nodes[upper].priority {
      nodes[lower].right = join(nodes[lower].right, upper)
      updateFurthestEnd(lower)
      return lower
    }
    nodes[upper].left = join(lower, nodes[upper].left)
    updateFurthestEnd(upper)
    return upper
  }

  private mutating func updateFurthestEnd(_ index: Int) {
    var furthest = nodes[index].interval.end
    for child in [nodes[index].left, nodes[index].right] {
      if let child { furthest = max(furthest, nodes[child].furthestEnd) }
    }
    nodes[index].furthestEnd = furthest
  }
}
