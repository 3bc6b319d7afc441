import CNghttp2
import NIOCore

/// Header fields as one run of bytes: for each two bytes of name length, two of value length (both little-endian), the
/// name (lower case), the value. Equal header blocks of successive requests share one such array.
struct HeaderBlock: Sendable {
  static let maxPartBytes = Int(UInt16.max)

  private(set) var bytes: [UInt8] = []

  mutating func append(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    precondition(name.count <= Self.maxPartBytes && value.count <= Self.maxPartBytes, "an over-long header got through")
    bytes.append(UInt8(truncatingIfNeeded: name.count))
    bytes.append(UInt8(truncatingIfNeeded: name.count >> 8))
    bytes.append(UInt8(truncatingIfNeeded: value.count))
    bytes.append(UInt8(truncatingIfNeeded: value.count >> 8))
    bytes.append(contentsOf: name)
    bytes.append(contentsOf: value)
  }

  mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

  static func == (left: HeaderBlock, right: HeaderBlock) -> Bool {
    left.bytes.count == right.bytes.count
      && left.bytes.withUnsafeBytes { l in right.bytes.withUnsafeBytes { r in sameBytes(l, r) } }
  }

  /// First value of `name`.
  subscript(_ name: String) -> String? {
    var found: String?
    visit { fieldName, value in
      guard fieldName.elementsEqual(name.utf8) else { return true }
      found = String(decoding: value, as: UTF8.self)
      return false
    }
    return found
  }

  /// Whether the first value of `name` is `value`.
  func has(_ name: StaticString, _ value: StaticString) -> Bool {
    var found = false
    visit { fieldName, fieldValue in
      guard sameText(fieldName, name) else { return true }
      found = sameText(fieldValue, value)
      return false
    }
    return found
  }

  var fields: [(name: String, value: String)] {
    var fields: [(name: String, value: String)] = []
    visit { name, value in
      fields.append((String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
      return true
    }
    return fields
  }

  /// Calls `body` with name and value of each field until it returns false.
  private func visit(_ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Bool) {
    bytes.withUnsafeBytes { bytes in
      var index = 0
      while index < bytes.count {
        let nameCount = Int(bytes[index]) | Int(bytes[index + 1]) << 8
        let valueCount = Int(bytes[index + 2]) | Int(bytes[index + 3]) << 8
        let name = index + 4
        let value = name + nameCount
        index = value + valueCount
        guard
          body(
            UnsafeRawBufferPointer(rebasing: bytes[name..<value]),
            UnsafeRawBufferPointer(rebasing: bytes[value..<index]))
        else { return }
      }
    }
  }
}

/// Response headers in the making, and the array that nghttp2 takes (it copies everything).
struct OutgoingHeaders {
  private var bytes: [UInt8] = []
  private var counts: [(name: Int, value: Int)] = []

  mutating func add(_ name: String, _ value: some Sequence<UInt8>) {
    let before = bytes.count
    bytes.append(contentsOf: name.utf8.lazy.map(asciiLowercased))
    let nameCount = bytes.count - before
    bytes.append(contentsOf: value)
    counts.append((nameCount, bytes.count - before - nameCount))
  }

  mutating func withFields<Result>(_ body: (UnsafePointer<nghttp2_nv>, Int) -> Result) -> Result {
    let counts = counts
    return bytes.withUnsafeMutableBufferPointer { bytes in
      withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: counts.count) { fields in
        var next = bytes.baseAddress!
        for (index, count) in counts.enumerated() {
          fields.initializeElement(
            at: index,
            to: nghttp2_nv(
              name: next, value: next + count.name, namelen: count.name, valuelen: count.value, flags: 0))
          next += count.name + count.value
        }
        return body(UnsafePointer(fields.baseAddress!), counts.count)
      }
    }
  }
}

/// Header fields known at build time: nghttp2 refers to them in place.
struct StaticHeaders: @unchecked Sendable {
  /// Never freed and never written to; nghttp2's pointers are just not const.
  let fields: UnsafePointer<nghttp2_nv>
  let count: Int

  init(_ pairs: (StaticString, StaticString)...) {
    let fields = UnsafeMutablePointer<nghttp2_nv>.allocate(capacity: pairs.count)
    let inPlace = UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue)
    for (index, (name, value)) in pairs.enumerated() {
      (fields + index).initialize(
        to: nghttp2_nv(
          name: UnsafeMutablePointer(mutating: name.utf8Start), value: UnsafeMutablePointer(mutating: value.utf8Start),
          namelen: name.utf8CodeUnitCount, valuelen: value.utf8CodeUnitCount, flags: inPlace))
    }
    self.fields = UnsafePointer(fields)
    self.count = pairs.count
  }

  static let grpcResponse = StaticHeaders((":status", "200"), ("content-type", "application/grpc"))
  static let grpcOK = StaticHeaders(("grpc-status", "0"), ("grpc-message", ""))
  static let continueResponse = StaticHeaders((":status", "100"))
}

@inline(__always)
func sameText(_ bytes: UnsafeRawBufferPointer, _ text: StaticString) -> Bool {
  bytes.count == text.utf8CodeUnitCount
    && sameBytes(bytes, UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
}
