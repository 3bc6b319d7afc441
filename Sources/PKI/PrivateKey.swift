import CLibcrypto

/// A private key. Immutable, so that threads may share it.
package final class PrivateKey: @unchecked Sendable {
  let pointer: OpaquePointer

  /// Takes over the reference.
  init(owning pointer: OpaquePointer) { self.pointer = pointer }

  deinit { EVP_PKEY_free(pointer) }

  /// A fresh EC key on P-256.
  static func generate() throws(PKIError) -> PrivateKey {
    guard let key = leasehold_generate_p256() else { throw libraryFailure("generate a key") }
    return PrivateKey(owning: key)
  }

  package static func parse(pem: [UInt8], source: String) throws(PKIError) -> PrivateKey {
    let bio = MemoryBIO(pem)
    ERR_clear_error()
    guard let key = PEM_read_bio_PrivateKey(bio.pointer, nil, refusePassphrase, nil) else {
      let text = String(decoding: pem, as: UTF8.self)
      let reason = takeLibraryError()
      if text.contains("ENCRYPTED") { throw .encryptedKey(source) }
      guard text.contains("PRIVATE KEY-----") else {
        throw .malformed(source: source, reason: "no private key in it (PEM is expected)")
      }
      throw .malformed(source: source, reason: "a damaged private key (\(reason))")
    }
    return PrivateKey(owning: key)
  }

  package static func load(_ path: String) throws(PKIError) -> PrivateKey {
    try parse(pem: Files.read(path), source: path)
  }

  /// PKCS #8, without a passphrase.
  package var pem: [UInt8] {
    let bio = MemoryBIO()
    PEM_write_bio_PKCS8PrivateKey(bio.pointer, pointer, nil, nil, 0, nil, nil)
    return bio.content
  }

  package func matches(_ certificate: Certificate) -> Bool {
    defer { ERR_clear_error() }
    return X509_check_private_key(certificate.pointer, pointer) == 1
  }
}

/// A certificate with its key and whatever intermediate certificates stand behind it in its file.
package struct CertifiedKey: Sendable {
  /// The leaf first.
  package var chain: [Certificate]
  package var key: PrivateKey

  package var certificate: Certificate { chain[0] }

  package var chainPEM: [UInt8] { chain.flatMap(\.pem) }

  /// Reads both files and checks that they belong together.
  package static func load(certificatePath: String, keyPath: String) throws(PKIError) -> CertifiedKey {
    let chain = try Certificate.load(certificatePath)
    let key = try PrivateKey.load(keyPath)
    guard key.matches(chain[0]) else { throw .keyMismatch(certificate: certificatePath, key: keyPath) }
    return CertifiedKey(chain: chain, key: key)
  }
}
