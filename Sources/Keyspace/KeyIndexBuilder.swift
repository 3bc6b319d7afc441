import Primitives

/// Builds a key index from keys in rising order: leaves are filled one after another and never searched.
struct KeyIndexBuilder: Sendable {
  /// Keys a node gets, of `IndexNode.capacity`: leaves room for what comes between.
  private static let keysPerNode = 58

  private var leaves: [IndexNode] = []
  private var keys: [Bytes] = []
  private var histories: [KeyHistory] = []

  init() { reserve() }

  private mutating func reserve() {
    keys.reserveCapacity(IndexNode.slots)
    histories.reserveCapacity(IndexNode.slots)
  }

  /// The highest key so far.
  var lastKey: Bytes? { keys.last }

  /// The history of the highest key.
  var lastHistory: KeyHistory { histories[histories.count - 1] }

  /// - Parameter key: above all keys so far.
  mutating func append(_ key: Bytes, _ first: VersionReference) {
    if keys.count == Self.keysPerNode { closeLeaf() }
    keys.append(key)
    histories.append(KeyHistory(first))
  }

  /// Adds a version to the history of the highest key.
  mutating func appendToLast(_ reference: VersionReference) { histories[histories.count - 1].append(reference) }

  private mutating func closeLeaf() {
    leaves.append(IndexNode(column: KeyColumn(sorted: keys), histories: histories))
    (keys, histories) = ([], [])
    reserve()
  }

  consuming func finish() -> KeyIndex {
    if !keys.isEmpty { closeLeaf() }
    guard !leaves.isEmpty else { return KeyIndex() }
    var level = leaves
    while level.count > 1 { level = Self.parents(of: level) }
    return KeyIndex(root: level[0])
  }

  /// As few nodes as hold them, evenly filled.
  private static func parents(of children: [IndexNode]) -> [IndexNode] {
    let count = (children.count + keysPerNode - 1) / keysPerNode
    return (0..<count).map { number in
      var slice: [IndexNode] = []
      slice.reserveCapacity(IndexNode.slots)
      slice += children[children.count * number / count..<children.count * (number + 1) / count]
      return IndexNode(column: KeyColumn(sorted: slice.map { $0.column.keys[0] }), children: slice)
    }
  }
}
