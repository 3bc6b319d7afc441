import PKI
import Testing

private func failure(_ result: Result<VerifiedPeer, TrustError>) -> TrustError? {
  if case .failure(let error) = result { return error }
  return nil
}

@Suite("Trust store")
struct TrustStoreTests {
  @Test("Accepts what it should and says who it is")
  func accepts() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let store = try authority.trustStore()
    let peer = try authority.issue(
      name: "node1", purpose: .peer, subjectAlternativeNames: ["node1.example", "127.0.0.1", "::1"])
    let chain = [peer.certificate.der]
    for role in [PeerRole.client, .server] {
      let verified = try store.verify(chainDER: chain, purpose: role).get()
      #expect(verified.commonName == "node1")
      #expect(verified.dnsNames == ["node1.example"])
      #expect(verified.ipAddresses == ["127.0.0.1", "::1"])
    }
    for name in ["node1.example", "NODE1.example", "127.0.0.1", "::1", "0:0:0:0:0:0:0:1"] {
      #expect(throws: Never.self, "\(name)") {
        try store.verify(chainDER: chain, purpose: .server, hostName: PeerName(name)).get()
      }
    }
    // An authority that is sent along does no harm.
    #expect(throws: Never.self) {
      try store.verify(chainDER: chain + [authority.certificate.der], purpose: .server).get()
    }
  }

  @Test("Refuses the wrong name; the common name is none")
  func wrongName() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let store = try authority.trustStore()
    let server = try authority.issue(
      name: "node1", purpose: .server, subjectAlternativeNames: ["a.example", "10.0.0.1"])
    let client = try authority.issue(name: "plain", purpose: .client)
    for name in ["b.example", "node1", "a.example.evil", "10.0.0.2", ".example", "", "*.example", "a.example\0"] {
      let error = failure(store.verify(chainDER: [server.certificate.der], purpose: .server, hostName: PeerName(name)))
      #expect(error == .wrongName(expected: PeerName(name), found: ["a.example", "10.0.0.1"]), "\(name)")
    }
    let error = failure(store.verify(chainDER: [client.certificate.der], purpose: .client, hostName: .dns("plain")))
    #expect(error.map { "\($0)" } == "the certificate is not for plain, but for no name at all")
  }

  @Test("Refuses the wrong purpose")
  func wrongPurpose() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let store = try authority.trustStore()
    let server = try authority.issue(name: "s", purpose: .server, subjectAlternativeNames: ["s"])
    let client = try authority.issue(name: "c", purpose: .client)
    #expect(
      failure(store.verify(chainDER: [server.certificate.der], purpose: .client))
        == .wrongPurpose(subject: "CN=s", needed: .client))
    #expect(
      failure(store.verify(chainDER: [client.certificate.der], purpose: .server))
        == .wrongPurpose(subject: "CN=c", needed: .server))
  }

  @Test("Refuses before the first and after the last day, to the second")
  func dates() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let store = try authority.trustStore()
    let start = currentUnixSeconds() + 5 * day
    let client = try authority.issue(name: "c", purpose: .client, validDays: 10, validFrom: start)
    let chain = [client.certificate.der]
    #expect(failure(store.verify(chainDER: chain, purpose: .client)) == .notYetValid(subject: "CN=c", until: start))
    #expect(
      failure(store.verify(chainDER: chain, purpose: .client, at: start - 1))
        == .notYetValid(subject: "CN=c", until: start))
    #expect(failure(store.verify(chainDER: chain, purpose: .client, at: start + 1)) == nil)
    let end = start + 10 * day
    #expect(failure(store.verify(chainDER: chain, purpose: .client, at: end - 1)) == nil)
    let expired = failure(store.verify(chainDER: chain, purpose: .client, at: end + 1))
    #expect(expired == .expired(subject: "CN=c", since: end))
    #expect("\(expired!)".hasPrefix("certificate CN=c expired 20"))
  }

  @Test("Refuses an authority that it does not know, even one of the same name")
  func unknownAuthority() throws {
    let shop = try Workshop()
    let store = try shop.authority("same", in: "a").trustStore()
    let stranger = try shop.authority("same", in: "b")
    let client = try stranger.issue(name: "c", purpose: .client)
    let error = failure(store.verify(chainDER: [client.certificate.der, stranger.certificate.der], purpose: .client))
    #expect(error == .unknownAuthority(subject: "CN=c", issuer: "CN=same"))
    #expect(failure(store.verify(chainDER: [client.certificate.der], purpose: .client)) == error)
  }

  @Test("Refuses self-signed certificates, nothing, and nonsense")
  func selfSignedAndNonsense() throws {
    let shop = try Workshop()
    let store = try shop.authority().trustStore()
    try shop.openssl(
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "self.key", "-out",
      "self.crt", "-days", "9", "-subj", "/CN=me", "-addext", "subjectAltName=DNS:me")
    let own = try Certificate.load(shop.file("self.crt"))[0]
    #expect(failure(store.verify(chainDER: [own.der], purpose: .server)) == .selfSigned(subject: "CN=me"))
    #expect(failure(store.verify(chainDER: [], purpose: .server)) == .noCertificate)
    for junk: [[UInt8]] in [
      [[]], [[1, 2, 3]], [own.der + [0]], [Array(own.der.dropLast())], Array(repeating: own.der, count: 11),
    ] {
      guard case .malformed = failure(store.verify(chainDER: junk, purpose: .server)) else {
        Issue.record("accepted or misnamed: \(junk)")
        continue
      }
    }
  }

  @Test("A changed byte anywhere in a certificate is never accepted")
  func tampering() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let store = try authority.trustStore()
    let der = try authority.issue(name: "c", purpose: .client).certificate.der
    for offset in der.indices {
      var changed = der
      changed[offset] ^= 1
      #expect(failure(store.verify(chainDER: [changed], purpose: .client)) != nil, "byte \(offset)")
    }
  }

  @Test("Revoked certificates, lists that ran out and missing lists are told apart")
  func revocation() throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let good = try authority.issue(name: "good", purpose: .client)
    let bad = try authority.issue(name: "bad", purpose: .client)
    try authority.revoke(bad.certificate, listValidDays: 30)
    let store = try authority.trustStore(crl: true)
    #expect(failure(store.verify(chainDER: [good.certificate.der], purpose: .client)) == nil)
    #expect(
      failure(store.verify(chainDER: [bad.certificate.der], purpose: .client))
        == .revoked(subject: "CN=bad", serial: bad.certificate.serial))
    let late = failure(
      store.verify(chainDER: [good.certificate.der], purpose: .client, at: currentUnixSeconds() + 31 * day))
    #expect(late == .revocationUnknown(issuer: "CN=test CA", reason: "CRL has expired"))
    // Without a list nothing is known of revocation, and nothing is asked.
    #expect(failure(try authority.trustStore().verify(chainDER: [bad.certificate.der], purpose: .client)) == nil)

    let other = try shop.authority("other", in: "other")
    try other.renewRevocationList()
    let foreignList = try TrustStore(
      caPEM: try shop.read(authority.certificatePath), crlPEM: try shop.read(other.revocationListPath))
    guard case .revocationUnknown = failure(foreignList.verify(chainDER: [good.certificate.der], purpose: .client))
    else {
      Issue.record("a list of another authority was taken")
      return
    }
  }

  @Test("Chains over an intermediate authority verify, from the root or from the intermediate as anchor")
  func intermediate() throws {
    let shop = try Workshop()
    try shop.write(
      "ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n")
    try shop.write("leaf.ext", "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:leaf\n")
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    try shop.run(
      ["req", "-x509"] + ec + ["-keyout", "root.key", "-out", "root.crt", "-days", "9", "-subj", "/CN=root"])
    try shop.run(["req"] + ec + ["-keyout", "mid.key", "-out", "mid.csr", "-subj", "/CN=mid"])
    try shop.run([
      "x509", "-req", "-in", "mid.csr", "-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-days", "9",
      "-extfile", "ca.ext", "-out", "mid.crt",
    ])
    try shop.run(["req"] + ec + ["-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=leaf"])
    try shop.run([
      "x509", "-req", "-in", "leaf.csr", "-CA", "mid.crt", "-CAkey", "mid.key", "-CAcreateserial", "-days", "9",
      "-extfile", "leaf.ext", "-out", "leaf.crt",
    ])
    let leaf = try Certificate.load(shop.file("leaf.crt"))[0].der
    let mid = try Certificate.load(shop.file("mid.crt"))[0].der
    let root = try TrustStore.load(caPath: shop.file("root.crt"))
    let anchor = try TrustStore.load(caPath: shop.file("mid.crt"))
    #expect(failure(root.verify(chainDER: [leaf, mid], purpose: .server, hostName: .dns("leaf"))) == nil)
    #expect(
      failure(root.verify(chainDER: [leaf], purpose: .server))
        == .unknownAuthority(subject: "CN=leaf", issuer: "CN=mid"))
    #expect(failure(anchor.verify(chainDER: [leaf], purpose: .server)) == nil)
    // A leaf may not act as an authority.
    #expect(
      failure(anchor.verify(chainDER: [leaf], purpose: .client)) == .wrongPurpose(subject: "CN=leaf", needed: .client))
  }

  @Test("One store serves many threads at once")
  func concurrency() async throws {
    let shop = try Workshop()
    let authority = try shop.authority()
    let store = try authority.trustStore()
    let good = try authority.issue(name: "c", purpose: .client).certificate.der
    let answers = await withTaskGroup(of: Bool.self) { group in
      for order in 0..<64 {
        let role: PeerRole = order % 2 == 0 ? .client : .server
        group.addTask { (failure(store.verify(chainDER: [good], purpose: role)) == nil) == (role == .client) }
      }
      return await group.reduce(into: [Bool]()) { $0.append($1) }
    }
    #expect(answers.count == 64 && answers.allSatisfy { $0 })
  }

  @Test("Under etcd's rule whoever is on the list is refused, however old it is and whoever signed it")
  func listedRule() throws {
    let shop = try Workshop()
    let (authority, other) = (try shop.authority(), try shop.authority("other CA", in: "other"))
    let revoked = try authority.issue(name: "revoked", purpose: .client)
    let good = try authority.issue(name: "good", purpose: .client)
    let stranger = try other.issue(name: "stranger", purpose: .client)
    let now = currentUnixSeconds()
    try authority.revoke(revoked.certificate, listValidDays: 1, now: now - 10 * day)
    let ca = try shop.read(authority.certificatePath) + shop.read(other.certificatePath)
    let list = try shop.read(authority.revocationListPath)
    let listed = try TrustStore(caPEM: ca, crlPEM: list, rule: .listed)
    #expect(
      failure(listed.verify(chainDER: [revoked.certificate.der], purpose: .client))
        == .revoked(subject: "CN=revoked", serial: revoked.certificate.serial))
    #expect(failure(listed.verify(chainDER: [good.certificate.der], purpose: .client)) == nil)
    #expect(failure(listed.verify(chainDER: [stranger.certificate.der], purpose: .client)) == nil)
    #expect(
      failure(listed.verify(chainDER: [good.certificate.der, revoked.certificate.der], purpose: .client)) != nil,
      "every certificate that is sent is looked at")
    #expect(listed.strictListsEnd == nil)

    let strict = try TrustStore(caPEM: ca, crlPEM: list, rule: .strict)
    for peer in [good, stranger] {
      guard case .revocationUnknown? = failure(strict.verify(chainDER: [peer.certificate.der], purpose: .client)) else {
        Issue.record("a list that has run out, or is another authority's, covers nobody")
        continue
      }
    }
    #expect(try #require(strict.strictListsEnd) < now)
  }

  @Test("A review asks who is trusted, not what time it is")
  func reviews() throws {
    let shop = try Workshop()
    let (authority, other) = (try shop.authority(), try shop.authority("other CA", in: "other"))
    let expired = try authority.issue(
      name: "expired", purpose: .client, validDays: 1, validFrom: currentUnixSeconds() - 5 * day)
    let chain = [expired.certificate.der]
    #expect(failure(try authority.trustStore().verify(chainDER: chain, purpose: .client)) != nil)
    #expect(failure(try authority.trustStore().verify(chainDER: chain, purpose: .client, occasion: .review)) == nil)
    #expect(failure(try other.trustStore().verify(chainDER: chain, purpose: .client, occasion: .review)) != nil)
    try authority.revoke(expired.certificate)
    #expect(
      failure(try authority.trustStore(crl: true).verify(chainDER: chain, purpose: .client, occasion: .review))
        == .revoked(subject: "CN=expired", serial: expired.certificate.serial))
  }

  @Test("What auto-tls makes is kept until it runs out")
  func selfSigned() throws {
    let shop = try Workshop()
    let directory = shop.file("fixtures/peer")
    let now = currentUnixSeconds()
    func prepare(at time: Int64) throws -> Bool {
      try SelfSignedPair.prepare(
        directory: directory, hosts: ["localhost", "127.0.0.1"], purpose: .peer, validYears: 1, now: time)
    }
    #expect(try prepare(at: now))
    #expect(try shop.mode("\(directory)/key.pem") == 0o600)
    let first = try shop.read("\(directory)/cert.pem")
    #expect(try !prepare(at: now + 300 * day))
    #expect(try shop.read("\(directory)/cert.pem") == first)
    #expect(try prepare(at: now + 366 * day))
    let pair = try CertifiedKey.load(certificatePath: "\(directory)/cert.pem", keyPath: "\(directory)/key.pem")
    #expect(pair.certificate.alternativeNames.dns == ["localhost"])
    #expect(pair.certificate.alternativeNames.ip == ["127.0.0.1"])
    let text = try shop.openssl("x509", "-in", "\(directory)/cert.pem", "-noout", "-purpose").output
    #expect(text.contains("SSL client : Yes") && text.contains("SSL server : Yes"))
  }
}
