/// What a member is, as the outside sees it.
package enum Role: Hashable, Sendable {
  /// `leader` is nil until one is heard of in this term.
  case follower(leader: NodeID?)
  /// Asks whether it would win (thesis §9.6).
  case preCandidate
  case candidate
  case leader
}

/// What a member is, with all that it knows only while it is that.
enum RoleState: Sendable {
  case follower(Following)
  case preCandidate(Ballot)
  case candidate(Ballot)
  case leader(Leadership)

  /// The leader's book-keeping, changed in place. Traps when this member does not lead.
  var leadership: Leadership {
    get {
      guard case .leader(let leadership) = self else { preconditionFailure("asked a member to lead that does not") }
      return leadership
    }
    _modify {
      guard case .leader(var taken) = self else { preconditionFailure("asked a member to lead that does not") }
      // Without a second owner the arrays inside are changed where they are instead of being copied.
      self = .follower(Following())
      defer { self = .leader(taken) }
      yield &taken
    }
  }

  var isLeader: Bool {
    if case .leader = self { true } else { false }
  }

  /// When a leader was last heard, of a follower.
  var contact: Instant? {
    if case .follower(let following) = self { following.contact } else { nil }
  }

  var isFollower: Bool {
    if case .follower = self { true } else { false }
  }
}

struct Following: Sendable {
  var leader: NodeID?
  /// When a leader was last heard.
  var contact: Instant?
  var reads = ForwardedReads()
}

/// The answers to one campaign, this member's own included.
struct Ballot: Sendable {
  enum Outcome { case won, lost, open }

  private var granted: Set<NodeID>
  private var refused: Set<NodeID> = []

  init(candidate: NodeID) { granted = [candidate] }

  /// A voter's first answer counts.
  mutating func record(_ voter: NodeID, isGranted: Bool) {
    guard !granted.contains(voter), !refused.contains(voter) else { return }
    if isGranted { granted.insert(voter) } else { refused.insert(voter) }
  }

  func outcome(in membership: Membership) -> Outcome {
    if membership.hasQuorum(granted.contains) { return .won }
    return membership.isBlocked(refused.contains) ? .lost : .open
  }
}

/// What only a leader keeps.
struct Leadership: Sendable {
  /// The index of the empty entry of this term: once committed, the leader knows what is committed (thesis §6.4).
  var firstIndex: LogIndex
  /// Elected by the own voice alone, before term and vote were durable. Nothing may leave until they are, not even an
  /// answer that tells the term: after a crash this term may be led again, with other entries.
  var isUnheard: Bool
  /// The other members of the membership in force and of the one committed last, ascending by id: those that are being
  /// removed are told of it.
  var peers: [Peer]
  var reads = ReadQueue()
  var transfer: Transfer?
  /// Somebody was asked to campaign in spite of this leader: its lease is worth nothing for the rest of the term.
  var hasInvitedSuccessor = false
  var heartbeatDeadline: Instant
  /// When the leader next counts whom it has heard (thesis §6.2).
  var quorumDeadline: Instant

  func slot(of peer: NodeID) -> Int? { peers.firstIndex { $0.id == peer } }

  func match(of id: NodeID) -> LogIndex { slot(of: id).map { peers[$0].match } ?? 0 }

  func peer(_ id: NodeID) -> Peer? { slot(of: id).map { peers[$0] } }
}
