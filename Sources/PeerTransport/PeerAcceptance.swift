import NIOCore
import PeerProtocol

/// What a transport decides about a hello.
enum Admission {
  case refused(PeerRefusal)
  /// The answer to `describe`.
  case description([UInt8])
  /// A conversation for the purpose of the hello, counted in `counters`.
  case admitted(any PeerConversation, PeerCounters)
}

/// Waits for the hello of whoever dialled and answers it.
final class AcceptedHandshake: PeerConversation {
  /// Called on the connection's event loop.
  typealias Admit = (_ hello: PeerHello, _ connection: PeerConnection) -> Admission

  private let clusterID: UInt64
  private let memberID: UInt64
  private let admit: Admit
  private let didEnd: (PeerConnectionEnd) -> Void
  private weak var connection: PeerConnection?

  /// - Parameter didEnd: told when the connection ends before anyone was let in.
  init(clusterID: UInt64, memberID: UInt64, admit: @escaping Admit, didEnd: @escaping (PeerConnectionEnd) -> Void) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.admit = admit
    self.didEnd = didEnd
  }

  func began(_ connection: PeerConnection) { self.connection = connection }

  func received(_ frame: PeerFrame) throws(PeerConnectionEnd) {
    guard let connection else { return }
    guard case .hello(let hello) = frame else { throw .misbehaved("something before its hello") }
    switch admit(hello, connection) {
    case .refused(let refusal):
      connection.close(after: .refusal(refusal), .refused(refusal))
    case .description(let bytes):
      connection.close(after: .description(bytes), .released)
    case .admitted(let conversation, let counters):
      let version = PeerVersion.common(with: hello) ?? PeerVersion.oldest
      connection.counters = counters
      connection.conversation = conversation
      connection.establish(for: hello.purpose)
      connection.send(.welcome(PeerWelcome(version: version, clusterID: clusterID, memberID: memberID)))
      conversation.began(connection)
    }
  }

  func ended(_ end: PeerConnectionEnd) { didEnd(end) }
}

/// Takes a peer's messages on a connection that the peer has dialled.
final class MessageInlet: PeerConversation {
  private let sender: UInt64
  private let memberID: UInt64
  private let receiver: any PeerReceiver
  private let counters: PeerCounters
  private let didEnd: (PeerConnectionEnd) -> Void
  private var gathered: [PeerMessage] = []

  init(
    from sender: UInt64, to memberID: UInt64, receiver: any PeerReceiver, counters: PeerCounters,
    didEnd: @escaping (PeerConnectionEnd) -> Void
  ) {
    self.sender = sender
    self.memberID = memberID
    self.receiver = receiver
    self.counters = counters
    self.didEnd = didEnd
  }

  func began(_ connection: PeerConnection) {}

  func received(_ frame: PeerFrame) throws(PeerConnectionEnd) {
    guard case .message(let message) = frame else { throw .misbehaved("something else than a message") }
    if case .raft(let raft) = message, raft.from != sender || raft.to != memberID {
      throw .misbehaved("a raft message from \(hexadecimal(raft.from)) to \(hexadecimal(raft.to))")
    }
    gathered.append(message)
  }

  func receivedAll() {
    guard !gathered.isEmpty else { return }
    counters.messagesReceived.add(gathered.count)
    receiver.received(gathered, from: sender)
    gathered.removeAll(keepingCapacity: true)
  }

  func ended(_ end: PeerConnectionEnd) {
    // What came whole before the end counts.
    receivedAll()
    didEnd(end)
  }
}
