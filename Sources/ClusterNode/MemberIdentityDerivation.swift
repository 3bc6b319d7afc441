import Storage

extension MemberIdentity {
  /// A new member's identity, as etcd makes it: from what all members of one cluster agree on, so that everyone computes
  /// the same IDs. The hash differs from etcd's (nobody compares them across implementations); IDs are never 0.
  static func derived(from configuration: NodeConfiguration) -> MemberIdentity {
    let urls = configuration.peerURLs.sorted().joined(separator: ",")
    let member = stableHash("\(urls) \(configuration.clusterToken)")
    return MemberIdentity(
      clusterID: stableHash("cluster \(configuration.clusterToken) \(member)"), memberID: member,
      name: configuration.name)
  }

  /// FNV-1a with 64 bits.
  private static func stableHash(_ text: String) -> UInt64 {
    let hash = text.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01b3 }
    return hash == 0 ? 1 : hash
  }
}
