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
  /// Sends a state as a whole, with the raft message that names it and its addressee. `completion` says why the other
  /// member does not have it; nil: it has.
  func sendState(
    _ state: StateMachine, _ message: Message, completion: @escaping @Sendable (_ failure: String?) -> Void)
}

/// Makes the connections of a member whose identity has become known.
package typealias PeerConnector = (MemberIdentity, any PeerReceiver) -> any PeerLink

/// A member that has no others.
package final class NoPeers: PeerLink {
  package init() {}
  package func send(_ messages: [(to: NodeID, message: PeerMessage)]) {}
  package func setMembers(_ members: [ClusterMember], removed: [UInt64]) {}
  package func sendState(
    _ state: StateMachine, _ message: Message, completion: @escaping @Sendable (_ failure: String?) -> Void
  ) { completion("this member has no others") }
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
    _ state: StateMachine, _ message: Message, completion: @escaping @Sendable (_ failure: String?) -> Void
  ) {
    let mark: [UInt8]
    do throws(PeerProtocolError) { mark = try message.encoded() } catch { return completion("\(error)") }
    transport.sendSnapshot(StateSource(state, mark: mark), to: message.to) { result in
      switch result {
      case .success: completion(nil)
      case .failure(let failure): completion(failure.description)
      }
    }
  }
}
