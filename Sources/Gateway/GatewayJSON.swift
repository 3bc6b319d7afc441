import EtcdAPI
import NIOCore
import SwiftProtobuf

/// A request that is not the JSON it should be.
enum GatewayRefusal: Error {
  case malformed(String)

  var text: String {
    switch self {
    case .malformed(let text): text
    }
  }
}

/// Messages as etcd's gateway reads and writes them: names as in the .proto files (read also in camel case), 64-bit
/// integers as strings, bytes in base64, enumerations by name (read also by number), nothing that is zero.
enum GatewayJSON {
  private static let encoding: JSONEncodingOptions = {
    var options = JSONEncodingOptions()
    options.preserveProtoFieldNames = true
    return options
  }()

  /// Messages inside messages: as on the wire, where transactions nest.
  private static let maxDepth = 300

  /// Nothing, and `null`, is a message without fields. Fields that the message does not have are passed over, as in etcd;
  /// a request that has some is read once more, and then names of an enumeration's values that are not known count as
  /// zero.
  static func decode<M: Message>(_ json: ArraySlice<UInt8>, as type: M.Type) throws(GatewayRefusal) -> M {
    if json.isEmpty || json.elementsEqual("null".utf8) { return M() }
    guard json.first == UInt8(ascii: "{") else {
      throw .malformed("json: an object is expected, not \(kind(of: json.first!))")
    }
    let bytes = Array(json)
    var options = JSONDecodingOptions()
    options.messageDepthLimit = maxDepth
    do {
      return try M(jsonUTF8Bytes: bytes, options: options)
    } catch JSONDecodingError.unknownField {
      options.ignoreUnknownFields = true
      do { return try M(jsonUTF8Bytes: bytes, options: options) } catch { throw .malformed(describe(error)) }
    } catch {
      throw .malformed(describe(error))
    }
  }

  static func encode<M: Message>(_ message: ByteBuffer, of type: M.Type) -> [UInt8]? {
    try? M(wire: message).jsonUTF8Bytes(options: encoding)
  }

  private static func kind(of first: UInt8) -> String {
    switch first {
    case UInt8(ascii: "["): "an array"
    case UInt8(ascii: "\""): "a string"
    case UInt8(ascii: "-"), 0x30...0x39: "a number"
    default: "something else"
    }
  }

  private static func describe(_ error: any Error) -> String {
    guard let error = error as? JSONDecodingError else { return "json: \(error)" }
    return switch error {
    case .malformedNumber, .leadingZero: "json: a number is malformed"
    case .numberRange: "json: a number is out of range"
    case .malformedBool: "json: true or false is expected"
    case .malformedString: "json: a string or base64 is malformed"
    case .invalidUTF8: "json: the text is not UTF-8"
    case .unrecognizedEnumValue: "json: unknown value for an enumeration"
    case .illegalNull: "json: null is not possible here"
    case .truncated: "unexpected EOF"
    case .conflictingOneOf: "json: two fields of which only one can be set"
    case .messageDepthLimit: "json: nested too deeply"
    case .unknownField(let name): "json: unknown field \"\(name)\""
    default: "json: malformed"
    }
  }
}
