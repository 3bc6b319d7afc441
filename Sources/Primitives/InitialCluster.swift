/// Whom a new cluster begins with: every member is started with the same names, peer URLs and token, so every member
/// derives the same IDs from them without asking another.
package struct InitialCluster: Hashable, Sendable {
  package struct Member: Hashable, Sendable {
    package var name: String
    /// Sorted.
    package var peerURLs: [String]

    package init(name: String, peerURLs: [String]) {
      self.name = name
      self.peerURLs = peerURLs.sorted()
    }
  }

  package var token: String
  /// Sorted by name.
  package var members: [Member]

  package init(token: String, members: [Member]) {
    self.token = token
    self.members = members.sorted { $0.name < $1.name }
  }

  package func member(named name: String) -> Member? { members.first { $0.name == name } }

  /// Of one of the first members. Never 0.
  package func id(of member: Member) -> UInt64 { Self.memberID(peerURLs: member.peerURLs, token: token) }

  /// Of the cluster that begins with these members: their order and their names do not count. Never 0.
  package var clusterID: UInt64 {
    var writer = ByteWriter()
    writer.writeText("cluster")
    writer.writeText(token)
    for id in members.map(id(of:)).sorted() { writer.writeFixed(id) }
    return Self.id(writer)
  }

  /// etcd's inputs (`computeMemberId`) under another hash: nobody compares IDs across implementations.
  /// - Parameter addedAtSeconds: since 1970, of a member that is added to a running cluster: one that comes back under the
  ///   URLs of a removed member is somebody else. nil for a first member.
  package static func memberID(peerURLs: [String], token: String, addedAtSeconds: Int64? = nil) -> UInt64 {
    var writer = ByteWriter()
    writer.writeText("member")
    for url in peerURLs.sorted() { writer.writeText(url) }
    writer.writeText(token)
    if let addedAtSeconds { writer.writeSigned(addedAtSeconds) }
    return id(writer)
  }

  private static func id(_ input: ByteWriter) -> UInt64 {
    var hash = SHA256()
    hash.update(input.bytes[...])
    let id = hash.finish().prefix(8).reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    return id == 0 ? 1 : id
  }
}
