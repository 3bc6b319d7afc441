import Engine
import Storage

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Reads everything that a stopped member has on its disk, and changes nothing but the lock file.
package struct MemberVerification: Sendable {
  package var identity: MemberIdentity?
  package var state: StateVerification.Report
  /// nil when the state's damage leaves open where the log would have to begin.
  package var log: LogInspection?
  /// What a start would refuse, each in one line. Empty: the member is sound.
  package var problems: [String]

  /// Throws when there is nothing to look at, or a process is using it.
  package static func run(dataDirectory path: String) throws(OfflineFailure) -> MemberVerification {
    // Opening a data directory makes what is missing; a mistyped path must not become one.
    guard access("\(path)/member/VERSION", F_OK) == 0 else {
      throw OfflineFailure("\(path) is no data directory of leasehold: it has no member/VERSION")
    }
    let directory = try OfflineFailure.wrap { () throws(StorageError) in try DataDirectory.open(path: path) }
    defer { directory.close() }
    let state = try OfflineFailure.wrap { () throws(StorageError) in
      try StateVerification.verify(directory: directory.statePath)
    }
    var result = MemberVerification(identity: directory.recordedIdentity, state: state, log: nil, problems: [])
    if let problem = state.problem {
      result.problems.append("\(problem)")
      return result
    }
    let base = LogBase(index: state.appliedIndex, term: state.appliedTerm)
    do throws(StorageError) {
      result.log = try LogInspection.run(directory: directory.memberPath, base: base)
    } catch {
      result.problems.append("\(error)")
    }
    return result
  }
}
