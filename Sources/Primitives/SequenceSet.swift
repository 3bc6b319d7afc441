/// A set of sequence numbers kept as ranges: sorted, disjoint, and with at least one number missing between neighbours.
/// Memory and time grow with the number of holes, not of members.
package struct SequenceSet: Hashable, Sendable {
  package private(set) var ranges: [ClosedRange<UInt64>] = []

  package init() {}

  package init(_ ranges: some Sequence<ClosedRange<UInt64>>) {
    for range in ranges { insert(range) }
  }

  package var isEmpty: Bool { ranges.isEmpty }
  package var first: UInt64? { ranges.first?.lowerBound }

  /// How many numbers are in the set.
  package var count: Int { ranges.reduce(0) { $0 + Int($1.upperBound - $1.lowerBound) + 1 } }

  package var sequences: some Sequence<UInt64> { ranges.lazy.flatMap { $0 } }

  /// Index of the first range that ends at or behind `sequence`.
  private func index(endingFrom sequence: UInt64) -> Int {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < sequence { low = middle + 1 } else { high = middle }
    }
    return low
  }

  package func contains(_ sequence: UInt64) -> Bool { range(containing: sequence) != nil }

  package func range(containing sequence: UInt64) -> ClosedRange<UInt64>? {
    let index = index(endingFrom: sequence)
    return index < ranges.count && ranges[index].lowerBound <= sequence ? ranges[index] : nil
  }

  package mutating func insert(_ sequence: UInt64) { insert(sequence...sequence) }

  package mutating func insert(_ range: ClosedRange<UInt64>) {
    // Neighbours that touch without overlapping join as well.
    let start = index(endingFrom: range.lowerBound == 0 ? 0 : range.lowerBound - 1)
    var end = start
    var joined = range
    while end < ranges.count,
      ranges[end].lowerBound <= range.upperBound || ranges[end].lowerBound - 1 == range.upperBound
    {
      joined = min(joined.lowerBound, ranges[end].lowerBound)...max(joined.upperBound, ranges[end].upperBound)
      end += 1
    }
    ranges.replaceSubrange(start..<end, with: CollectionOfOne(joined))
  }

  package mutating func remove(_ sequence: UInt64) { remove(sequence...sequence) }

  package mutating func remove(_ removed: ClosedRange<UInt64>) {
    let start = index(endingFrom: removed.lowerBound)
    var end = start
    var rest: [ClosedRange<UInt64>] = []
    while end < ranges.count, ranges[end].lowerBound <= removed.upperBound {
      let range = ranges[end]
      if range.lowerBound < removed.lowerBound { rest.append(range.lowerBound...(removed.lowerBound - 1)) }
      if range.upperBound > removed.upperBound { rest.append((removed.upperBound + 1)...range.upperBound) }
      end += 1
    }
    ranges.replaceSubrange(start..<end, with: rest)
  }

  /// Forgets every member up to and with `sequence`.
  package mutating func removeAll(through sequence: UInt64) {
    let index = index(endingFrom: sequence)
    ranges.removeFirst(index)
    if let range = ranges.first, range.lowerBound <= sequence {
      if range.upperBound == sequence {
        ranges.removeFirst()
      } else {
        ranges[0] = (sequence + 1)...range.upperBound
      }
    }
  }

  /// As distances: of each range's start from the end before it (from `base` at first), and its length less one.
  package func encode(from base: UInt64, into writer: inout ByteWriter) {
    writer.writeCount(ranges.count)
    var previous = base
    for range in ranges {
      writer.writeVarint(range.lowerBound - previous)
      writer.writeVarint(range.upperBound - range.lowerBound)
      previous = range.upperBound
    }
  }

  /// Refuses ranges that touch, overlap or overflow: every set has one encoding. `minimumGap` is the least distance of
  /// the first range from `base`.
  package init(from base: UInt64, minimumGap: UInt64, decoding reader: inout ByteReader) throws(DecodingFailure) {
    var previous = base
    var minimum = minimumGap
    for _ in 0..<(try reader.readCount(minimumSize: 2)) {
      let at = reader.offset
      let gap = try reader.readVarint()
      let length = try reader.readVarint()
      let (start, startOverflow) = previous.addingReportingOverflow(gap)
      let (end, endOverflow) = start.addingReportingOverflow(length)
      guard gap >= minimum, !startOverflow, !endOverflow, end < .max else {
        throw .malformed(offset: at, "ranges out of order")
      }
      ranges.append(start...end)
      previous = end
      minimum = 2
    }
  }
}
