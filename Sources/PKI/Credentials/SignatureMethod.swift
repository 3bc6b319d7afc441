import CLibcrypto

/// How tokens are signed: the names of RFC 7518, §3.1, and RFC 8037.
package struct SignatureMethod: Hashable, Sendable {
  enum Family: Hashable, Sendable {
    case hmac
    case rsa
    case rsaPSS
    /// With the bytes of each half of the signature.
    case ecdsa(halfBytes: Int)
    case ed25519
  }

  package let name: String
  let family: Family
  /// 0 where the family hashes by itself.
  private let hashBits: Int

  package static let all: [SignatureMethod] =
    [256, 384, 512].flatMap { bits in
      [
        SignatureMethod(name: "HS\(bits)", family: .hmac, hashBits: bits),
        SignatureMethod(name: "RS\(bits)", family: .rsa, hashBits: bits),
        SignatureMethod(name: "PS\(bits)", family: .rsaPSS, hashBits: bits),
        SignatureMethod(name: "ES\(bits)", family: .ecdsa(halfBytes: bits == 512 ? 66 : bits / 8), hashBits: bits),
      ]
    } + [SignatureMethod(name: "EdDSA", family: .ed25519, hashBits: 0)]

  package static func named(_ name: String) -> SignatureMethod? { all.first { $0.name == name } }

  var digest: OpaquePointer? {
    switch hashBits {
    case 256: EVP_sha256()
    case 384: EVP_sha384()
    case 512: EVP_sha512()
    default: nil
    }
  }

  /// Whether the key is of the kind, and for curves of the size, that the method needs.
  func fits(_ key: OpaquePointer) -> Bool {
    switch family {
    case .hmac: true
    case .rsa, .rsaPSS: EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA
    case .ecdsa:
      EVP_PKEY_get_base_id(key) == EVP_PKEY_EC && EVP_PKEY_get_bits(key) == (hashBits == 512 ? 521 : Int32(hashBits))
    case .ed25519: EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519
    }
  }
}
