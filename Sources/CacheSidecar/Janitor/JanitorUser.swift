#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A janitor runs as the owner of the cache's directory and as nobody else: it can then delete what the cache could
/// have deleted, and no more.
package enum JanitorUser {
  package enum Decision: Hashable, Sendable {
    case runs
    /// Root becomes the owner.
    case becomes(user: UInt32, group: UInt32)
    case refuses(String)
  }

  package static func decide(path: String, owner: UInt32, group: UInt32, effectiveUser: UInt32) -> Decision {
    if owner == effectiveUser { return .runs }
    if effectiveUser == 0 { return .becomes(user: owner, group: group) }
    return .refuses(
      "\(path) belongs to \(name(owner)), but this runs as \(name(effectiveUser)): run the janitor as \(name(owner))")
  }

  /// Checks, and gives root's rights up for good where it must. Before any thread is started.
  package static func assume(ownerOf path: String) throws(JanitorError) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw .directory(path, describe(errno)) }
    switch decide(path: path, owner: status.st_uid, group: status.st_gid, effectiveUser: geteuid()) {
    case .runs: return
    case .refuses(let reason): throw .user(reason)
    case .becomes(let user, let group):
      // The owner's groups open the event socket; without an entry for it there are none.
      let hasGroups = getpwuid(user).map { initgroups($0.pointee.pw_name, group) } ?? setgroups(0, nil)
      guard hasGroups == 0, setgid(group) == 0, setuid(user) == 0, setuid(0) != 0 else {
        throw .user("cannot become \(name(user)), the owner of \(path): \(describe(errno))")
      }
    }
  }

  private static func name(_ user: UInt32) -> String {
    guard let entry = getpwuid(user) else { return "user \(user)" }
    return String(cString: entry.pointee.pw_name)
  }
}
