import Primitives

/// What a member does about users by itself; what they may do is the cluster's to say.
package struct AuthSettings: Sendable {
  package enum Tokens: Sendable {
    /// Every member learns of them by the log.
    case simple
    /// Whoever has the key can check them.
    case signed(SignedTokens)
  }

  package var tokens = Tokens.simple
  /// The name in a client's certificate is its user (`--client-cert-auth`).
  package var namesComeFromCertificates = false
  /// nil: this member knows no passwords.
  package var passwords: (any PasswordScheme)?

  package init() {}
}

/// How passwords are kept. Both methods are slow on purpose; called on threads of their own.
package protocol PasswordScheme: Sendable {
  /// nil when it cannot be made.
  func hash(_ password: [UInt8]) -> [UInt8]?
  func matches(_ password: [UInt8], _ hash: [UInt8]) -> Bool
}

/// A key that makes and checks the signatures of tokens.
package protocol TokenKey: Sendable {
  /// As JSON web tokens name it (RFC 7518, §3.1).
  var algorithm: String { get }
  /// nil where there is only the public half.
  func sign(_ message: [UInt8]) -> [UInt8]?
  func isValid(_ signature: [UInt8], of message: [UInt8]) -> Bool
}
