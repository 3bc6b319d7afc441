import NIOCore
import Primitives
import SidecarCore

/// What is wrong with the body of `PUT …/entries/{key}`.
struct RegistrationProblem: Error {
  var status = 400
  var field: String?
  var detail: String
}

extension EntryRegistration {
  /// `{"size":…,"ttl":"7d","refs":[…],"labels":{…}}`, each of them optional; an empty body is `{}`.
  init(body: ByteBuffer) throws(RegistrationProblem) {
    self.init()
    guard body.readableBytes > 0 else { return }
    let value: JSONValue
    do { value = try JSONValue(parsing: body.readableBytesView, maxBytes: Limits.maxHTTPBodyBytes) } catch {
      throw RegistrationProblem(detail: "the body is no JSON: \(error.description)")
    }
    try self.init(fields: value)
  }

  init(fields value: JSONValue, ignoring ignored: Set<String> = []) throws(RegistrationProblem) {
    self.init()
    guard case .object(let members) = value else {
      throw RegistrationProblem(detail: "the body must be a JSON object with size, ttl, refs, labels")
    }
    for member in members where !ignored.contains(member.name) {
      switch member.name {
      case "size": sizeBytes = try Self.size(member.value)
      case "ttl": ttlMilliseconds = try Self.ttl(member.value)
      case "refs": refs = try Self.refs(member.value)
      case "labels": labels = try Self.labels(member.value)
      default:
        throw RegistrationProblem(
          field: member.name, detail: "\(member.name): unknown field; known are size, ttl, refs, labels")
      }
    }
    let bytes =
      (refs ?? []).reduce(0) { $0 + $1.count + 3 }
      + (labels ?? [:]).reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count + 6 }
    guard bytes <= Limits.maxEntryAttributeBytes else {
      throw RegistrationProblem(
        status: 413, field: "refs",
        detail: "refs and labels have more than \(Limits.maxEntryAttributeBytes) bytes together: name fewer")
    }
  }

  private static func size(_ value: JSONValue) throws(RegistrationProblem) -> Int64 {
    guard case .integer(let size) = value, size >= 0 else {
      throw RegistrationProblem(field: "size", detail: "size: write the number of bytes, 0 or more")
    }
    return size
  }

  private static func ttl(_ value: JSONValue) throws(RegistrationProblem) -> Int64 {
    guard case .text(let text) = value, let ttl = DurationText.milliseconds(text) else {
      throw RegistrationProblem(field: "ttl", detail: "ttl: write a duration as a text: \"10s\", \"1h\", \"7d\"")
    }
    if let problem = CachePolicy.problem(ofTTLMilliseconds: ttl) {
      throw RegistrationProblem(field: "ttl", detail: "ttl: \(text) \(problem)")
    }
    return ttl
  }

  private static func refs(_ value: JSONValue) throws(RegistrationProblem) -> [Bytes] {
    guard case .array(let values) = value, values.count <= Limits.maxEntryRefs else {
      throw RegistrationProblem(
        field: "refs", detail: "refs: write an array of at most \(Limits.maxEntryRefs) keys")
    }
    var refs: [Bytes] = []
    for value in values {
      guard case .text(let text) = value, let key = try? KeyEncoding.checked(Bytes(text)) else {
        throw RegistrationProblem(
          field: "refs", detail: "refs: each is a key, a text of 1 to \(Limits.maxCacheKeyBytes) bytes")
      }
      refs.append(key)
    }
    return refs
  }

  private static func labels(_ value: JSONValue) throws(RegistrationProblem) -> [String: String] {
    guard case .object(let members) = value, members.count <= Limits.maxEntryLabels else {
      throw RegistrationProblem(
        field: "labels", detail: "labels: write an object of at most \(Limits.maxEntryLabels) texts")
    }
    var labels: [String: String] = [:]
    for member in members {
      guard case .text(let text) = member.value else {
        throw RegistrationProblem(field: "labels", detail: "labels: \(member.name) is no text")
      }
      labels[member.name] = text
    }
    return labels
  }
}
