// What a quorum is, for every decision that needs one: elections, commits, reads, leases and the count of those that a
// leader hears. In a joint membership both majorities must agree (thesis §4.3). A handful of voters: counting again and
// again is cheaper than collecting and sorting.

extension Membership {
  /// Whether those that `holds` is true for suffice.
  package func hasQuorum(_ holds: (NodeID) -> Bool) -> Bool {
    Membership.isMajority(of: voters, holds) && (outgoing.isEmpty || Membership.isMajority(of: outgoing, holds))
  }

  /// Whether a quorum can no longer be had, those that `refuses` is true for being against it.
  package func isBlocked(_ refuses: (NodeID) -> Bool) -> Bool {
    Membership.isBlocking(voters, refuses) || (!outgoing.isEmpty && Membership.isBlocking(outgoing, refuses))
  }

  /// The highest index that a quorum holds, `held` telling how far each member's log is known to be durable.
  package func quorumIndex(_ held: (NodeID) -> LogIndex) -> LogIndex {
    let incoming = Membership.majorityIndex(of: voters, held)
    return outgoing.isEmpty ? incoming : min(incoming, Membership.majorityIndex(of: outgoing, held))
  }

  private static func isMajority(of ids: [NodeID], _ holds: (NodeID) -> Bool) -> Bool {
    var count = 0
    for id in ids where holds(id) { count += 1 }
    return count > ids.count / 2
  }

  private static func isBlocking(_ ids: [NodeID], _ refuses: (NodeID) -> Bool) -> Bool {
    var count = 0
    for id in ids where refuses(id) { count += 1 }
    return ids.count - count <= ids.count / 2
  }

  private static func majorityIndex(of ids: [NodeID], _ held: (NodeID) -> LogIndex) -> LogIndex {
    var best: LogIndex = 0
    for id in ids {
      let candidate = held(id)
      if candidate > best, isMajority(of: ids, { held($0) >= candidate }) { best = candidate }
    }
    return best
  }
}
