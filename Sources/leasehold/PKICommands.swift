import ArgumentParser
import PKI

struct PKICommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pki", abstract: "A private CA for nodes and clients.",
    subcommands: [Init.self, Issue.self, Revoke.self, Inspect.self])

  struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Make a CA: ca.crt and ca.key. Never overwrites one.")

    @Option(help: "The CA's folder; made when missing.")
    var dir: String
    @Option(help: "The CA's name.")
    var name: String = "Leasehold CA"
    @Option(help: "Days until the CA expires.")
    var days: Int = 3_650

    func run() throws {
      let authority = try CertificateAuthority.create(directory: dir, name: name, validDays: days)
      print("wrote \(authority.certificatePath) and \(authority.keyPath)")
    }
  }

  struct Issue: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Issue a certificate: NAME.crt and NAME.key.",
      discussion: "A server's certificate must name its hosts. --server with --client makes one that serves as both.")

    @Option(help: "The CA's folder.")
    var dir: String
    @Option(help: "The common name, and the name of the files.")
    var name: String
    @Option(help: "A host name or IP address of the server (repeatable).")
    var host: [String] = []
    @Flag(help: "For a server.")
    var server = false
    @Flag(help: "For a client.")
    var client = false
    @Option(help: "Days until it expires.")
    var days: Int = 365
    @Option(help: "Where to write the files (default: the CA's folder).")
    var out: String?

    func validate() throws {
      if !server, !client { throw ValidationError("say what it is for: --server, --client or both") }
    }

    func run() throws {
      let purpose: CertificatePurpose = server && client ? .peer : server ? .server : .client
      let issued = try CertificateAuthority.load(directory: dir).issue(
        name: name, purpose: purpose, subjectAlternativeNames: host, validDays: days, outputDirectory: out)
      print("wrote \(issued.certificatePath) and \(issued.keyPath)")
    }
  }

  struct Revoke: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Put a certificate on the CA's revocation list, ca.crl.",
      discussion: "Without --cert the list is signed anew as it is (or an empty one made), so that it does not run out."
    )

    @Option(help: "The CA's folder.")
    var dir: String
    @Option(help: "The certificate to be revoked.")
    var cert: String?
    @Option(help: "Days for which the list is good.")
    var days: Int = 365

    func run() throws {
      let authority = try CertificateAuthority.load(directory: dir)
      guard let cert else {
        print("wrote \(try authority.renewRevocationList(listValidDays: days))")
        return
      }
      let revoked = try Certificate.load(cert)[0]
      print("wrote \(try authority.revoke(revoked, listValidDays: days)): \(revoked.subject) is revoked")
    }
  }

  struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Say what is in a certificate file.")

    @Argument(help: "A PEM file.")
    var file: String

    func run() throws {
      for description in try CertificateDescription.inspect(path: file) { print(description.text()) }
    }
  }
}
