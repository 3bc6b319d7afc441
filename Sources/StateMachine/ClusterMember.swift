import Primitives

/// One member of the cluster, as all members know it.
package struct ClusterMember: Hashable, Sendable {
  /// Never 0, and never given again once it has been removed.
  package var id: UInt64
  /// Empty until the member has started for the first time.
  package var name: String
  package var peerURLs: [String]
  package var clientURLs: [String]
  package var isLearner: Bool

  package init(
    id: UInt64, name: String = "", peerURLs: [String], clientURLs: [String] = [], isLearner: Bool = false
  ) {
    self.id = id
    self.name = name
    self.peerURLs = peerURLs
    self.clientURLs = clientURLs
    self.isLearner = isLearner
  }

  /// etcd's measure: a member that has started has told its name.
  package var hasStarted: Bool { !name.isEmpty }
}

/// A change of the members, as an entry carries it.
///
/// `add`, `remove` and `promote` travel in the entry that brings the new raft configuration, which is in force before it
/// is applied: whoever proposes one asks `ClusterState.refusal` first, and has one change at most under way, `update`
/// included. Then none of them is refused at apply.
package enum MemberChange: Hashable, Sendable {
  /// A new member without a name and without client URLs.
  case add(ClusterMember)
  case remove(id: UInt64)
  case update(id: UInt64, peerURLs: [String])
  /// A learner becomes a voter.
  case promote(id: UInt64)
  /// What each member says of itself when it has started.
  case publish(id: UInt64, name: String, clientURLs: [String])

  package var memberID: UInt64 {
    switch self {
    case .add(let member): member.id
    case .remove(let id), .update(let id, _), .promote(let id), .publish(let id, _, _): id
    }
  }
}

/// etcd's refusals (`RaftCluster.ValidateConfigurationChange`).
package enum MemberRefusal: Error, Hashable, Sendable {
  case memberExists
  case memberNotFound
  /// The ID was a member's that has been removed.
  case memberRemoved
  case peerURLExists
  case notLearner
  case tooManyLearners
}

/// The version of etcd's API that all members speak, as clients read it.
package struct ClusterVersion: Hashable, Comparable, Sendable {
  package var major: UInt32
  package var minor: UInt32

  package init(major: UInt32, minor: UInt32) {
    self.major = major
    self.minor = minor
  }

  /// Of this build.
  package static let current = ClusterVersion(major: 3, minor: 5)

  package static func < (left: ClusterVersion, right: ClusterVersion) -> Bool {
    (left.major, left.minor) < (right.major, right.minor)
  }
}
