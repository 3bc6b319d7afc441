import Wire

/// What of a request's headers becomes metadata of its call.
enum GatewayMetadata {
  private static let prefix = "grpc-metadata-"
  private static let scheme = "Bearer "

  /// `Grpc-Metadata-NAME` as NAME, and the token of `Authorization`, whose scheme may be left out (etcd's clients do).
  static func metadata(of request: HTTPRequest) -> [String: String] {
    var metadata: [String: String] = [:]
    for (name, value) in request.headers {
      let name = name.lowercased()
      guard name.hasPrefix(prefix), name.utf8.count > prefix.utf8.count else { continue }
      let key = String(name.dropFirst(prefix.count))
      if metadata[key] == nil { metadata[key] = value }
    }
    if metadata["token"] == nil, let token = request.header("authorization"), !token.isEmpty {
      metadata["token"] = token.hasPrefix(scheme) ? String(token.dropFirst(scheme.count)) : token
    }
    return metadata
  }

  /// "Bearer, TOKEN".
  static func token(ofSubprotocol text: String?) -> String? {
    guard let text, text.hasPrefix("Bearer,") else { return nil }
    let token = text.dropFirst("Bearer,".count).drop { $0 == " " }
    return token.isEmpty ? nil : String(token)
  }
}
