import CLibcrypto

/// Why keys and certificates could not be made, read or used. Each description is one line for the operator.
package enum PKIError: Error, Hashable, Sendable, CustomStringConvertible {
  case missingFile(String)
  case cannotRead(path: String, reason: String)
  case cannotWrite(path: String, reason: String)
  case alreadyExists(String)
  /// A file (or other source) that does not hold what it should.
  case malformed(source: String, reason: String)
  case encryptedKey(String)
  case keyMismatch(certificate: String, key: String)
  case invalidName(String, reason: String)
  case invalidValidity(String)
  /// A key that does not fit its use.
  case invalidKey(String)
  /// libcrypto refused an operation that should always succeed.
  case library(operation: String, reason: String)

  package var description: String {
    switch self {
    case .missingFile(let path): "file \(path) does not exist"
    case .cannotRead(let path, let reason): "cannot read \(path): \(reason)"
    case .cannotWrite(let path, let reason): "cannot write \(path): \(reason)"
    case .alreadyExists(let path): "\(path) exists already and is not overwritten; choose another place or remove it"
    case .malformed(let source, let reason): "\(source): \(reason)"
    case .encryptedKey(let path):
      "key \(path) is protected by a passphrase; store it without one, readable by its owner only"
    case .keyMismatch(let certificate, let key): "key \(key) does not belong to certificate \(certificate)"
    case .invalidName(let name, let reason): "name \"\(name)\" cannot be certified: \(reason)"
    case .invalidValidity(let reason), .invalidKey(let reason): reason
    case .library(let operation, let reason): "cannot \(operation): \(reason)"
    }
  }
}

/// The oldest error that libcrypto has noted in this thread, as text; clears them all.
func takeLibraryError() -> String {
  let code = ERR_get_error()
  ERR_clear_error()
  guard code != 0, let reason = ERR_reason_error_string(code) else { return "unknown reason" }
  return String(cString: reason)
}

func libraryFailure(_ operation: String) -> PKIError { .library(operation: operation, reason: takeLibraryError()) }
