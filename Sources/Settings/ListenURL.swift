import Primitives

/// A URL to listen on or to advertise: `http://host:port`, `https://[::1]:2379`, `unix:///path`.
package struct ListenURL: Hashable, Sendable, CustomStringConvertible {
  package enum Address: Hashable, Sendable {
    case tcp(host: String, port: Int)
    case unix(path: String)
  }

  package var isSecure: Bool
  package var address: Address

  package var description: String {
    switch address {
    case .unix(let path): return (isSecure ? "unixs://" : "unix://") + path
    case .tcp(let host, let port):
      let shown = host.contains(":") ? "[\(host)]" : host
      return (isSecure ? "https://" : "http://") + "\(shown):\(port)"
    }
  }

  package init(_ text: String, setting: String) throws(SettingsError) {
    func wrong(_ why: String) -> SettingsError { SettingsError("\(setting): '\(text)' is not a usable URL: \(why)") }
    for (scheme, secure) in [("unix://", false), ("unixs://", true)] where text.hasPrefix(scheme) {
      let path = String(text.dropFirst(scheme.count))
      guard path.hasPrefix("/") else { throw wrong("a Unix socket needs an absolute path") }
      self.init(isSecure: secure, address: .unix(path: path))
      return
    }
    let secure: Bool
    if text.hasPrefix("https://") {
      secure = true
    } else if text.hasPrefix("http://") {
      secure = false
    } else {
      throw wrong("it must start with http:// or https://")
    }
    let authority = text.dropFirst(secure ? 8 : 7).prefix { $0 != "/" }
    guard let (host, port) = PeerURL.split(authority) else { throw wrong("it must name host:port") }
    self.init(isSecure: secure, address: .tcp(host: host, port: port))
  }

  private init(isSecure: Bool, address: Address) {
    self.isSecure = isSecure
    self.address = address
  }
}
