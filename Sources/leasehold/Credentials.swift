import ClusterNode
import PKI
import Settings

/// Passwords and tokens of users: libcrypto hashes and signs, the node decides what they are good for.
enum Credentials {
  private struct Passwords: PasswordScheme {
    let cost: PasswordHash

    func hash(_ password: [UInt8]) -> [UInt8]? { cost.hash(password) }
    func matches(_ password: [UInt8], _ hash: [UInt8]) -> Bool { PasswordHash.matches(password, hash) }
  }

  private struct Key: TokenKey {
    let key: SigningKey

    var algorithm: String { key.method.name }
    func sign(_ message: [UInt8]) -> [UInt8]? { key.sign(message) }
    func isValid(_ signature: [UInt8], of message: [UInt8]) -> Bool { key.isValid(signature, of: message) }
  }

  /// Reads the key files. Throws a one-line `SettingsError` or `PKIError`.
  static func load(_ settings: NodeSettings) throws -> AuthSettings {
    var auth = AuthSettings()
    auth.passwords = Passwords(cost: PasswordHash(cost: settings.auth.passwordCost))
    auth.namesComeFromCertificates = settings.clientTLS?.namesAreUsers ?? false
    guard case .signed(let signed) = settings.auth.tokens else { return auth }
    guard let method = SignatureMethod.named(signed.method) else {
      let names = SignatureMethod.all.map(\.name).joined(separator: ", ")
      throw SettingsError("--auth-token: sign-method=\(signed.method) is none of \(names)")
    }
    let key = try SigningKey(method, publicPath: signed.publicKeyFile, privatePath: signed.privateKeyFile)
    auth.tokens = .signed(SignedTokens(key: Key(key: key), ttlSeconds: signed.ttlMilliseconds / 1_000))
    return auth
  }
}
