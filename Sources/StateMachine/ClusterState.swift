import Primitives

/// What all members know of their cluster.
package struct ClusterState: Hashable, Sendable {
  /// 0: a state without a cluster, of a member that has yet to join one.
  package internal(set) var id: UInt64 = 0
  package internal(set) var version = ClusterVersion.current
  /// Rising by ID.
  package internal(set) var members: [ClusterMember] = []
  /// IDs that nobody may have again, the latest last; at most `Limits.maxRemovedMembers`.
  package internal(set) var removedMembers: [UInt64] = []
  /// The raft configuration of the last membership entry that is applied, in raft's own coding.
  package internal(set) var membershipBytes: [UInt8] = []

  package init() {}

  /// Of a new cluster.
  package init(id: UInt64, members: [ClusterMember], membershipBytes: [UInt8]) {
    self.id = id
    self.members = members.sorted { $0.id < $1.id }
    self.membershipBytes = membershipBytes
    precondition(zip(self.members, self.members.dropFirst()).allSatisfy { $0.id < $1.id }, "two members of one ID")
  }

  package func member(_ id: UInt64) -> ClusterMember? { index(of: id).map { members[$0] } }

  private func index(of id: UInt64) -> Int? { members.firstIndex { $0.id == id } }

  private func isTaken(_ urls: [String], except id: UInt64?) -> Bool {
    members.contains { member in member.id != id && member.peerURLs.contains(where: urls.contains) }
  }

  /// Why the change cannot be made as things stand, in etcd's order.
  package func refusal(of change: MemberChange) -> MemberRefusal? {
    if removedMembers.contains(change.memberID) { return .memberRemoved }
    let known = member(change.memberID)
    switch change {
    case .add(let member):
      if known != nil || member.id == 0 { return .memberExists }
      if isTaken(member.peerURLs, except: nil) { return .peerURLExists }
      let learners = members.count(where: \.isLearner)
      return member.isLearner && learners >= Limits.maxLearners ? .tooManyLearners : nil
    case .remove, .publish: return known == nil ? .memberNotFound : nil
    case .update(let id, let peerURLs):
      if known == nil { return .memberNotFound }
      return isTaken(peerURLs, except: id) ? .peerURLExists : nil
    case .promote:
      guard let known else { return .memberNotFound }
      return known.isLearner ? nil : .notLearner
    }
  }

  mutating func apply(_ change: MemberChange) throws(MemberRefusal) {
    if let refusal = refusal(of: change) { throw refusal }
    if case .add(let member) = change {
      let added = ClusterMember(id: member.id, peerURLs: member.peerURLs, isLearner: member.isLearner)
      return members.insert(added, at: members.firstIndex { $0.id > member.id } ?? members.count)
    }
    guard let index = index(of: change.memberID) else { throw .memberNotFound }
    switch change {
    case .add: preconditionFailure("a member that is new and known")
    case .remove(let id):
      members.remove(at: index)
      removedMembers.append(id)
      if removedMembers.count > Limits.maxRemovedMembers { removedMembers.removeFirst() }
    case .update(_, let peerURLs): members[index].peerURLs = peerURLs
    case .promote: members[index].isLearner = false
    case .publish(_, let name, let clientURLs):
      members[index].name = name
      members[index].clientURLs = clientURLs
    }
  }
}

extension ClusterState {
  fileprivate mutating func keepOnly(_ id: UInt64) {
    removedMembers += members.map(\.id).filter { $0 != id }
    removedMembers.removeFirst(max(0, removedMembers.count - Limits.maxRemovedMembers))
    members.removeAll { $0.id != id }
    for index in members.indices { members[index].isLearner = false }
  }
}

extension StateMachine {
  /// Index and term that every member of a new cluster begins with, its first members in its state: a log that begins
  /// behind them never has to tell who they were.
  package static let genesisIndex: UInt64 = 1
  package static let genesisTerm: UInt64 = 1

  /// The state that every member of a new cluster begins with, the same on all of them.
  /// - Parameter membershipBytes: the first raft configuration, in raft's own coding.
  package static func genesis(
    clusterID: UInt64, members: [ClusterMember], membershipBytes: [UInt8]
  ) -> StateMachine {
    var machine = StateMachine()
    machine.beginCluster(ClusterState(id: clusterID, members: members, membershipBytes: membershipBytes))
    return machine
  }

  /// Makes the state the genesis of a new cluster, whose log is yet to come. Keys and leases stay, with the time they
  /// have left; the alarms of the cluster that they come from are not its own.
  package mutating func beginCluster(_ cluster: ClusterState) {
    precondition(cluster.id != 0, "a cluster without an ID")
    appliedIndex = Self.genesisIndex
    appliedTerm = Self.genesisTerm
    alarms = []
    self.cluster = cluster
    hash = StateHash()
    mixGenesis()
  }

  /// A cluster of one member takes the place of the one that has lost its quorum for good (etcd's
  /// `--force-new-cluster`): the others are removed. Without an entry: the log says nothing of it.
  package mutating func becomeSoleMember(_ id: UInt64, membershipBytes: [UInt8]) {
    precondition(cluster.member(id) != nil, "member \(id) is not one of the cluster's")
    cluster.keepOnly(id)
    applyMembership(membershipBytes)
  }

  /// The raft configuration that the entry at hand brings. To be called before the entry is applied or skipped.
  package mutating func applyMembership(_ bytes: [UInt8]) {
    cluster.membershipBytes = bytes
    hash.mix(bytes)
  }

  mutating func change(_ change: MemberChange) throws(CommandError) -> CommandResult {
    do throws(MemberRefusal) { try cluster.apply(change) } catch { throw .member(error) }
    hash.mix(change.memberID)
    if let member = cluster.member(change.memberID) { hash.mix(member) }
    return .members(cluster.members, revision: keyspace.revision)
  }

  /// Never falls: members have begun to rely on it.
  mutating func raiseVersion(to version: ClusterVersion) -> CommandResult {
    cluster.version = max(cluster.version, version)
    hash.mix(cluster.version)
    return .clusterVersion(cluster.version, revision: keyspace.revision)
  }
}
