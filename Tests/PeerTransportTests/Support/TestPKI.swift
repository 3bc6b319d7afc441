import Foundation
import PKI
import PeerTransport
import Wire

/// A private authority in a directory of its own, and TLS for members made with it.
final class TestPKI {
  let directory: String
  let authority: CertificateAuthority

  init() throws {
    directory = FileManager.default.temporaryDirectory.path + "/peers-\(UInt32.random(in: 0...UInt32.max))"
    authority = try CertificateAuthority.create(directory: directory, name: "test authority")
    try authority.renewRevocationList()
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  func issue(_ name: String, names: [String] = ["127.0.0.1"]) throws -> CertificateAuthority.Issued {
    try authority.issue(name: name, purpose: .peer, subjectAlternativeNames: names)
  }

  /// TLS as a member has it: trusts this authority and its revocation list as it is now.
  func tls(_ issued: CertificateAuthority.Issued) throws -> PeerTLS {
    let store = try TrustStore.load(caPath: authority.certificatePath, crlPath: authority.revocationListPath)
    let settings = try TLSSettings(
      certificateChain: .file(issued.certificatePath), privateKey: .file(issued.keyPath),
      clientCertificates: .required { question in
        store.verify(chainDER: question.chain, purpose: .client).map { PeerIdentity(commonName: $0.commonName) }
          .mapError { $0 as any Error }
      })
    return PeerTLS(settings: settings) { question in
      store.verify(chainDER: question.chain, purpose: .server, hostName: question.host.map { PeerName($0) })
        .map { PeerIdentity(commonName: $0.commonName) }.mapError { $0 as any Error }
    }
  }

  func tls(_ name: String, names: [String] = ["127.0.0.1"]) throws -> PeerTLS { try tls(try issue(name, names: names)) }
}
