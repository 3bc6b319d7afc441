import Primitives

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The sorted, distinct keys of one tree node, laid out for a fast search.
///
/// Keys live in buffers of their own, so a plain binary search would miss the cache at every probe. Keys that are
/// neighbours in order nearly always share a prefix; what tells them apart follows it. So the column keeps the length
/// of the shared prefix and, in a contiguous array, each key's eight bytes behind it as a big-endian integer (its
/// *head*, zero-padded). A search compares the prefix once, then integers, and whole keys only where heads tie.
struct KeyColumn {
  private(set) var keys: [Bytes] = []
  private var heads: [UInt64] = []
  /// How many leading bytes all keys share, at most. Stays a valid lower bound when keys leave.
  private var sharedCount = 0

  init() {}

  /// - Parameter keys: in ascending order, distinct.
  init(sorted keys: [Bytes]) {
    self.keys = keys
    computePrefix()
  }

  var count: Int { keys.count }

  /// The index of the first key that is not below `key`, and whether it is `key` itself.
  @inline(__always)
  func search(_ key: Bytes) -> (index: Int, isFound: Bool) {
    guard let first = keys.first else { return (0, false) }
    let order = Self.compare(key, prefixOf: first, count: sharedCount)
    if order != 0 { return (order < 0 ? 0 : keys.count, false) }
    return searchByHead(key)
  }

  /// The index of `key` itself. Needs no look at the shared prefix: where a whole key is equal, its head is too.
  @inline(__always)
  func index(of key: Bytes) -> Int? {
    let (index, isFound) = searchByHead(key)
    return isFound ? index : nil
  }

  /// As `search`, for a key that shares the prefix; for others only `isFound` (which is false) means something.
  @inline(__always)
  private func searchByHead(_ key: Bytes) -> (index: Int, isFound: Bool) {
    let head = Self.head(of: key, behind: sharedCount)
    return heads.withUnsafeBufferPointer { heads in
      var low = Self.partition(heads, from: 0) { $0 < head }
      var high = low
      while high < heads.count, high < low + 4, heads[high] == head { high += 1 }
      if high == low + 4 { high = Self.partition(heads, from: high) { $0 == head } }
      while low < high {
        let middle = (low + high) / 2
        let order = keys[middle].compare(key)
        if order == 0 { return (middle, true) }
        if order < 0 { low = middle + 1 } else { high = middle }
      }
      return (low, false)
    }
  }

  /// The index of the last key at or below `key`; 0 when all are above (an inner node's first child takes those).
  @inline(__always)
  func childIndex(for key: Bytes) -> Int {
    let (index, isFound) = search(key)
    return isFound ? index : max(0, index - 1)
  }

  mutating func insert(_ key: Bytes, at index: Int) {
    if keys.isEmpty {
      keys.reserveCapacity(IndexNode.slots)
      heads.reserveCapacity(IndexNode.slots)
      keys.append(key)
      sharedCount = key.count
      heads.append(0)
      return
    }
    let stillShared = Self.sharedPrefixCount(key, keys[0], limit: sharedCount)
    keys.insert(key, at: index)
    if stillShared == sharedCount {
      heads.insert(Self.head(of: key, behind: sharedCount), at: index)
    } else {
      sharedCount = stillShared
      computeHeads()
    }
  }

  /// Puts `key`, which sorts below the first key, in the first key's place.
  mutating func lowerFirst(to key: Bytes) {
    keys[0] = key
    computePrefix()
  }

  mutating func remove(at index: Int) {
    keys.remove(at: index)
    heads.remove(at: index)
  }

  /// Cuts the keys from `index` on off and returns them.
  mutating func split(at index: Int) -> KeyColumn {
    var upper = KeyColumn()
    upper.keys.reserveCapacity(IndexNode.slots)
    upper.keys.append(contentsOf: keys[index...])
    keys.removeSubrange(index...)
    upper.computePrefix()
    computePrefix()
    return upper
  }

  /// Appends the keys of `upper`, all of which sort above the own ones.
  mutating func append(_ upper: KeyColumn) {
    keys.append(contentsOf: upper.keys)
    computePrefix()
  }

  private mutating func computePrefix() {
    guard let first = keys.first, let last = keys.last else {
      sharedCount = 0
      heads = []
      return
    }
    sharedCount = Self.sharedPrefixCount(first, last, limit: first.count)
    computeHeads()
  }

  private mutating func computeHeads() {
    heads.removeAll(keepingCapacity: true)
    heads.reserveCapacity(IndexNode.slots)
    for key in keys { heads.append(Self.head(of: key, behind: sharedCount)) }
  }

  /// The first index at or above `start` whose head does not satisfy `isBefore` (which must hold for a prefix).
  @inline(__always)
  private static func partition(
    _ heads: UnsafeBufferPointer<UInt64>, from start: Int, _ isBefore: (UInt64) -> Bool
  ) -> Int {
    var low = start
    var high = heads.count
    while low < high {
      let middle = (low + high) / 2
      if isBefore(heads[middle]) { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// How `key` sorts against keys that begin with the first `count` bytes of `other`: 0 when it begins with them too.
  @inline(__always)
  private static func compare(_ key: Bytes, prefixOf other: Bytes, count: Int) -> Int {
    guard count > 0 else { return 0 }
    return key.array.withUnsafeBytes { mine in
      other.array.withUnsafeBytes { theirs in
        let common = min(mine.count, count)
        if common > 0 {
          let order = memcmp(mine.baseAddress!, theirs.baseAddress!, common)
          if order != 0 { return Int(order) }
        }
        return mine.count < count ? -1 : 0
      }
    }
  }

  @inline(__always)
  private static func head(of key: Bytes, behind skipped: Int) -> UInt64 {
    key.array.withUnsafeBytes { bytes in
      if bytes.count >= skipped + 8 {
        return UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: skipped, as: UInt64.self))
      }
      var head: UInt64 = 0
      var shift: UInt64 = 56
      var offset = skipped
      while offset < bytes.count {
        head |= UInt64(bytes[offset]) << shift
        shift &-= 8
        offset += 1
      }
      return head
    }
  }

  private static func sharedPrefixCount(_ left: Bytes, _ right: Bytes, limit: Int) -> Int {
    left.array.withUnsafeBytes { left in
      right.array.withUnsafeBytes { right in
        let end = min(limit, left.count, right.count)
        var count = 0
        while count < end, left[count] == right[count] { count += 1 }
        return count
      }
    }
  }
}
