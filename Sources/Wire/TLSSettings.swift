import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

/// Where PEM text comes from.
package enum PEMSource: Sendable {
  case file(String)
  case bytes([UInt8])

  /// For error messages.
  fileprivate var name: String {
    switch self {
    case .file(let path): path
    case .bytes: "(in memory)"
    }
  }
}

package enum TLSProtocolVersion: Sendable {
  case tls12
  case tls13

  fileprivate var forNIOSSL: TLSVersion { self == .tls13 ? .tlsv13 : .tlsv12 }
}

/// TLS for listeners: the server's certificate, replaceable while running, and what it asks of clients. Members show the
/// same certificate when they dial each other. NIOSSL moves the bytes; trust is decided by the check that is passed in,
/// and by nothing else.
package final class TLSSettings: Sendable {
  private struct Material {
    var certificates: [NIOSSLCertificateSource]
    var key: NIOSSLPrivateKeySource
    /// Shared by all connections when clients show no certificates.
    var shared: NIOSSLContext
  }

  package let clientCertificates: ClientCertificates
  /// Who is here by a certificate.
  let guests = TLSGuests()
  private let minimum: TLSProtocolVersion
  private let maximum: TLSProtocolVersion?
  private let cipherSuites: String?
  private let material: Mutex<Material>

  /// - Parameter cipherSuites: TLS 1.2 suites in OpenSSL's notation, colon-separated; nil for the library's choice.
  package init(
    certificateChain: PEMSource, privateKey: PEMSource, clientCertificates: ClientCertificates = .ignored,
    minimumVersion: TLSProtocolVersion = .tls12, maximumVersion: TLSProtocolVersion? = nil,
    cipherSuites: String? = nil
  ) throws(WireError) {
    self.clientCertificates = clientCertificates
    self.minimum = minimumVersion
    self.maximum = maximumVersion
    self.cipherSuites = cipherSuites
    self.material = Mutex(
      try Self.load(certificateChain, privateKey) { (certificates, key) throws(WireError) in
        try Self.makeContext(
          certificates, key, clientCertificates, minimumVersion, maximumVersion, cipherSuites)
      })
  }

  /// New connections use the new certificate; on an error everything stays as it was.
  package func replace(certificateChain: PEMSource, privateKey: PEMSource) throws(WireError) {
    let fresh = try Self.load(certificateChain, privateKey) { (certificates, key) throws(WireError) in
      try Self.makeContext(certificates, key, clientCertificates, minimum, maximum, cipherSuites)
    }
    material.withLock { $0 = fresh }
  }

  /// To be called when the checks have come to trust others than before: connections whose certificate would not be
  /// accepted any more are closed, with a line in the log for each.
  package func judgeAgain(threadPool: NIOThreadPool = .singleton, logger: Logger) {
    guests.judgeAgain(threadPool: threadPool, logger: logger)
  }

  /// Connections that stand by a certificate.
  package var certifiedConnectionCount: Int { guests.count }

  /// The context for one connection.
  ///
  /// A resumed session would skip the verification callback, and with it a CRL that has come since. Tickets are sealed
  /// with a context's own keys, so a context for each connection makes every handshake a full one.
  func context() throws(WireError) -> NIOSSLContext {
    guard clientCertificates.check != nil else { return material.withLock { $0.shared } }
    let (certificates, key) = material.withLock { ($0.certificates, $0.key) }
    return try Self.makeContext(certificates, key, clientCertificates, minimum, maximum, cipherSuites)
  }

  /// The context for one connection that is dialled; a fresh one, so that here, too, no handshake is cut short.
  func clientContext() throws(WireError) -> NIOSSLContext {
    let (certificates, key) = material.withLock { ($0.certificates, $0.key) }
    var configuration = TLSConfiguration.makeClientConfiguration()
    configuration.certificateChain = certificates
    configuration.privateKey = key
    configuration.minimumTLSVersion = minimum.forNIOSSL
    configuration.maximumTLSVersion = maximum?.forNIOSSL
    if let cipherSuites { configuration.cipherSuites = cipherSuites }
    configuration.shutdownTimeout = .seconds(1)
    configuration.trustRoots = .certificates([])
    // The callback decides, about the name, too.
    configuration.certificateVerification = .noHostnameVerification
    do {
      return try NIOSSLContext(configuration: configuration)
    } catch {
      throw .tls("\(error)")
    }
  }

  private static func load(
    _ chain: PEMSource, _ key: PEMSource,
    _ makeContext: ([NIOSSLCertificateSource], NIOSSLPrivateKeySource) throws(WireError) -> NIOSSLContext
  ) throws(WireError) -> Material {
    let certificates: [NIOSSLCertificate]
    do {
      certificates =
        switch chain {
        case .file(let path): try NIOSSLCertificate.fromPEMFile(path)
        case .bytes(let bytes): try NIOSSLCertificate.fromPEMBytes(bytes)
        }
    } catch {
      throw .tls("cannot read the certificate \(chain.name): \(error)")
    }
    guard !certificates.isEmpty else { throw .tls("there is no certificate in \(chain.name)") }
    let privateKey: NIOSSLPrivateKey
    do {
      privateKey =
        switch key {
        case .file(let path): try NIOSSLPrivateKey(file: path, format: .pem)
        case .bytes(let bytes): try NIOSSLPrivateKey(bytes: bytes, format: .pem)
        }
    } catch {
      throw .tls("cannot read the private key \(key.name): \(error)")
    }
    let sources = certificates.map { NIOSSLCertificateSource.certificate($0) }
    do throws(WireError) {
      let context = try makeContext(sources, .privateKey(privateKey))
      return Material(certificates: sources, key: .privateKey(privateKey), shared: context)
    } catch {
      throw .tls("the certificate \(chain.name) and the key \(key.name) cannot be used together: \(error)")
    }
  }

  private static func makeContext(
    _ certificates: [NIOSSLCertificateSource], _ key: NIOSSLPrivateKeySource, _ clients: ClientCertificates,
    _ minimum: TLSProtocolVersion, _ maximum: TLSProtocolVersion?, _ cipherSuites: String?
  ) throws(WireError) -> NIOSSLContext {
    var configuration = TLSConfiguration.makeServerConfiguration(certificateChain: certificates, privateKey: key)
    configuration.minimumTLSVersion = minimum.forNIOSSL
    configuration.maximumTLSVersion = maximum?.forNIOSSL
    if let cipherSuites { configuration.cipherSuites = cipherSuites }
    configuration.applicationProtocols = ["h2", "http/1.1"]
    configuration.shutdownTimeout = .seconds(1)
    // Only makes NIOSSL ask for a certificate; the verification itself is replaced by the callback.
    configuration.trustRoots = .certificates([])
    switch clients {
    case .ignored: configuration.certificateVerification = .none
    case .optional: configuration.certificateVerification = .optionalVerification
    case .required: configuration.certificateVerification = .noHostnameVerification
    }
    do {
      return try NIOSSLContext(configuration: configuration)
    } catch {
      throw .tls("\(error)")
    }
  }
}
