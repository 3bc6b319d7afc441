import CLibcrypto

/// The key that tokens are signed and checked with. Immutable, so that threads may share it.
package final class SigningKey: Sendable {
  private enum Material: Sendable {
    case secret([UInt8])
    /// The public half alone can only check.
    case pair(PrivateKey, isPublicOnly: Bool)
  }

  package let method: SignatureMethod
  private let material: Material

  /// From files, as etcd's `--auth-token jwt,pub-key=…,priv-key=…` names them: for the HMAC methods the private one,
  /// whatever is in it; else PEM, the private key, the public one (or a certificate), or both, which must belong
  /// together.
  package init(_ method: SignatureMethod, publicPath: String?, privatePath: String?) throws(PKIError) {
    self.method = method
    if case .hmac = method.family {
      guard let privatePath else { throw .invalidKey("sign-method=\(method.name) needs priv-key") }
      let secret = try Files.read(privatePath)
      guard !secret.isEmpty else { throw .malformed(source: privatePath, reason: "an empty key") }
      material = .secret(secret)
      return
    }
    let privateKey = try privatePath.map { path throws(PKIError) in try PrivateKey.load(path) }
    let publicKey = try publicPath.map { path throws(PKIError) in try Self.loadPublic(path) }
    guard let key = privateKey ?? publicKey else {
      throw .invalidKey("sign-method=\(method.name) needs priv-key, or pub-key to check tokens only")
    }
    if let privateKey, let publicKey, EVP_PKEY_eq(privateKey.pointer, publicKey.pointer) != 1 {
      throw .keyMismatch(certificate: publicPath ?? "", key: privatePath ?? "")
    }
    guard method.fits(key.pointer) else {
      throw .invalidKey("\(privatePath ?? publicPath ?? "") is no key for sign-method=\(method.name)")
    }
    material = .pair(key, isPublicOnly: privateKey == nil)
  }

  private static func loadPublic(_ path: String) throws(PKIError) -> PrivateKey {
    let pem = try Files.read(path)
    let bio = MemoryBIO(pem)
    defer { ERR_clear_error() }
    if let key = PEM_read_bio_PUBKEY(bio.pointer, nil, nil, nil) { return PrivateKey(owning: key) }
    let again = MemoryBIO(pem)
    if let certificate = PEM_read_bio_X509(again.pointer, nil, nil, nil) {
      defer { X509_free(certificate) }
      if let key = X509_get_pubkey(certificate) { return PrivateKey(owning: key) }
    }
    throw .malformed(source: path, reason: "no public key in it (PEM is expected)")
  }

  /// nil where there is only the public half.
  package func sign(_ message: [UInt8]) -> [UInt8]? {
    defer { ERR_clear_error() }
    switch material {
    case .secret(let secret): return mac(of: message, secret)
    case .pair(_, isPublicOnly: true): return nil
    case .pair(let key, isPublicOnly: false): return signature(of: message, key.pointer).flatMap(shortened)
    }
  }

  package func isValid(_ signature: [UInt8], of message: [UInt8]) -> Bool {
    defer { ERR_clear_error() }
    switch material {
    case .secret(let secret): return mac(of: message, secret).map { isEqual($0, signature) } ?? false
    case .pair(let key, _):
      guard let signature = lengthened(signature), let context = EVP_MD_CTX_new() else { return false }
      defer { EVP_MD_CTX_free(context) }
      var parameters: OpaquePointer?
      guard EVP_DigestVerifyInit(context, &parameters, method.digest, nil, key.pointer) == 1,
        pad(parameters, saltLength: LEASEHOLD_PSS_SALT_AUTO)
      else { return false }
      return EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
    }
  }

  private func mac(of message: [UInt8], _ secret: [UInt8]) -> [UInt8]? {
    guard let key = EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, nil, secret, secret.count) else { return nil }
    defer { EVP_PKEY_free(key) }
    return signature(of: message, key)
  }

  private func signature(of message: [UInt8], _ key: OpaquePointer) -> [UInt8]? {
    guard let context = EVP_MD_CTX_new() else { return nil }
    defer { EVP_MD_CTX_free(context) }
    var parameters: OpaquePointer?
    var count = 0
    guard EVP_DigestSignInit(context, &parameters, method.digest, nil, key) == 1,
      pad(parameters, saltLength: LEASEHOLD_PSS_SALT_OF_HASH),
      EVP_DigestSign(context, nil, &count, message, message.count) == 1
    else { return nil }
    var signature = [UInt8](repeating: 0, count: count)
    guard EVP_DigestSign(context, &signature, &count, message, message.count) == 1 else { return nil }
    return Array(signature[..<count])
  }

  private func pad(_ parameters: OpaquePointer?, saltLength: Int32) -> Bool {
    guard case .rsaPSS = method.family else { return true }
    return EVP_PKEY_CTX_set_rsa_padding(parameters, LEASEHOLD_PSS_PADDING) == 1
      && EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, saltLength) == 1
  }

  // MARK: ECDSA: libcrypto's signatures are DER, those of tokens two numbers of fixed size (RFC 7518, §3.4)

  private func shortened(_ signature: [UInt8]) -> [UInt8]? {
    guard case .ecdsa(let halfBytes) = method.family else { return signature }
    return signature.withUnsafeBufferPointer { bytes -> [UInt8]? in
      var position = bytes.baseAddress
      guard let pair = d2i_ECDSA_SIG(nil, &position, bytes.count) else { return nil }
      defer { ECDSA_SIG_free(pair) }
      var short = [UInt8](repeating: 0, count: 2 * halfBytes)
      let made = short.withUnsafeMutableBufferPointer { short in
        BN_bn2binpad(ECDSA_SIG_get0_r(pair), short.baseAddress, Int32(halfBytes)) == Int32(halfBytes)
          && BN_bn2binpad(ECDSA_SIG_get0_s(pair), short.baseAddress! + halfBytes, Int32(halfBytes)) == Int32(halfBytes)
      }
      return made ? short : nil
    }
  }

  private func lengthened(_ signature: [UInt8]) -> [UInt8]? {
    guard case .ecdsa(let halfBytes) = method.family else { return signature }
    guard signature.count == 2 * halfBytes, let pair = ECDSA_SIG_new() else { return nil }
    defer { ECDSA_SIG_free(pair) }
    let halves = signature.withUnsafeBufferPointer { bytes in
      (
        BN_bin2bn(bytes.baseAddress, Int32(halfBytes), nil),
        BN_bin2bn(bytes.baseAddress! + halfBytes, Int32(halfBytes), nil)
      )
    }
    guard ECDSA_SIG_set0(pair, halves.0, halves.1) == 1 else {
      BN_free(halves.0)
      BN_free(halves.1)
      return nil
    }
    var der: UnsafeMutablePointer<UInt8>?
    let count = i2d_ECDSA_SIG(pair, &der)
    guard count > 0, let der else { return nil }
    defer { leasehold_free(der) }
    return Array(UnsafeBufferPointer(start: der, count: Int(count)))
  }
}
