#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A key or a value: uninterpreted bytes, ordered as etcd orders them (unsigned, lexicographic, a prefix first).
///
/// A struct of its own rather than `[UInt8]`, so that the order is defined once and the representation can change
/// without touching its users.
@usableFromInline
package struct Bytes: Hashable, Sendable {
  @usableFromInline package var array: [UInt8]

  @inlinable
  package init(_ array: [UInt8] = []) { self.array = array }

  @inlinable
  package init(_ text: some StringProtocol) { self.array = Array(text.utf8) }

  @inlinable
  package init(_ bytes: some Sequence<UInt8>) { self.array = Array(bytes) }

  @inlinable
  package var count: Int { array.count }

  @inlinable
  package var isEmpty: Bool { array.isEmpty }

  @inlinable
  package subscript(index: Int) -> UInt8 { array[index] }

  /// The bytes as text when they are valid UTF-8.
  package var text: String? { String(validating: array, as: UTF8.self) }

  @inlinable
  package func hasPrefix(_ prefix: Bytes) -> Bool { array.starts(with: prefix.array) }

  /// The smallest key after every key that starts with this prefix: the `range_end` of a prefix query.
  /// Nil for the empty prefix and for a run of 0xff, whose range has no upper bound.
  package var prefixEnd: Bytes? {
    var end = array
    while let last = end.last {
      if last < 0xff {
        end[end.count - 1] = last + 1
        return Bytes(end)
      }
      end.removeLast()
    }
    return nil
  }

  /// The next key in order: this one with a zero byte behind it.
  package var successor: Bytes { Bytes(array + [0]) }

  package static func + (left: Bytes, right: Bytes) -> Bytes { Bytes(left.array + right.array) }
}

extension Bytes: Comparable {
  @inlinable
  package static func < (left: Bytes, right: Bytes) -> Bool { left.compare(right) < 0 }

  /// Negative, zero or positive, as memcmp answers.
  @inlinable
  package func compare(_ other: Bytes) -> Int {
    array.withUnsafeBytes { mine in
      other.array.withUnsafeBytes { theirs in
        let common = min(mine.count, theirs.count)
        if common > 0 {
          let order = memcmp(mine.baseAddress!, theirs.baseAddress!, common)
          if order != 0 { return Int(order) }
        }
        return mine.count - theirs.count
      }
    }
  }
}

extension Bytes: ExpressibleByStringLiteral, ExpressibleByArrayLiteral {
  @inlinable
  package init(stringLiteral text: String) { self.init(text) }
  @inlinable
  package init(arrayLiteral elements: UInt8...) { self.init(elements) }
}

extension Bytes: CustomStringConvertible {
  /// Text where it is printable ASCII, `\xNN` elsewhere.
  @usableFromInline
  package var description: String {
    var text = ""
    for byte in array {
      if (0x20..<0x7f).contains(byte), byte != UInt8(ascii: "\\") {
        text.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        let digits = String(byte, radix: 16)
        text += "\\x" + (digits.count == 1 ? "0" : "") + digits
      }
    }
    return text
  }
}
