/// All blocks of the stored versions in memory, 32 bytes for 256 ordinals: where a walk begins, and what it must find. The
/// database `blocks` is read into it at the start and follows it from then on, so that no damaged page can hide a block.
struct BlockMap: Sendable {
  struct Block: Sendable {
    var number: UInt64
    var record: BlockRecord

    var firstOrdinal: UInt64 { BlockRecord.firstOrdinal(of: number) }
    var endOrdinal: UInt64 { BlockRecord.firstOrdinal(of: number + 1) }
  }

  /// In the order of their numbers; none is empty.
  private(set) var blocks: [Block] = []

  /// - Parameter block: behind all others.
  mutating func append(_ block: Block) { blocks.append(block) }

  /// The index of the first block that ends behind `ordinal`.
  func index(at ordinal: UInt64) -> Int {
    let number = BlockRecord.number(of: ordinal)
    return firstIndex { $0.number >= number }
  }

  /// The index of the block in which versions made at main revision `main` or later begin.
  func index(from main: Int64) -> Int {
    // The one before the first that begins late enough may end late enough.
    max(0, firstIndex { $0.record.firstMain >= main } - 1)
  }

  private func firstIndex(where isBehind: (Block) -> Bool) -> Int {
    var low = 0
    var high = blocks.count
    while low < high {
      let middle = (low + high) / 2
      if isBehind(blocks[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// Adds the change to the block of its number; answers the block before and after it, nil for none. Blocks that have
  /// become empty stay until `removeEmpty`.
  mutating func apply(_ change: Block) -> (old: BlockRecord?, new: BlockRecord?) {
    let index = index(at: change.firstOrdinal)
    guard index < blocks.count, blocks[index].number == change.number else {
      blocks.insert(change, at: index)
      return (nil, change.record)
    }
    let old = blocks[index].record
    var new = old
    new.tally.count &+= change.record.tally.count
    new.tally.sum &+= change.record.tally.sum
    blocks[index].record = new
    return (old, new.tally.count == 0 ? nil : new)
  }

  mutating func removeEmpty() {
    if blocks.contains(where: { $0.record.tally.count == 0 }) {
      blocks.removeAll { $0.record.tally.count == 0 }
    }
  }
}
