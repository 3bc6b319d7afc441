/// A URL under which members reach each other: `http://host:port`, `https://[::1]:2380`. Its description is the one form in
/// which all members compare and hash it.
package struct PeerURL: Hashable, Sendable, CustomStringConvertible {
  package enum Fault: Error, Hashable, Sendable {
    case scheme
    case authority
    case path
  }

  package var isSecure: Bool
  package var host: String
  package var port: Int

  /// etcd's rules (`types.NewURLs`): http or https, host and port, no path but a slash.
  package init(_ text: String) throws(Fault) {
    if text.hasPrefix("https://") {
      isSecure = true
    } else if text.hasPrefix("http://") {
      isSecure = false
    } else {
      throw .scheme
    }
    var authority = text.dropFirst(isSecure ? 8 : 7)
    if authority.last == "/" { authority.removeLast() }
    guard !authority.contains("/") else { throw .path }
    guard let (host, port) = Self.split(authority) else { throw .authority }
    self.host = host
    self.port = port
  }

  package var description: String {
    (isSecure ? "https://" : "http://") + (host.contains(":") ? "[\(host)]" : host) + ":\(port)"
  }

  /// The URLs in their one form, sorted, each once; nil when there are none or one is no peer URL.
  package static func list(_ texts: [String]) -> [String]? {
    var urls: Set<String> = []
    for text in texts {
      do throws(Fault) { urls.insert(try PeerURL(text).description) } catch { return nil }
    }
    return urls.isEmpty ? nil : urls.sorted()
  }

  /// `host:port` or `[v6]:port`; nil for anything else.
  package static func split(_ authority: some StringProtocol) -> (host: String, port: Int)? {
    guard let colon = authority.lastIndex(of: ":"), let port = Int(authority[authority.index(after: colon)...]),
      (0...65_535).contains(port)
    else { return nil }
    var host = String(authority[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = String(host.dropFirst().dropLast())
    } else if host.contains(":") {
      return nil
    }
    return host.isEmpty ? nil : (host, port)
  }
}
