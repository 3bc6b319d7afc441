import Logging
import NIOCore
import NIOPosix
import PeerProtocol
import PeerTransport
import Primitives
import Raft
import Wire

/// What a member's receiver and log have seen.
struct Seen: Sendable {
  var messages: [UInt64: [PeerMessage]] = [:]
  var disconnected: [UInt64] = []
  var expelledBy: [UInt64] = []
  var offers: [SnapshotOffer] = []
  var log: [String] = []

  func logs(_ text: String) -> Bool { log.contains { $0.contains(text) } }
  func urgent(from id: UInt64) -> [UInt64] {
    (messages[id] ?? []).compactMap { if case .beat(let beat) = $0 { beat.appliedIndex } else { nil } }
  }
  func bulk(from id: UInt64) -> [UInt64] {
    (messages[id] ?? []).compactMap {
      if case .forwardRefused(let sequence, _) = $0 { sequence } else { nil }
    }
  }
}

final class Recorder: PeerReceiver {
  let seen = Watched(Seen())
  let sink = Watched(MemorySink.Content())
  /// Why no snapshot is wanted.
  let refusal: SnapshotRefusal?

  init(refusal: SnapshotRefusal? = nil) { self.refusal = refusal }

  func received(_ messages: [PeerMessage], from sender: UInt64) {
    seen.change { $0.messages[sender, default: []] += messages }
  }

  func disconnected(_ peer: UInt64) { seen.change { $0.disconnected.append(peer) } }

  func expelled(by peer: UInt64) { seen.change { $0.expelledBy.append(peer) } }

  func describe() -> [UInt8] { Array("the members".utf8) }

  func snapshotOffered(_ offer: SnapshotOffer, from sender: UInt64) throws(SnapshotRefusal) -> any SnapshotSink {
    seen.change { $0.offers.append(offer) }
    if let refusal { throw refusal }
    return MemorySink(sink)
  }
}

struct RecordingLog: LogHandler {
  let seen: Watched<Seen>
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.debug

  subscript(metadataKey key: String) -> Logger.MetadataValue? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let all = metadata.merging(event.metadata ?? [:]) { $1 }
    seen.change { $0.log.append("\(event.level) \(event.message) \(all)") }
  }
}

/// A transport with its receiver on a loopback port.
struct TestMember: Sendable {
  static let group = MultiThreadedEventLoopGroup.singleton
  /// Enough threads for all tests at once: some block theirs on purpose.
  static let threads: NIOThreadPool = {
    let pool = NIOThreadPool(numberOfThreads: 32)
    pool.start()
    return pool
  }()
  static let clusterID: UInt64 = 0xc1

  let id: UInt64
  let recorder: Recorder
  let transport: PeerTransport
  let port: Int
  let isSecure: Bool

  var seen: Watched<Seen> { recorder.seen }
  /// For what dials on its own.
  var quiet: Logger { Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() } }
  var url: String { "\(isSecure ? "https" : "http")://127.0.0.1:\(port)" }
  var address: PeerAddress { PeerAddress(id: id, urls: [url]) }

  static func start(
    _ id: UInt64, tls: PeerTLS? = nil, port: Int = 0, clusterID: UInt64 = clusterID,
    timing: PeerTiming = .quick, limits: PeerLimits = PeerLimits(), recorder: Recorder = Recorder()
  ) async throws -> TestMember {
    guard port == 0 else {
      return try await start(at: port, id, tls: tls, clusterID: clusterID, timing, limits, recorder)
    }
    // The port must be known to advertise it, and the transport must be there to listen: meanwhile another test may
    // have taken it.
    for _ in 0..<20 {
      do {
        return try await start(at: try await freePort(), id, tls: tls, clusterID: clusterID, timing, limits, recorder)
      } catch let error as WireError {
        guard "\(error)".contains("already in use") else { throw error }
      }
    }
    throw WireError.tls("no free port")
  }

  private static func start(
    at port: Int, _ id: UInt64, tls: PeerTLS?, clusterID: UInt64, _ timing: PeerTiming, _ limits: PeerLimits,
    _ recorder: Recorder
  ) async throws -> TestMember {
    let url = "\(tls == nil ? "http" : "https")://127.0.0.1:\(port)"
    var configuration = PeerTransportConfiguration(
      clusterID: clusterID, memberID: id, advertisedURLs: [url], tls: tls)
    configuration.timing = timing
    configuration.limits = limits
    let logger = Logger(label: "peer") { _ in RecordingLog(seen: recorder.seen) }
    let transport = PeerTransport(configuration, receiver: recorder, group: group, threadPool: threads, logger: logger)
    try await transport.listen(host: "127.0.0.1", port: port, isSecure: tls != nil)
    return TestMember(id: id, recorder: recorder, transport: transport, port: port, isSecure: tls != nil)
  }

  /// A port that was free a moment ago.
  static func freePort() async throws -> Int {
    let channel = try await ServerBootstrap(group: group).bind(host: "127.0.0.1", port: 0).get()
    let port = channel.localAddress!.port!
    try await channel.close().get()
    return port
  }

  func status(of peer: UInt64) -> PeerStatus? { transport.status.first { $0.id == peer } }

  func isConnected(to peer: UInt64) -> Bool {
    status(of: peer).map { $0.isUrgentConnected && $0.isBulkConnected } ?? false
  }

  func sendUrgent(_ number: UInt64, to peer: UInt64) { transport.send([(peer, .urgent(number))]) }
  func sendBulk(_ number: UInt64, to peer: UInt64) { transport.send([(peer, .bulk(number))]) }

  /// Waits until something new that it sends arrives.
  func reaches(_ other: TestMember) async -> Bool {
    let number = UInt64.random(in: 1 << 32 ... .max)
    let id = id
    return await eventually {
      guard isConnected(to: other.id) else { return false }
      sendBulk(number, to: other.id)
      return await other.seen.until(seconds: 1) { $0.bulk(from: id).contains(number) }
    }
  }
}

extension PeerMessage {
  /// Small numbered messages, one for each lane.
  static func urgent(_ number: UInt64) -> PeerMessage {
    .beat(PeerBeat(clock: nil, appliedIndex: number, stateHash: 0, term: 1))
  }
  static func bulk(_ number: UInt64) -> PeerMessage { .forwardRefused(sequence: number, reason: .notLeader) }

  static func append(_ byteCount: Int, from: UInt64, to: UInt64) -> PeerMessage {
    let entry = Entry(index: 1, term: 1, payload: .command([UInt8](repeating: 9, count: byteCount)))
    let request = AppendRequest(previous: EntryID(index: 0, term: 0), entries: [entry], commit: 0)
    return .raft(Message(from: from, to: to, term: 1, body: .appendRequest(request)))
  }
}

extension PeerTiming {
  /// For tests that do not wait for any of them to pass, and those that do.
  static var quick: PeerTiming {
    var timing = PeerTiming()
    timing.minBackoff = .milliseconds(5)
    timing.maxBackoff = .milliseconds(50)
    timing.pingInterval = .milliseconds(50)
    return timing
  }
}
