/// An array in chunks of 2,048 elements, for tables of many millions.
///
/// It grows without moving what it holds (no stall, no moment at which old and new storage both exist), and a
/// change after a copy duplicates one chunk and not the whole: a hot snapshot costs memory only where the original
/// is touched meanwhile.
@usableFromInline
package struct ChunkedArray<Element: Sendable>: Sendable {
  @usableFromInline package var chunks: [[Element]] = []
  @usableFromInline package var storedCount = 0

  @inlinable package static var chunkShift: Int { 11 }
  @inlinable package static var chunkCapacity: Int { 1 << chunkShift }
  @inlinable package static var chunkMask: Int { chunkCapacity - 1 }

  @inlinable
  package init() {}

  /// Equal elements, whose chunks share one storage until they are changed.
  @inlinable
  package init(repeating element: Element, count: Int) {
    let full = [Element](repeating: element, count: Self.chunkCapacity)
    chunks = [[Element]](repeating: full, count: count >> Self.chunkShift)
    if count & Self.chunkMask != 0 {
      chunks.append([Element](repeating: element, count: count & Self.chunkMask))
    }
    storedCount = count
  }

  @inlinable
  package var count: Int { storedCount }

  @inlinable
  package subscript(index: Int) -> Element {
    _read { yield chunks[index >> Self.chunkShift][index & Self.chunkMask] }
    _modify { yield &chunks[index >> Self.chunkShift][index & Self.chunkMask] }
  }

  @inlinable
  package mutating func append(_ element: Element) {
    let position = storedCount >> Self.chunkShift
    if position == chunks.count {
      chunks.append([])
      // The first chunk grows by doubling, so that a small table stays small.
      if position > 0 { chunks[position].reserveCapacity(Self.chunkCapacity) }
    }
    chunks[position].append(element)
    storedCount += 1
  }

  @inlinable
  package var isEmpty: Bool { storedCount == 0 }

  /// All elements in one array of their own.
  @inlinable
  package var contiguous: [Element] {
    var all: [Element] = []
    all.reserveCapacity(storedCount)
    for chunk in chunks { all.append(contentsOf: chunk) }
    return all
  }
}
