/// Who a peer's certificate says it is.
package struct PeerIdentity: Hashable, Sendable {
  package var commonName: String?

  package init(commonName: String?) { self.commonName = commonName }
}

/// What is to be judged: a peer's certificates, and how it was met.
package struct TrustQuestion: Sendable {
  package enum Occasion: Sendable {
    case handshake
    /// A connection that stands is judged again, because it has changed who is trusted.
    case review
  }

  /// DER, the leaf first, as the peer sent it.
  package var chain: [[UInt8]]
  /// As the peer was dialled: a name or an address, which its certificate must state. Nil for who has dialled us.
  package var host: String?
  /// The peer's IP address; nil when it has none.
  package var address: String?
  package var occasion: Occasion

  package init(chain: [[UInt8]], host: String? = nil, address: String? = nil, occasion: Occasion = .handshake) {
    self.chain = chain
    self.host = host
    self.address = address
    self.occasion = occasion
  }
}

/// Decides whether a peer is trusted. Runs on a thread of a pool, so it may block; a failure ends the handshake (or the
/// connection), and its description is logged. May rest on what changes: `TLSSettings.judgeAgain` then has everybody
/// judged anew.
package typealias TrustCheck = @Sendable (TrustQuestion) -> Result<PeerIdentity, any Error>

/// What a TLS listener wants of its clients.
package enum ClientCertificates: Sendable {
  case ignored
  /// Looked at when presented, and then they must be trusted.
  case optional(TrustCheck)
  /// A client without one is refused.
  case required(TrustCheck)

  var check: TrustCheck? {
    switch self {
    case .ignored: nil
    case .optional(let check), .required(let check): check
    }
  }

  var areRequired: Bool { if case .required = self { true } else { false } }
}
