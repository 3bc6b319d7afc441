#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Why a data directory cannot be used. Each description is one line for the operator.
package enum StorageError: Error, Hashable, Sendable, CustomStringConvertible {
  case io(DiskFailure)
  /// A damaged log. `offset` is in bytes from the start of the file.
  case corruptLog(file: String, offset: Int, reason: String)
  /// A segment is missing: the log does not reach back to where the stored state ends.
  case incompleteLog(directory: String, reason: String)
  /// A damaged state of the storage engine.
  case corruptState(file: String, reason: String)
  /// A snapshot file that is damaged, or none at all. Nothing is lost: the state that it was to replace is there.
  case corruptSnapshot(file: String, reason: String)
  /// A directory or file of another format version.
  case otherVersion(path: String, found: String, supported: String)
  /// A directory that something else has written.
  case foreignDirectory(path: String, reason: String)
  case locked(path: String, process: Int32?)
  case identityMismatch(path: String, field: String, found: String, expected: String)
  case corruptIdentity(file: String, reason: String)

  package var description: String {
    switch self {
    case .io(let failure) where failure.isOutOfSpace:
      "\(failure): free some space (or raise the quota) and start again"
    case .io(let failure):
      "\(failure)"
    case .corruptLog(let file, let offset, let reason):
      "log file \(file) is damaged at byte \(offset): \(reason); \(Self.remedy)"
    case .incompleteLog(let directory, let reason):
      "the log in \(directory) is incomplete: \(reason); \(Self.remedy)"
    case .corruptState(let file, let reason):
      "state file \(file) is damaged: \(reason); \(Self.remedy)"
    case .corruptSnapshot(let file, let reason):
      "snapshot file \(file) is damaged: \(reason)"
    case .otherVersion(let path, let found, let supported):
      "\(path) has format version \(found), this program reads version \(supported): use the program that wrote it"
    case .foreignDirectory(let path, let reason):
      "\(path) is not a data directory of leasehold: \(reason); choose another --data-dir"
    case .locked(let path, let process):
      "data directory \(path) is in use by \(process.map { "process \($0)" } ?? "another process")"
    case .identityMismatch(let path, let field, let found, let expected):
      "data directory \(path) belongs to \(field) \(found), not to \(expected): "
        + "check --name, --data-dir and the cluster's settings"
    case .corruptIdentity(let file, let reason):
      "identity file \(file) is unreadable: \(reason); \(Self.remedy)"
    }
  }

  package static let remedy =
    "check the disk, then restore this member from a snapshot, "
    + "or remove it from the cluster and let it join again with an empty directory"
}

/// A disk that failed under the running log: what is durable is unknown from here on (a second fsync would report
/// success for pages that the kernel has dropped), so the process stops. Recovery reads what really is on the disk.
package func stopProcess(_ failure: DiskFailure, while activity: String) -> Never {
  let advice =
    failure.isOutOfSpace
    ? "the disk is full: free some space and start again" : "check the disk and start again"
  stopProcess("\(failure) (\(activity)); nothing after this is durable; \(advice)")
}

/// A store that turns out to be damaged while it is in use: serving on would spread the damage.
package func stopProcess(_ error: StorageError) -> Never {
  stopProcess("\(error)")
}

/// At once: a trap's backtrace may take a minute, in which peers and clients would go on waiting for this process.
private func stopProcess(_ reason: String) -> Never {
  let line = Array("leasehold stops: \(reason)\n".utf8)
  _ = line.withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
  _exit(exitCodeOfFailedDisk)
}

/// `EX_IOERR` of sysexits.h.
private let exitCodeOfFailedDisk: Int32 = 74
