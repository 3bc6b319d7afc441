#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What tells one state of a file from another without reading it. Follows symbolic links, so that a link to somewhere
/// else, anywhere on the way (Kubernetes swaps a whole folder by one), is a change.
struct FileStamp: Hashable {
  private var device: UInt64
  private var number: UInt64
  private var size: Int64
  private var modified: Int64
  private var changed: Int64

  /// Nil when there is no such file.
  init?(_ path: String) {
    var found = stat()
    guard stat(path, &found) == 0 else { return nil }
    device = UInt64(truncatingIfNeeded: found.st_dev)
    number = UInt64(truncatingIfNeeded: found.st_ino)
    size = Int64(found.st_size)
    modified = Self.nanoseconds(found.st_mtim)
    changed = Self.nanoseconds(found.st_ctim)
  }

  private static func nanoseconds(_ time: timespec) -> Int64 {
    Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
  }
}

/// Files that belong together (a certificate and its key; authorities and revocation lists) and are used again whenever
/// they have changed. A change counts when two looks in a row have found the same, so nobody reads what is half written.
///
/// What cannot be used is said once, and not again until the files change. Two things are no mistake for a while: a
/// certificate whose key has not come yet, and a file that is just being replaced.
package struct FollowedFiles {
  package enum Outcome: Hashable, Sendable {
    case unchanged
    case used
    /// What was in use before stays in use.
    case refused(String)
  }

  package let paths: [String]
  private let use: @Sendable () throws(PKIError) -> Void
  private let patientLooks: Int
  private var stamps: [FileStamp?]
  private var isNew = false
  /// What is missing, and for how many looks it has been.
  private var wanting: (reason: String, looks: Int)?

  /// The files as they are now count as used.
  /// - Parameters:
  ///   - patientLooks: for how many looks a pair may be incomplete before that is reported.
  ///   - use: reads the files and puts them to use, or leaves everything as it was.
  package init(_ paths: [String], patientLooks: Int, use: @escaping @Sendable () throws(PKIError) -> Void) {
    self.paths = paths
    self.patientLooks = patientLooks
    self.use = use
    stamps = paths.map { FileStamp($0) }
  }

  /// Looks at the files once. Blocks.
  package mutating func look() -> Outcome {
    let seen = paths.map { FileStamp($0) }
    guard seen == stamps else {
      stamps = seen
      isNew = true
      return .unchanged
    }
    guard isNew else { return lookAtWanting() }
    isNew = false
    wanting = nil
    do throws(PKIError) {
      try use()
      return .used
    } catch {
      guard error.mayHealItself else { return .refused("\(error)") }
      wanting = ("\(error)", 0)
      return .unchanged
    }
  }

  private mutating func lookAtWanting() -> Outcome {
    guard let (reason, looks) = wanting else { return .unchanged }
    guard looks + 1 >= patientLooks else {
      wanting = (reason, looks + 1)
      return .unchanged
    }
    wanting = nil
    return .refused(reason)
  }
}

extension PKIError {
  /// The rest of the files may be on its way.
  fileprivate var mayHealItself: Bool {
    switch self {
    case .keyMismatch, .missingFile: true
    default: false
    }
  }
}
