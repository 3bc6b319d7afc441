import Foundation
import PKI
import Testing

/// A directory that goes away with the test, and the `openssl` command line as an independent judge.
final class Workshop {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "leasehold-pki-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { "\(path)/\(name)" }

  func read(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: name.hasPrefix("/") ? name : file(name))))
  }

  @discardableResult
  func write(_ name: String, _ text: String) throws -> String {
    try Data(text.utf8).write(to: URL(fileURLWithPath: file(name)))
    return file(name)
  }

  func mode(_ path: String) throws -> Int {
    let attributes = try FileManager.default.attributesOfItem(atPath: path)
    return (attributes[.posixPermissions] as? Int) ?? 0
  }

  /// Runs `openssl` in the directory. Output of both streams together.
  @discardableResult
  func openssl(_ arguments: String...) throws -> (isSuccess: Bool, output: String) { try run(arguments) }

  @discardableResult
  func run(_ arguments: [String]) throws -> (isSuccess: Bool, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = arguments
    process.currentDirectoryURL = URL(fileURLWithPath: path)
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus == 0, String(decoding: output, as: UTF8.self))
  }

  func authority(_ name: String = "test CA", in folder: String = "ca") throws -> CertificateAuthority {
    try CertificateAuthority.create(directory: file(folder), name: name)
  }
}

extension CertificateAuthority {
  func trustStore(crl: Bool = false) throws -> TrustStore {
    try TrustStore.load(caPath: certificatePath, crlPath: crl ? revocationListPath : nil)
  }
}

let day: Int64 = 86_400
