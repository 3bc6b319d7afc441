import Primitives

/// A user as a member has found it to be, and the auth revision at that moment.
package struct AuthStamp: Hashable, Sendable {
  package var user: Bytes
  package var revision: UInt64

  package init(user: Bytes, revision: UInt64) {
    self.user = user
    self.revision = revision
  }
}

/// On whose behalf a command is proposed while users count. A command without an author is nobody's then, and is
/// refused if it needs one. While they do not count, commands have no author and no byte for one.
package enum Author: Hashable, Sendable {
  /// What the user may do is decided when the command is applied, on every member alike.
  case user(AuthStamp)
  /// Several users, for each of whom the member has decided under this revision.
  case judged(authRevision: UInt64)
  /// The member itself, which may do everything: for its own work, such as that of a sidecar in the same process.
  case member
}
