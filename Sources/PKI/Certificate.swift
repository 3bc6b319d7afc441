import CLibcrypto

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// An X.509 certificate. Immutable, so that threads may share it.
package final class Certificate: @unchecked Sendable {
  let pointer: OpaquePointer

  /// Takes over the reference.
  init(owning pointer: OpaquePointer) { self.pointer = pointer }

  deinit { X509_free(pointer) }

  package convenience init(der: [UInt8], source: String = "certificate") throws(PKIError) {
    ERR_clear_error()
    let pointer = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
      var position = buffer.baseAddress
      guard let parsed = d2i_X509(nil, &position, buffer.count) else { return nil }
      guard position == buffer.baseAddress! + buffer.count else {
        X509_free(parsed)
        return nil
      }
      return parsed
    }
    guard let pointer else { throw .malformed(source: source, reason: "not a certificate (\(takeLibraryError()))") }
    self.init(owning: pointer)
  }

  /// All certificates of a PEM text, in order; at least one.
  package static func parse(pem: [UInt8], source: String) throws(PKIError) -> [Certificate] {
    let bio = MemoryBIO(pem)
    var found: [Certificate] = []
    ERR_clear_error()
    while let pointer = PEM_read_bio_X509(bio.pointer, nil, refusePassphrase, nil) {
      found.append(Certificate(owning: pointer))
    }
    // Text without (further) certificates ends with "no start line"; anything else is damage.
    let code = ERR_peek_last_error()
    let isEnd = leasehold_error_library(code) == ERR_LIB_PEM && leasehold_error_reason(code) == PEM_R_NO_START_LINE
    guard isEnd else { throw .malformed(source: source, reason: "a damaged certificate (\(takeLibraryError()))") }
    ERR_clear_error()
    guard !found.isEmpty else { throw .malformed(source: source, reason: "no certificate in it (PEM is expected)") }
    return found
  }

  package static func load(_ path: String) throws(PKIError) -> [Certificate] {
    try parse(pem: Files.read(path), source: path)
  }

  package var der: [UInt8] {
    var buffer: UnsafeMutablePointer<UInt8>?
    let count = i2d_X509(pointer, &buffer)
    guard count > 0, let buffer else { return [] }
    defer { CRYPTO_free(buffer, #file, #line) }
    return Array(UnsafeBufferPointer(start: buffer, count: Int(count)))
  }

  package var pem: [UInt8] {
    let bio = MemoryBIO()
    PEM_write_bio_X509(bio.pointer, pointer)
    return bio.content
  }

  package var subject: String { Self.text(X509_get_subject_name(pointer)) }
  package var issuer: String { Self.text(X509_get_issuer_name(pointer)) }

  /// The last common name of the subject, as etcd's user name is taken from it.
  package var commonName: String? {
    let name = X509_get_subject_name(pointer)
    var index: Int32 = -1
    var last: Int32 = -1
    while true {
      index = X509_NAME_get_index_by_NID(name, NID_commonName, index)
      if index < 0 { break }
      last = index
    }
    guard last >= 0, let value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)) else { return nil }
    var buffer: UnsafeMutablePointer<UInt8>?
    let count = ASN1_STRING_to_UTF8(&buffer, value)
    guard count >= 0, let buffer else { return nil }
    defer { CRYPTO_free(buffer, #file, #line) }
    return String(decoding: UnsafeBufferPointer(start: buffer, count: Int(count)), as: UTF8.self)
  }

  /// Names that the certificate is good for: `dns` and `ip` (as text).
  package var alternativeNames: (dns: [String], ip: [String]) {
    var dns: [String] = []
    var ip: [String] = []
    guard let names = X509_get_ext_d2i(pointer, NID_subject_alt_name, nil, nil).map({ OpaquePointer($0) }) else {
      return (dns, ip)
    }
    defer { GENERAL_NAMES_free(names) }
    for index in 0..<leasehold_names_count(names) {
      var type: Int32 = 0
      guard let value = GENERAL_NAME_get0_value(leasehold_name_at(names, index), &type),
        type == GEN_DNS || type == GEN_IPADD
      else { continue }
      let string = value.assumingMemoryBound(to: ASN1_STRING.self)
      let bytes = Array(
        UnsafeBufferPointer(start: ASN1_STRING_get0_data(string), count: Int(ASN1_STRING_length(string))))
      if type == GEN_DNS { dns.append(String(decoding: bytes, as: UTF8.self)) } else { ip.append(Self.address(bytes)) }
    }
    return (dns, ip)
  }

  /// Seconds since 1970.
  package var notBefore: Int64 { Self.seconds(X509_get0_notBefore(pointer)) }
  package var notAfter: Int64 { Self.seconds(X509_get0_notAfter(pointer)) }

  package var isAuthority: Bool { X509_check_ca(pointer) == 1 }

  package var isSelfIssued: Bool {
    X509_NAME_cmp(X509_get_subject_name(pointer), X509_get_issuer_name(pointer)) == 0
  }

  /// Upper-case hexadecimal, as `openssl x509 -serial` prints it.
  package var serial: String { Self.hexadecimal(X509_get0_serialNumber(pointer)) }

  static func hexadecimal(_ serial: UnsafePointer<ASN1_INTEGER>?) -> String {
    guard let number = ASN1_INTEGER_to_BN(serial, nil) else { return "" }
    defer { BN_free(number) }
    guard let text = BN_bn2hex(number) else { return "" }
    defer { CRYPTO_free(text, #file, #line) }
    return String(cString: text)
  }

  /// SHA-256 over the DER form.
  package var fingerprint: [UInt8] {
    var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var count: UInt32 = 0
    X509_digest(pointer, EVP_sha256(), &digest, &count)
    return Array(digest.prefix(Int(count)))
  }

  static func text(_ name: OpaquePointer?) -> String {
    let bio = MemoryBIO()
    leasehold_print_name(bio.pointer, name)
    return String(decoding: bio.content, as: UTF8.self)
  }

  static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
    var parts = tm()
    guard ASN1_TIME_to_tm(time, &parts) == 1 else { return 0 }
    return Int64(timegm(&parts))
  }

  private static func address(_ bytes: [UInt8]) -> String {
    guard bytes.count == 4 || bytes.count == 16 else { return "invalid" }
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    inet_ntop(bytes.count == 4 ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count))
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// A memory BIO that frees itself.
final class MemoryBIO {
  let pointer: OpaquePointer

  init(_ bytes: [UInt8] = []) {
    guard let bio = BIO_new(BIO_s_mem()) else { fatalError("libcrypto is out of memory") }
    pointer = bio
    if !bytes.isEmpty { BIO_write(bio, bytes, Int32(bytes.count)) }
  }

  deinit { BIO_free(pointer) }

  var content: [UInt8] {
    var start: UnsafeMutablePointer<CChar>?
    let count = leasehold_bio_content(pointer, &start)
    guard count > 0, let start else { return [] }
    return Array(UnsafeRawBufferPointer(start: start, count: Int(count)))
  }
}

/// Stands in for libcrypto's own callback, which would ask at the terminal.
let refusePassphrase: @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 = {
  _, _, _, _ in -1
}
