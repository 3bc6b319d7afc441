/// What the memberships make of this member, kept because every step asks.
struct Standing: Hashable, Sendable {
  /// No other member is known of: there is nobody to ask, to tell, or to keep the log for.
  var isAlone: Bool
  /// Its own voice is a quorum; there may be learners.
  var isSoleQuorum: Bool
  /// And so it is in the membership known to be committed: nobody else can lead. Otherwise one that it answered lately,
  /// and that is about to leave, may still lead and count on that answer (thesis §6.4.1).
  var isSoleCandidate: Bool
  /// Voters campaign. So does one whose removal is in its log but perhaps not committed: the others may not have that
  /// entry, and thereby elect nobody with a log older than this one's (thesis §4.2.2, figure 4.6).
  var mayCampaign: Bool

  init(of id: NodeID, in memberships: MembershipHistory, commit: LogIndex) {
    let latest = memberships.latest
    let settled = memberships.membership(asOf: commit)
    isSoleQuorum = latest.hasQuorum { $0 == id }
    isSoleCandidate = isSoleQuorum && settled.hasQuorum { $0 == id }
    isAlone = latest.members == [id] && settled.members == [id]
    mayCampaign = latest.isVoter(id) || settled.isVoter(id)
  }
}
