import NIOCore
import PeerProtocol
import Primitives

/// The two lanes to one peer, and what is counted about it.
struct PeerLink: Sendable {
  var id: UInt64
  var counters: PeerCounters
  var urgent: MessageLane
  var bulk: MessageLane

  func lane(_ lane: PeerLane) -> MessageLane { lane == .urgent ? urgent : bulk }

  func use(_ urls: [PeerURL]) {
    urgent.use(urls)
    bulk.use(urls)
  }

  func retryNow() {
    urgent.retryNow()
    bulk.retryNow()
  }

  func close() {
    urgent.close()
    bulk.close()
  }
}

/// A connection that a peer has dialled.
struct IncomingConnection: Sendable {
  var purpose: PeerPurpose
  var close: @Sendable (PeerConnectionEnd) -> Void
}

/// Whom a transport knows, and the connections that they have dialled. What follows from a change is handed out as
/// actions, to be carried out without the lock.
struct PeerRoster: Sendable {
  struct Peer: Sendable {
    var link: PeerLink
    var urls: [PeerURL]
    /// Not one of the members that this one has heard of: a cluster grows while a member sleeps, and only who is let in
    /// can tell it. Kept while its connections last.
    var isGuest: Bool
    var incoming: [UInt64: IncomingConnection] = [:]
    /// Under a number of its own.
    var upload: (number: UInt64, upload: SnapshotUpload)?
  }

  enum Action: Sendable {
    case use(PeerLink, [PeerURL])
    case drop(Peer)
    case close(IncomingConnection)
  }

  /// An incoming connection that was let in, and the number under which it is known.
  struct Entry: Sendable {
    var number: UInt64
    var link: PeerLink
    var actions: [Action]
  }

  private(set) var peers: [UInt64: Peer] = [:]
  private(set) var removed: Set<UInt64> = []
  private var lastNumber: UInt64 = 0
  private var guestCount: Int { peers.values.count { $0.isGuest } }

  /// - Parameter makeLink: for a peer that is new.
  mutating func set(
    _ addresses: [(id: UInt64, urls: [PeerURL])], removed: Set<UInt64>, makeLink: (UInt64) -> PeerLink
  ) -> [Action] {
    self.removed = removed
    let wanted = Set(addresses.map(\.id))
    var actions: [Action] = []
    for (id, peer) in peers where !wanted.contains(id) && (!peer.isGuest || removed.contains(id)) {
      peers[id] = nil
      actions.append(.drop(peer))
    }
    for (id, urls) in addresses {
      var peer = peers[id] ?? Peer(link: makeLink(id), urls: [], isGuest: false)
      peer.isGuest = false
      peer.urls = urls
      peers[id] = peer
      actions.append(.use(peer.link, urls))
    }
    return actions
  }

  /// A peer's connection is let in; nil when the sender may not come in.
  mutating func admit(
    _ sender: UInt64, _ urls: [PeerURL], _ connection: IncomingConnection, makeLink: (UInt64) -> PeerLink
  ) -> Entry? {
    var actions: [Action] = []
    if peers[sender] == nil {
      guard !removed.contains(sender), !urls.isEmpty, guestCount < Limits.maxPeerGuests else { return nil }
      let guest = Peer(link: makeLink(sender), urls: urls, isGuest: true)
      peers[sender] = guest
      actions.append(.use(guest.link, urls))
    }
    guard var peer = peers[sender] else { return nil }
    // A lane has one connection: an older one is what is left of a broken network or a former life of the peer.
    for (number, old) in peer.incoming where old.purpose == connection.purpose && old.purpose != .snapshot {
      peer.incoming[number] = nil
      actions.append(.close(old))
    }
    let number = nextNumber()
    peer.incoming[number] = connection
    peers[sender] = peer
    return Entry(number: number, link: peer.link, actions: actions)
  }

  /// The connection has ended.
  mutating func forget(_ number: UInt64, of sender: UInt64) -> [Action] {
    guard var peer = peers[sender], peer.incoming.removeValue(forKey: number) != nil else { return [] }
    guard peer.isGuest, peer.incoming.isEmpty else {
      peers[sender] = peer
      return []
    }
    peers[sender] = nil
    return [.drop(peer)]
  }

  mutating func nextNumber() -> UInt64 {
    lastNumber += 1
    return lastNumber
  }

  /// - Returns: nil when there is no such peer; else the upload that was under way, if any.
  mutating func setUpload(_ upload: SnapshotUpload, number: UInt64, to id: UInt64) -> SnapshotUpload?? {
    guard let peer = peers[id] else { return nil }
    peers[id]?.upload = (number, upload)
    return .some(peer.upload?.upload)
  }

  mutating func uploadEnded(_ number: UInt64, to id: UInt64) {
    if peers[id]?.upload?.number == number { peers[id]?.upload = nil }
  }

  mutating func removeAll() -> [Action] {
    defer { peers = [:] }
    return peers.values.map { .drop($0) }
  }
}
