import NIOCore
import Primitives
import StateMachine
import Synchronization
import Wire

/// The keepalives of one event loop. All that arrive in one turn, from whatever streams, become one command.
///
/// Bound to its event loop.
final class LeaseRenewalBatch<Node: NodeHandle>: @unchecked Sendable {
  /// Leases that one command renews at most.
  private static var maxLeases: Int { 65_536 }

  private let context: ServiceContext<Node>
  private let eventLoop: any EventLoop
  private var waiting: [(id: LeaseID, stream: LeaseKeepAliveStream<Node>)] = []
  /// Under which the waiting ones were judged: the oldest; nil while users do not count.
  private var judgedUnder: UInt64?

  init(_ context: ServiceContext<Node>, on eventLoop: any EventLoop) {
    self.context = context
    self.eventLoop = eventLoop
  }

  /// - Parameter judgedUnder: the auth revision under which the stream's caller may renew the lease; nil when users do
  ///   not count.
  func add(_ id: LeaseID, from stream: LeaseKeepAliveStream<Node>, judgedUnder revision: UInt64?) {
    waiting.append((id, stream))
    if let revision { judgedUnder = min(judgedUnder ?? revision, revision) }
    if waiting.count == 1 {
      // Runs when everything that this turn has read has been handled.
      eventLoop.execute { self.propose() }
    } else if waiting.count >= Self.maxLeases {
      propose()
    }
  }

  private func propose() {
    guard !waiting.isEmpty else { return }
    let batch = waiting
    waiting = []
    var command = Command.leaseRenew(ids: batch.map(\.id))
    if let judgedUnder { command = .authored(.judged(authRevision: judgedUnder), command) }
    judgedUnder = nil
    // Taken before the renewal: a client must never see a lease kept alive at a revision at which it was gone.
    let header = context.answerHeader(revision: context.revision)
    context.node.propose([command], on: eventLoop) { [context] outcome in
      switch outcome {
      case .failure(let error):
        context.metrics.proposalsFailed.add()
        for (_, stream) in batch { stream.fail(EtcdErrors.status(for: error)) }
      case .success(let results):
        if case .refused(let error)? = results.first {
          for (_, stream) in batch { stream.fail(EtcdErrors.status(for: error)) }
          return
        }
        guard case .leasesRenewed(let ttls, _)? = results.first, ttls.count == batch.count else {
          preconditionFailure("a renewal of \(batch.count) leases came to \(results)")
        }
        for ((id, stream), ttlMilliseconds) in zip(batch, ttls) {
          if ttlMilliseconds > 0 { context.metrics.leasesRenewed.add() }
          stream.answer(id, ttlMilliseconds: ttlMilliseconds, header: header)
        }
      }
    }
  }
}

/// One batch for each event loop, made when its first stream comes.
final class LeaseRenewalBatches<Node: NodeHandle>: Sendable {
  private let context: ServiceContext<Node>
  private let batches = Mutex<[ObjectIdentifier: LeaseRenewalBatch<Node>]>([:])

  init(_ context: ServiceContext<Node>) { self.context = context }

  func batch(on eventLoop: any EventLoop) -> LeaseRenewalBatch<Node> {
    batches.withLock { batches in
      let key = ObjectIdentifier(eventLoop)
      if let known = batches[key] { return known }
      let made = LeaseRenewalBatch(context, on: eventLoop)
      batches[key] = made
      return made
    }
  }
}

/// One LeaseKeepAlive stream: each request is answered, in order; a lease that is not there has a TTL of 0.
///
/// Bound to its call's event loop.
final class LeaseKeepAliveStream<Node: NodeHandle>: GRPCHandler, SupervisedStream, @unchecked Sendable {
  let call: any GRPCCall
  private let context: ServiceContext<Node>
  private let batch: LeaseRenewalBatch<Node>
  private var unanswered = 0
  private var clientIsDone = false
  private var checkedLeader = false
  private var early = EarlyMessages()

  init(_ call: any GRPCCall, _ context: ServiceContext<Node>, _ batch: LeaseRenewalBatch<Node>) {
    self.call = call
    self.context = context
    self.batch = batch
  }

  func receive(_ message: ByteBuffer) {
    guard !call.isOver else { return }
    if !checkedLeader {
      checkedLeader = true
      if let refusal = context.refusal(of: call) {
        call.finish(refusal)
        return
      }
      context.supervise(self)
    }
    guard !early.keep(message, of: call, context, resume: { self.resume() }) else { return }
    do {
      let id = try KeepAliveCall(wire: message).id
      let revision = try judge(id)
      unanswered += 1
      batch.add(id, from: self, judgedUnder: revision)
    } catch {
      call.finish(error as? GRPCStatus ?? EtcdErrors.undecodable(error, streaming: true))
    }
  }

  /// Whether the caller may renew the lease: it must be allowed to write every key on it.
  private func judge(_ id: LeaseID) throws(GRPCStatus) -> UInt64? {
    guard context.node.auth.isEnabled else { return nil }
    let caller = context.settledCaller(of: call)
    try context.authorize(caller, .user)
    try context.authorize(
      caller,
      state: { (machine, stamp) throws(AuthError) in try machine.checkKeys(of: id, .write, by: stamp) })
    guard case .user(let stamp) = caller else { return nil }
    return stamp.revision
  }

  private func resume() {
    for message in early.release() { receive(message) }
    if clientIsDone { halfClosed() }
  }

  func halfClosed() {
    clientIsDone = true
    if unanswered == 0, early.isEmpty { call.finish(.ok) }
  }

  func cancelled() {}

  func answer(_ id: LeaseID, ttlMilliseconds: Int64, header: AnswerHeader) {
    guard !call.isOver else { return }
    call.send(KeepAliveAnswer(header: header, id: id, ttlSeconds: ttlMilliseconds / 1_000).wireBuffer)
    unanswered -= 1
    if clientIsDone, unanswered == 0 { call.finish(.ok) }
  }

  func fail(_ status: GRPCStatus) { call.finish(status) }

  func end(_ status: GRPCStatus) { call.finish(status) }
}
