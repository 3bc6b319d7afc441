import Member
import Primitives
import Raft
import StateMachine
import Storage

extension NodeConfiguration {
  /// Of a member without a past: one of the first, as every member derives it, or who the cluster says it is.
  var newIdentity: MemberIdentity {
    if let joiningAs { return joiningAs }
    guard let own = initialCluster.member(named: name) else {
      preconditionFailure("\(name) is not among the first members")
    }
    return MemberIdentity(clusterID: initialCluster.clusterID, memberID: initialCluster.id(of: own), name: name)
  }

  /// What a member without a past begins with; nil for one that will be sent a state.
  var genesis: StateMachine? { joiningAs == nil ? initialCluster.genesis : nil }
}

extension InitialCluster {
  /// As the new cluster's state lists them. A member tells its client URLs when it starts.
  package var clusterMembers: [ClusterMember] {
    members.map { ClusterMember(id: id(of: $0), name: $0.name, peerURLs: $0.peerURLs) }
  }

  /// All first members vote.
  package var membership: Membership { Membership(voters: members.map(id(of:))) }

  package var clusterState: ClusterState {
    ClusterState(id: clusterID, members: clusterMembers, membershipBytes: membership.encodedBytes)
  }

  /// What each first member begins with.
  package var genesis: StateMachine {
    var machine = StateMachine()
    machine.beginCluster(clusterState)
    return machine
  }
}
