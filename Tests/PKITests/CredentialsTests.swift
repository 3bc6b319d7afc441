import Foundation
import PKI
import Testing

@Suite("Hashes of passwords")
struct PasswordHashTests {
  @Test("a password fits its own hash only, whatever it consists of, and two hashes of it differ")
  func fits() throws {
    let scheme = PasswordHash(cost: 4)
    for password in ["secret", "", "\0", "\0\0", "grün", String(repeating: "x", count: 100)] {
      let bytes = Array(password.utf8)
      let hash = try #require(scheme.hash(bytes))
      #expect(PasswordHash.matches(bytes, hash))
      #expect(!PasswordHash.matches(bytes + [0], hash) && !PasswordHash.matches(Array("Secret".utf8), hash))
      #expect(scheme.hash(bytes) != hash)
      #expect(hash.firstRange(of: Array("secret".utf8)) == nil)
    }
  }

  @Test("a hash tells its cost, so that members of different costs know each other's")
  func cost() throws {
    let hash = try #require(PasswordHash(cost: 5).hash([1]))
    #expect(hash[1] == 9 && hash.count == 52)
    #expect(PasswordHash.matches([1], hash))
  }

  @Test("what is no hash fits nothing and costs nothing")
  func damaged() throws {
    let hash = try #require(PasswordHash(cost: 4).hash([1]))
    #expect(!PasswordHash.matches([1], []) && !PasswordHash.matches([], []))
    for position in hash.indices {
      for value in [0, 31, 255] as [UInt8] where value != hash[position] {
        // The head alone says how much memory and time is asked for.
        if position == 1, value == 31 { continue }
        var damaged = hash
        damaged[position] = value
        #expect(!PasswordHash.matches([1], damaged), "byte \(position) as \(value)")
      }
    }
    #expect(!PasswordHash.matches([1], Array(hash.dropLast())))
  }
}

@Suite("Keys that sign tokens")
struct SigningKeyTests {
  private let folder = FileManager.default.temporaryDirectory.appending(path: "keys-\(UUID())")

  init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

  private func file(_ name: String, _ content: [UInt8]) throws -> String {
    let url = folder.appending(path: name)
    try Data(content).write(to: url)
    return url.path
  }

  private static func bytes(_ base64URL: String) throws -> [UInt8] {
    var text = base64URL.replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
    while text.utf8.count % 4 != 0 { text += "=" }
    return Array(try #require(Data(base64Encoded: text)))
  }

  /// PKCS #8 of an Ed25519 key.
  private static func pem(ed25519 key: [UInt8]) -> [UInt8] {
    let head: [UInt8] = [
      0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
    ]
    let body = Data(head + key).base64EncodedString()
    return Array("-----BEGIN PRIVATE KEY-----\n\(body)\n-----END PRIVATE KEY-----\n".utf8)
  }

  private func check(_ key: SigningKey, _ message: String, _ expected: String) throws {
    let message = Array(message.utf8)
    let signature = try #require(key.sign(message))
    #expect(signature == (try Self.bytes(expected)))
    #expect(key.isValid(signature, of: message))
    #expect(!key.isValid(signature, of: message + [0]) && !key.isValid(Array(signature.dropLast()), of: message))
    var damaged = signature
    damaged[3] ^= 1
    #expect(!key.isValid(damaged, of: message) && !key.isValid([], of: message))
  }

  @Test("HS256 as RFC 7515, appendix A.1, has it")
  func hmac() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let secret = try Self.bytes(
      "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
    let method = try #require(SignatureMethod.named("HS256"))
    let key = try SigningKey(method, publicPath: nil, privatePath: file("secret", secret))
    try check(
      key,
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
      "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
  }

  @Test("EdDSA as RFC 8037, appendix A.4, has it; the key fits no other method")
  func ed25519() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = try file("ed.pem", Self.pem(ed25519: Self.bytes("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")))
    let key = try SigningKey(#require(SignatureMethod.named("EdDSA")), publicPath: nil, privatePath: path)
    try check(
      key, "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
      "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
    for name in ["RS256", "PS512", "ES256", "ES384"] {
      #expect(throws: PKIError.self) {
        try SigningKey(#require(SignatureMethod.named(name)), publicPath: nil, privatePath: path)
      }
    }
  }

  @Test("a missing key, an empty one and another kind of file are named")
  func unusable() throws {
    defer { try? FileManager.default.removeItem(at: folder) }
    let text = try file("text", Array("no key".utf8))
    let empty = try file("empty", [])
    for name in ["HS256", "RS256", "EdDSA"] {
      let method = try #require(SignatureMethod.named(name))
      #expect(throws: PKIError.self) { try SigningKey(method, publicPath: nil, privatePath: nil) }
      #expect(throws: PKIError.self) { try SigningKey(method, publicPath: nil, privatePath: empty) }
      #expect(throws: PKIError.missingFile("\(text)x")) {
        try SigningKey(method, publicPath: nil, privatePath: "\(text)x")
      }
    }
    #expect(throws: PKIError.malformed(source: text, reason: "no public key in it (PEM is expected)")) {
      try SigningKey(#require(SignatureMethod.named("RS256")), publicPath: text, privatePath: nil)
    }
    #expect(SignatureMethod.named("none") == nil && SignatureMethod.named("") == nil)
  }
}
