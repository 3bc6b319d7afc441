import PeerProtocol

/// Whom a transport brings what it hears.
package protocol PeerReceiver: Sendable {
  /// What one connection brought in one turn of its event loop, in order. On that event loop: must not block.
  /// Raft messages name `sender` as their sender and this member as their addressee.
  func received(_ messages: [PeerMessage], from sender: UInt64)
  /// Messages to `peer` (of the bulk lane) have been lost, or may have been: its connection ended, or had more to carry
  /// than it can hold. Once for each turn of an event loop at most. Must not block.
  func disconnected(_ peer: UInt64)
  /// `peer` says that this member has been removed from the cluster. Must not block.
  func expelled(by peer: UInt64)
  /// The answer to `describe`: cluster ID and members, opaque here. Must not block.
  func describe() -> [UInt8]
  /// Someone wants to send a snapshot. On a thread that may block. Throws why it is not wanted. The sink of an earlier
  /// snapshot may still be there: it is abandoned when this call has returned a new one.
  /// - Parameter sender: a member, or one that says it is and whom this member does not know yet.
  func snapshotOffered(_ offer: SnapshotOffer, from sender: UInt64) throws(SnapshotRefusal) -> any SnapshotSink
}

/// Where a snapshot that comes in is kept. Calls come one at a time, on threads that may block.
package protocol SnapshotSink: AnyObject, Sendable {
  /// The next bytes. What was kept when a connection is cut is not sent again.
  func append(_ bytes: [UInt8]) throws(SnapshotRefusal)
  /// The stream begins anew: what was kept is void.
  func restart() throws(SnapshotRefusal)
  /// All is here and its checksum is right. The sender is told of success when this returns, so what was received must
  /// be durable by then.
  func finish() throws(SnapshotRefusal)
  /// The rest will not come. The last call, instead of `finish`, or when that has failed.
  func abandon()
}

/// A snapshot to be sent: a stream of bytes that can be opened again and stays the same.
package protocol SnapshotSource: Sendable {
  /// What it is a snapshot of, as bytes for the receiver. `Message.encoded` serves: a raft message with its mark.
  var mark: [UInt8] { get }
  /// Its size, when that is known before the end.
  var byteCount: UInt64? { get }
  /// On a thread that may block.
  func open(at offset: UInt64) throws -> any SnapshotStream
}

/// Calls come one at a time, on threads that may block.
package protocol SnapshotStream: AnyObject, Sendable {
  /// The next bytes, at most `limit`; none: the end.
  func read(upTo limit: Int) throws -> [UInt8]
}

/// Why a snapshot did not reach its receiver.
package enum SnapshotFailure: Error, Hashable, Sendable, CustomStringConvertible {
  case refused(SnapshotRefusal)
  /// The connection could not be made, or was cut again and again without progress.
  case unreachable(String)
  /// The snapshot could not be read.
  case source(String)
  /// There is no such peer (any more).
  case unknownPeer
  /// Another snapshot to the same peer has taken its place.
  case replaced
  case stopped

  package var description: String {
    switch self {
    case .refused(let refusal): "\(refusal)"
    case .unreachable(let reason): "the peer cannot be reached: \(reason)"
    case .source(let reason): "the snapshot cannot be read: \(reason)"
    case .unknownPeer: "there is no such peer"
    case .replaced: "another snapshot has taken its place"
    case .stopped: "the member is stopping"
    }
  }
}
