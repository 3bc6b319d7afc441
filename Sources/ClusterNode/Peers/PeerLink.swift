import PeerProtocol
import PeerTransport
import Raft
import StateMachine
import Storage

/// How a member reaches the others. Any thread; nothing here waits.
package protocol PeerLink: AnyObject, Sendable {
  /// What cannot be delivered now is dropped: Raft repeats it.
  func send(_ messages: [(to: NodeID, message: PeerMessage)])
  /// The cluster's members from now on, this one among them, and those that have left it.
  func setMembers(_ members: [ClusterMember], removed: [UInt64])
  /// Sends a state as a whole. `completion` says whether the other member has it.
  func sendState(
    _ state: StateMachine, _ mark: StateMark, to peer: NodeID, completion: @escaping @Sendable (Bool) -> Void)
}

/// Makes the connections of a member whose identity has become known.
package typealias PeerConnector = (MemberIdentity, any PeerReceiver) -> any PeerLink

/// A member that has no others.
package final class NoPeers: PeerLink {
  package init() {}
  package func send(_ messages: [(to: NodeID, message: PeerMessage)]) {}
  package func setMembers(_ members: [ClusterMember], removed: [UInt64]) {}
  package func sendState(
    _ state: StateMachine, _ mark: StateMark, to peer: NodeID, completion: @escaping @Sendable (Bool) -> Void
  ) { completion(false) }
}

/// A member's connections over the network.
package final class TransportLink: PeerLink {
  private let transport: PeerTransport

  package init(_ transport: PeerTransport) { self.transport = transport }

  package func send(_ messages: [(to: NodeID, message: PeerMessage)]) { transport.send(messages) }

  package func setMembers(_ members: [ClusterMember], removed: [UInt64]) {
    transport.setPeers(members.map { PeerAddress(id: $0.id, urls: $0.peerURLs) }, removed: Set(removed))
  }

  package func sendState(
    _ state: StateMachine, _ mark: StateMark, to peer: NodeID, completion: @escaping @Sendable (Bool) -> Void
  ) {
    transport.sendSnapshot(StateSource(state, mark), to: peer) { result in
      if case .success = result { completion(true) } else { completion(false) }
    }
  }
}
