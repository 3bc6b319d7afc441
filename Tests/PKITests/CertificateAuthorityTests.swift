import PKI
import Testing

@Suite("Certificate authority")
struct CertificateAuthorityTests {
  @Test("Makes private files once and overwrites nothing")
  func create() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    #expect(try shop.mode(authority.keyPath) == 0o600)
    #expect(try shop.mode(authority.certificatePath) == 0o644)
    let before = try shop.read(authority.keyPath)
    #expect(throws: PKIError.alreadyExists(authority.certificatePath)) { try shop.authority() }
    #expect(try shop.read(authority.keyPath) == before)

    _ = try authority.issue(name: "node1", purpose: .peer, subjectAlternativeNames: ["localhost"])
    #expect(try shop.mode(shop.file("ca/node1.key")) == 0o600)
    #expect(throws: PKIError.alreadyExists(shop.file("ca/node1.crt"))) {
      try authority.issue(name: "node1", purpose: .peer, subjectAlternativeNames: ["localhost"])
    }
  }

  @Test("A loaded authority issues certificates that the first one's trust store accepts")
  func load() throws {
    let shop = try Workshop()
    let store = try shop.authority().trustStore()
    let issued = try CertificateAuthority.load(directory: shop.file("ca")).issue(name: "me", purpose: .client)
    #expect(throws: Never.self) { try store.verify(chainDER: [issued.certificate.der], purpose: .client).get() }
  }

  @Test("openssl verifies what was issued, for its purpose, name and address only")
  func opensslVerifies() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let names = ["node1.example", "*.wild.example", "127.0.0.1", "::1"]
    let server = try authority.issue(name: "server", purpose: .server, subjectAlternativeNames: names)
    let client = try authority.issue(name: "client", purpose: .client)
    let peer = try authority.issue(name: "peer", purpose: .peer, subjectAlternativeNames: ["peer"])
    func verify(_ purpose: String, _ issued: CertificateAuthority.Issued, _ more: String...) throws -> Bool {
      let fixed = ["verify", "-x509_strict", "-CAfile", authority.certificatePath, "-purpose", purpose]
      return try shop.run(fixed + more + [issued.certificatePath]).isSuccess
    }
    #expect(try verify("sslserver", server))
    #expect(try verify("sslserver", server, "-verify_hostname", "node1.example"))
    #expect(try verify("sslserver", server, "-verify_hostname", "a.wild.example"))
    #expect(try verify("sslserver", server, "-verify_ip", "127.0.0.1"))
    #expect(try verify("sslserver", server, "-verify_ip", "::1"))
    #expect(try !verify("sslserver", server, "-verify_hostname", "node2.example"))
    #expect(try !verify("sslclient", server))
    #expect(try verify("sslclient", client))
    #expect(try !verify("sslserver", client))
    #expect(try verify("sslclient", peer))
    #expect(try verify("sslserver", peer))
  }

  @Test("openssl shows the extensions that RFC 5280 asks for")
  func extensions() throws {
    let shop = try Workshop()
    let authority = try shop.authority("my CA")
    let issued = try authority.issue(name: "node1", purpose: .peer, subjectAlternativeNames: ["node1", "10.0.0.1"])
    let root = try shop.openssl("x509", "-in", authority.certificatePath, "-noout", "-text").output
    for part in [
      "Issuer: CN = my CA", "Subject: CN = my CA", "CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign",
      "Basic Constraints: critical", "Key Usage: critical", "Subject Key Identifier", "ecdsa-with-SHA256",
      "NIST CURVE: P-256",
      "Version: 3",
    ] { #expect(root.contains(part), "\(part)") }
    let leaf = try shop.openssl("x509", "-in", issued.certificatePath, "-noout", "-text").output
    for part in [
      "Subject: CN = node1", "CA:FALSE", "Digital Signature",
      "TLS Web Server Authentication, TLS Web Client Authentication",
      "DNS:node1, IP Address:10.0.0.1", "Subject Key Identifier", "Authority Key Identifier",
    ] { #expect(leaf.contains(part), "\(part)") }
  }

  @Test("Serial numbers are long and differ")
  func serials() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let serials = try (0..<5).map { try authority.issue(name: "c\($0)", purpose: .client).certificate.serial }
    #expect(Set(serials).count == 5)
    #expect(serials.allSatisfy { $0.count == 32 })
  }

  @Test("Names that could not be certified, or would say more than they seem to, are refused")
  func badNames() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    for name in ["", "a/b", "../x", ".hidden", "-rf", "ca", "ä", String(repeating: "n", count: 65)] {
      #expect(throws: PKIError.self, "\(name)") { try authority.issue(name: name, purpose: .client) }
    }
    for san in ["a,DNS:evil.example", "", "a..b", "-a", "*", "*.com", "a b", "dirName:x", "1.2.3.4/8", "x:y"] {
      #expect(throws: PKIError.self, "\(san)") {
        try authority.issue(name: "ok", purpose: .server, subjectAlternativeNames: [san])
      }
    }
    #expect(throws: PKIError.self) { try authority.issue(name: "ok", purpose: .server) }
  }

  @Test("A certificate does not outlive its authority")
  func validity() throws {
    let shop = try Workshop()
    let authority = try CertificateAuthority.create(directory: shop.file("short"), name: "short", validDays: 10)
    #expect(throws: PKIError.self) { try authority.issue(name: "a", purpose: .client, validDays: 11) }
    #expect(throws: PKIError.self) { try authority.issue(name: "a", purpose: .client, validDays: 0) }
    _ = try authority.issue(name: "a", purpose: .client, validDays: 9)
  }

  @Test("openssl reads the revocation list, and it keeps what was revoked before")
  func revocationList() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let first = try authority.issue(name: "first", purpose: .client)
    let second = try authority.issue(name: "second", purpose: .client)
    try authority.revoke(first.certificate)
    try authority.revoke(second.certificate)
    try authority.revoke(second.certificate)
    #expect(try RevocationList.load(authority.revocationListPath)[0].count == 2)
    let text = try shop.openssl(
      "crl", "-in", authority.revocationListPath, "-noout", "-text", "-CAfile", authority.certificatePath)
    #expect(text.output.contains("verify OK"))
    #expect(text.output.contains(first.certificate.serial) && text.output.contains(second.certificate.serial))
    let stranger = try shop.authority("another", in: "other").issue(name: "x", purpose: .client)
    #expect(throws: PKIError.self) { try authority.revoke(stranger.certificate) }
  }
}
