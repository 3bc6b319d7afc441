import PKI
import Testing

@Suite("Keys, certificates and their files")
struct FilesAndInspectionTests {
  @Test("A key and its certificate are accepted; missing, swapped and damaged files each get their own error")
  func pairs() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let one = try authority.issue(name: "one", purpose: .client)
    let two = try authority.issue(name: "two", purpose: .client)
    let pair = try CertifiedKey.load(certificatePath: one.certificatePath, keyPath: one.keyPath)
    #expect(pair.certificate.commonName == "one")
    #expect(throws: PKIError.keyMismatch(certificate: one.certificatePath, key: two.keyPath)) {
      try CertifiedKey.load(certificatePath: one.certificatePath, keyPath: two.keyPath)
    }
    #expect(throws: PKIError.missingFile(shop.file("none.crt"))) {
      try CertifiedKey.load(certificatePath: shop.file("none.crt"), keyPath: one.keyPath)
    }
    let swapped = #expect(throws: PKIError.self) {
      try CertifiedKey.load(certificatePath: one.keyPath, keyPath: one.certificatePath)
    }
    #expect("\(swapped!)" == "\(one.keyPath): no certificate in it (PEM is expected)")
    let noKey = #expect(throws: PKIError.self) {
      try CertifiedKey.load(certificatePath: one.certificatePath, keyPath: one.certificatePath)
    }
    #expect("\(noKey!)" == "\(one.certificatePath): no private key in it (PEM is expected)")
    try shop.openssl("ec", "-in", one.keyPath, "-aes256", "-passout", "pass:secret", "-out", "locked.key")
    #expect(throws: PKIError.encryptedKey(shop.file("locked.key"))) {
      try CertifiedKey.load(certificatePath: one.certificatePath, keyPath: shop.file("locked.key"))
    }
    #expect(throws: PKIError.self) { try TrustStore.load(caPath: shop.path) }
  }

  @Test("Fuzz: a damaged PEM file is an error, never a crash")
  func damagedPEM() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    try authority.renewRevocationList()
    var state: UInt64 = 42
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(bound))
    }
    for path in [authority.certificatePath, authority.keyPath, authority.revocationListPath] {
      let pem = try shop.read(path)
      for _ in 0..<300 {
        var damaged = pem
        for _ in 0...random(3) { damaged[random(damaged.count)] = UInt8(random(256)) }
        if random(4) == 0 { damaged.removeLast(random(damaged.count)) }
        _ = try? Certificate.parse(pem: damaged, source: "fuzz").map { CertificateDescription($0).text() }
        _ = try? PrivateKey.parse(pem: damaged, source: "fuzz")
        _ = try? RevocationList.parse(pem: damaged, source: "fuzz")
      }
    }
  }

  @Test("Inspection says what openssl says")
  func inspection() throws {
    let shop = try Workshop()
    let authority = try shop.authority("my CA")
    let issued = try authority.issue(
      name: "node1", purpose: .server, subjectAlternativeNames: ["node1.example", "::1"], validDays: 30)
    let found = try CertificateDescription.inspect(path: issued.certificatePath)[0]
    #expect(found.subject == "CN=node1" && found.issuer == "CN=my CA")
    #expect(found.dnsNames == ["node1.example"] && found.ipAddresses == ["::1"])
    #expect(found.uses == [.server])
    let facts = try shop.openssl("x509", "-in", issued.certificatePath, "-noout", "-serial", "-fingerprint", "-sha256")
      .output
    #expect(facts.contains("serial=\(found.serial)\n"))
    #expect(facts.contains("Fingerprint=\(found.fingerprint)"))
    let text = found.text(now: found.notAfter - 29 * day)
    for part in ["names        node1.example, ::1", "purposes     server", "(29 days left)", "fingerprint  sha256 "] {
      #expect(text.contains(part), "\(part)")
    }
    let root = try CertificateDescription.inspect(path: authority.certificatePath)[0]
    #expect(root.uses.contains(.authority))
    #expect(root.text(now: root.notAfter + 1).contains("(expired)"))
    #expect(root.text(now: root.notBefore - 1).contains("(not valid yet)"))
  }

  @Test("A bundle is described certificate by certificate")
  func bundle() throws {
    let shop = try Workshop()
    let first = try shop.authority("first", in: "a")
    let second = try shop.authority("second", in: "b")
    let pem = try shop.read(first.certificatePath) + Array("some text\n".utf8) + shop.read(second.certificatePath)
    #expect(try CertificateDescription.inspect(pem: pem).map(\.subject) == ["CN=first", "CN=second"])
  }
}
