import NIOCore

/// The header block that is just arriving on a connection. Blocks never interleave, so one is enough; it is reused.
struct IncomingHeaders {
  /// As many as surely fit an Int.
  private static let maxLengthDigits = 18

  var streamID: Int32 = 0
  /// Regular fields, `:authority` as "host"; without `grpc-timeout`, which differs from call to call.
  var block = HeaderBlock()
  var method: [UInt8] = []
  var path: [UInt8] = []
  var isGRPC = false
  /// Nil without the header; `.some(nil)` when it was malformed.
  var timeout: TimeAmount??
  /// What the body's length is announced to be; nil without the header.
  private(set) var contentLength: Int?
  private var hasWrongLength = false
  var byteCount = 0
  var isTooLarge = false
  private var rules = HeaderRules()

  /// Not a request by HTTP's rules. To be asked when the block has ended.
  var isMalformed: Bool { hasWrongLength || !rules.isRequest(method: method, path: path) }

  mutating func begin(_ streamID: Int32) {
    self.streamID = streamID
    block.removeAll()
    method.removeAll(keepingCapacity: true)
    path.removeAll(keepingCapacity: true)
    isGRPC = false
    timeout = nil
    contentLength = nil
    hasWrongLength = false
    byteCount = 0
    isTooLarge = false
    rules = HeaderRules()
  }

  mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, limit: Int) {
    // As HTTP/2 counts a header list (RFC 9113, 6.5.2).
    byteCount += name.count + value.count + 32
    rules.note(name, value)
    guard byteCount <= limit, value.count <= HeaderBlock.maxPartBytes, name.count <= HeaderBlock.maxPartBytes else {
      isTooLarge = true
      return
    }
    if name.first == UInt8(ascii: ":") {
      addPseudo(name, value)
    } else if sameText(name, "grpc-timeout") {
      timeout = .some(grpcTimeout(value))
    } else {
      if sameText(name, "content-type") {
        isGRPC = isGRPCContentType(value)
      } else if sameText(name, "content-length") {
        noteLength(value)
      }
      block.append(name, value)
    }
  }

  /// Digits only, and a second one only if it says the same (RFC 9110, 8.6).
  private mutating func noteLength(_ value: UnsafeRawBufferPointer) {
    var length = 0
    var isNumber = !value.isEmpty && value.count <= Self.maxLengthDigits
    for byte in value where isNumber {
      isNumber = byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
      if isNumber { length = length * 10 + Int(byte - UInt8(ascii: "0")) }
    }
    if !isNumber || (contentLength ?? length) != length { hasWrongLength = true }
    contentLength = length
  }

  private mutating func addPseudo(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    if sameText(name, ":path") {
      path.append(contentsOf: value)
    } else if sameText(name, ":method") {
      method.append(contentsOf: value)
    } else if sameText(name, ":authority") {
      let host: StaticString = "host"
      block.append(UnsafeRawBufferPointer(start: host.utf8Start, count: host.utf8CodeUnitCount), value)
    }
  }

  /// "application/grpc", alone or followed by "+proto" or parameters.
  private func isGRPCContentType(_ value: UnsafeRawBufferPointer) -> Bool {
    let type: StaticString = "application/grpc"
    let count = type.utf8CodeUnitCount
    guard value.count >= count, sameText(UnsafeRawBufferPointer(rebasing: value[..<count]), type) else {
      return false
    }
    return value.count == count || value[count] == UInt8(ascii: "+") || value[count] == UInt8(ascii: ";")
  }
}

/// What makes a header block a request (RFC 9113, 8.2 and 8.3): fields of lower-case names and clean values, each pseudo
/// field once and before all others, none that belongs to HTTP/1.1's connections. What `:authority` says is not looked at.
struct HeaderRules {
  private var isSound = true
  private var pseudoFields: UInt8 = 0
  private var hasRegularFields = false

  private static let method: UInt8 = 1
  private static let scheme: UInt8 = 2
  private static let path: UInt8 = 4
  private static let authority: UInt8 = 8
  private static let needed = method | scheme | path

  mutating func note(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    guard isSound else { return }
    if name.first == UInt8(ascii: ":") {
      isSound = !hasRegularFields && notePseudo(name) && Self.isClean(value)
    } else {
      hasRegularFields = true
      isSound = Self.isName(name) && Self.isClean(value) && Self.isForStreams(name, value)
    }
  }

  func isRequest(method: [UInt8], path: [UInt8]) -> Bool {
    guard isSound, pseudoFields & Self.needed == Self.needed, !method.isEmpty else { return false }
    return path.first == UInt8(ascii: "/") || (path == [UInt8(ascii: "*")] && method.elementsEqual("OPTIONS".utf8))
  }

  private mutating func notePseudo(_ name: UnsafeRawBufferPointer) -> Bool {
    let field: UInt8
    if sameText(name, ":path") {
      field = Self.path
    } else if sameText(name, ":method") {
      field = Self.method
    } else if sameText(name, ":scheme") {
      field = Self.scheme
    } else if sameText(name, ":authority") {
      field = Self.authority
    } else {
      return false
    }
    defer { pseudoFields |= field }
    return pseudoFields & field == 0
  }

  private static func isName(_ name: UnsafeRawBufferPointer) -> Bool {
    guard !name.isEmpty else { return false }
    for byte in name {
      let isUpper = byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z")
      if byte <= 0x20 || byte >= 0x7f || isUpper || byte == UInt8(ascii: ":") { return false }
    }
    return true
  }

  private static func isClean(_ value: UnsafeRawBufferPointer) -> Bool {
    for byte in value where byte == 0 || byte == 0x0a || byte == 0x0d { return false }
    guard let first = value.first, let last = value.last else { return true }
    return !isBlank(first) && !isBlank(last)
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

  private static func isForStreams(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
    switch name.count {
    case 2: !sameText(name, "te") || sameText(value, "trailers")
    case 7: !sameText(name, "upgrade")
    case 10: !sameText(name, "connection") && !sameText(name, "keep-alive")
    case 16: !sameText(name, "proxy-connection")
    case 17: !sameText(name, "transfer-encoding")
    default: true
    }
  }
}
