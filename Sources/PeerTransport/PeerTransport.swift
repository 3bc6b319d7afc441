import Logging
import NIOCore
import NIOPosix
import PeerProtocol
import Primitives
import Raft
import Synchronization
import Wire

/// A member's connections to its peers: it dials two to each (one per lane) for what it has to say, and one more for
/// each snapshot that it sends; and it accepts theirs. Open listeners and connections keep it alive until `close`.
///
/// Nothing is promised but the order within a lane while its connection lasts: what is sent to a peer that is not
/// connected, or is above the limit of its queue, is dropped.
package final class PeerTransport: Sendable {
  private struct State {
    var roster = PeerRoster()
    var isClosed = false
  }

  private let configuration: PeerTransportConfiguration
  private let group: any EventLoopGroup
  private let threadPool: NIOThreadPool
  private let receiver: any PeerReceiver
  private let logger: Logger
  private let server: WireServer
  private let dialer: PeerDialer
  private let receptions: SnapshotReceptions
  private let state = Mutex(State())
  private let refused = Atomic<UInt64>(0)

  /// - Parameters:
  ///   - threadPool: where certificates are judged and snapshots are read and written.
  package init(
    _ configuration: PeerTransportConfiguration, receiver: any PeerReceiver, group: any EventLoopGroup,
    threadPool: NIOThreadPool = .singleton, logger: Logger
  ) {
    self.configuration = configuration
    self.group = group
    self.threadPool = threadPool
    self.receiver = receiver
    self.logger = logger
    server = WireServer(group: group, threadPool: threadPool, logger: logger)
    dialer = PeerDialer(tls: configuration.tls, timing: configuration.timing, threadPool: threadPool, logger: logger)
    receptions = SnapshotReceptions(receiver)
  }

  /// Messages to peers that are not (or no longer) there.
  package var messagesToUnknownPeers: UInt64 { refused.value }

  // MARK: Listening

  /// Takes peers' connections on a name or an address and a port, 0 for any.
  /// - Parameter isSecure: with TLS, which must be configured.
  @discardableResult
  package func listen(host: String, port: Int, isSecure: Bool) async throws -> WireServer.Listener {
    guard !isSecure || configuration.tls != nil else {
      throw WireError.tls("listening for peers on \(host):\(port) needs a certificate")
    }
    var limits = WireLimits()
    limits.handshakeTimeout = configuration.timing.handshakeTimeout
    let tls = isSecure ? configuration.tls?.settings : nil
    return try await server.listen(host: host, port: port, limits: limits, tls: tls) { [self] channel, _, _ in
      try accept(channel)
    }
  }

  private func accept(_ channel: any Channel) throws {
    let (address, logger) = (channel.remoteAddress.map { "\($0)" } ?? "?", logger)
    let handshake = AcceptedHandshake(
      clusterID: configuration.clusterID, memberID: configuration.memberID,
      admit: { [self] hello, connection in admit(hello, connection) },
      didEnd: { end in
        guard end != .released else { return }
        logger.warning("peer connection refused", metadata: ["address": "\(address)", "reason": "\(end)"])
      })
    let connection = PeerConnection(
      .accepted, timing: configuration.timing, on: channel.eventLoop, conversation: handshake)
    try channel.pipeline.syncOperations.addHandler(connection)
  }

  /// On the connection's event loop.
  private func admit(_ hello: PeerHello, _ connection: PeerConnection) -> Admission {
    guard PeerVersion.common(with: hello) != nil else {
      return .refused(.unknownVersion(oldest: PeerVersion.oldest, newest: PeerVersion.newest))
    }
    if hello.purpose == .describe { return .description(receiver.describe()) }
    guard hello.clusterID == configuration.clusterID else {
      return .refused(.wrongCluster(actual: configuration.clusterID))
    }
    guard hello.addresseeID == configuration.memberID, hello.senderID != configuration.memberID else {
      return .refused(.wrongMember(actual: configuration.memberID))
    }
    let bound = NIOLoopBound(connection, eventLoop: connection.eventLoop)
    let incoming = IncomingConnection(purpose: hello.purpose) { [eventLoop = connection.eventLoop] end in
      eventLoop.execute { bound.value.close(end) }
    }
    let urls = usable(hello.senderURLs, of: hello.senderID)
    let (entry, isClosed) = state.withLock { state -> (PeerRoster.Entry?, Bool) in
      guard !state.isClosed else { return (nil, true) }
      return (state.roster.admit(hello.senderID, urls, incoming, makeLink: makeLink), false)
    }
    guard !isClosed else { return .refused(.stopping) }
    guard let entry else {
      let isRemoved = state.withLock { $0.roster.removed.contains(hello.senderID) }
      return .refused(isRemoved ? .removed(hello.senderID) : .notAMember(hello.senderID))
    }
    perform(entry.actions)
    // Who has dialled can be dialled.
    entry.link.retryNow()
    return .admitted(converse(hello, entry.number, entry.link), entry.link.counters)
  }

  private func converse(_ hello: PeerHello, _ number: UInt64, _ link: PeerLink) -> any PeerConversation {
    let sender = hello.senderID
    let didEnd = { [self] (end: PeerConnectionEnd) in
      perform(state.withLock { $0.roster.forget(number, of: sender) })
      logger.debug(
        "connection from peer ended",
        metadata: ["peer": "\(hexadecimal(sender))", "purpose": "\(hello.purpose)", "reason": "\(end)"])
    }
    guard hello.purpose == .snapshot else {
      return MessageInlet(
        from: sender, to: configuration.memberID, receiver: receiver, counters: link.counters, didEnd: didEnd)
    }
    return SnapshotDownload(
      from: sender, receptions: receptions, threadPool: threadPool, memory: configuration.timing.snapshotMemory,
      didEnd: didEnd)
  }

  // MARK: Peers

  /// From now on the peers are these; this member itself may be among them. Whoever is no longer there is cut off.
  /// - Parameter removed: members that have left the cluster and are not let in. Others that know the cluster ID are,
  ///   even when this member has not heard of them yet.
  package func setPeers(_ peers: [PeerAddress], removed: Set<UInt64> = []) {
    let addresses = peers.filter { $0.id != configuration.memberID }.map { ($0.id, usable($0.urls, of: $0.id)) }
    let actions = state.withLock { state in
      state.isClosed ? [] : state.roster.set(addresses, removed: removed, makeLink: makeLink)
    }
    perform(actions)
  }

  private func usable(_ texts: [String], of id: UInt64) -> [PeerURL] {
    texts.compactMap { text in
      do throws(PeerURL.Fault) { return try PeerURL(text) } catch {
        logger.error("unusable peer URL", metadata: ["peer": "\(hexadecimal(id))", "url": "\(text)"])
        return nil
      }
    }
  }

  private func makeLink(_ id: UInt64) -> PeerLink {
    let counters = PeerCounters()
    let limits = configuration.limits
    let urgent = surroundings(of: id, .urgent, counters) {}
    let bulk = surroundings(of: id, .bulk, counters) { [receiver] in receiver.disconnected(id) }
    return PeerLink(
      id: id, counters: counters,
      urgent: MessageLane(
        urgent, maxMessages: limits.urgentMessages, maxBytes: limits.urgentBytes, on: group.next()),
      bulk: MessageLane(bulk, maxMessages: limits.bulkMessages, maxBytes: limits.bulkBytes, on: group.next()))
  }

  private func surroundings(
    of id: UInt64, _ purpose: PeerPurpose, _ counters: PeerCounters, lost: @escaping @Sendable () -> Void
  ) -> PeerSurroundings {
    var logger = logger
    logger[metadataKey: "peer"] = "\(hexadecimal(id))"
    logger[metadataKey: "purpose"] = "\(purpose)"
    let hello = PeerHello(
      purpose: purpose, clusterID: configuration.clusterID, senderID: configuration.memberID, addresseeID: id,
      senderURLs: configuration.advertisedURLs)
    return PeerSurroundings(
      dialer: dialer, hello: hello, counters: counters, logger: logger, lost: lost,
      expelled: { [receiver] in receiver.expelled(by: id) })
  }

  /// - Parameter failure: of snapshots to peers that are dropped.
  private func perform(_ actions: [PeerRoster.Action], failure: SnapshotFailure = .unknownPeer) {
    for action in actions {
      switch action {
      case .use(let link, let urls): link.use(urls)
      case .close(let connection): connection.close(.replaced)
      case .drop(let peer):
        peer.link.close()
        peer.upload?.upload.cancel(failure)
        for connection in peer.incoming.values { connection.close(.released) }
      }
    }
  }

  // MARK: Sending

  /// Never blocks; from any thread. Messages of one lane to one peer keep their order when one thread sends them.
  package func send(_ messages: [(to: UInt64, message: PeerMessage)]) {
    let peers = state.withLock { $0.roster.peers }
    for (id, message) in messages {
      guard let link = peers[id]?.link else {
        refused.add(1)
        continue
      }
      do throws(PeerProtocolError) {
        link.lane(message.lane).send(try message.encoded())
      } catch {
        link.counters.messagesDropped.add(1)
        logger.error("\(message.name) cannot be sent", metadata: ["peer": "\(hexadecimal(id))", "reason": "\(error)"])
      }
    }
  }

  /// Brings a snapshot to a peer, in the place of any other that is under way to it.
  /// - Parameter completion: called once, on any thread; must not block. Success: the receiver has it durably.
  package func sendSnapshot(
    _ source: any SnapshotSource, to id: UInt64,
    completion: @escaping @Sendable (Result<Void, SnapshotFailure>) -> Void
  ) {
    let (peer, number, isClosed) = state.withLock { state in
      (state.roster.peers[id], state.roster.nextNumber(), state.isClosed)
    }
    guard let peer else { return completion(.failure(isClosed ? .stopped : .unknownPeer)) }
    let surroundings = surroundings(of: id, .snapshot, peer.link.counters) {}
    let upload = SnapshotUpload(source, to: peer.urls, surroundings, on: group.next()) { [self] result in
      state.withLock { $0.roster.uploadEnded(number, to: id) }
      completion(result)
    }
    switch state.withLock({ $0.roster.setUpload(upload, number: number, to: id) }) {
    case .some(let old):
      old?.cancel(.replaced)
      upload.start()
    case nil:
      upload.cancel(.unknownPeer)
    }
  }

  // MARK: Status and end

  package var status: [PeerStatus] {
    state.withLock { $0.roster.peers }.values.map { peer in
      let (counters, link) = (peer.link.counters, peer.link)
      let dialled = [link.urgent.isConnected, link.bulk.isConnected, peer.upload != nil].count { $0 }
      return PeerStatus(
        id: link.id, isUrgentConnected: link.urgent.isConnected, isBulkConnected: link.bulk.isConnected,
        activeStreams: dialled + peer.incoming.count, bytesSent: counters.bytesSent.value,
        bytesReceived: counters.bytesReceived.value, messagesSent: counters.messagesSent.value,
        messagesReceived: counters.messagesReceived.value, messagesDropped: counters.messagesDropped.value,
        bulkBacklogBytes: link.bulk.backlogBytes, roundTrips: counters.roundTrips.withLock { $0 },
        connectFailures: counters.failures.value)
    }.sorted { $0.id < $1.id }
  }

  /// Stops listening and ends all connections. Snapshots under way fail.
  package func close() async {
    let actions = state.withLock { state in
      state.isClosed = true
      return state.roster.removeAll()
    }
    perform(actions, failure: .stopped)
    await server.stop(grace: .zero)
    let receptions = receptions
    // Fails when the pool has been shut down; then nothing is being received any more.
    _ = try? await threadPool.runIfActive { receptions.close() }
  }
}
