import EtcdAPI
import Keyspace
import NIOCore
import Primitives
import StateMachine
import Wire

extension EtcdServices {
  /// etcdserverpb.Watch.
  static func registerWatch(into registry: inout GRPCRegistry, _ context: ServiceContext<some NodeHandle>) {
    registry.register("/etcdserverpb.Watch/Watch", kind: .bidiStream) { call in WatchStream(call, context) }
  }
}

/// One Watch stream with any number of watches on it. The stream outlives the client's half of it: only its own end,
/// or the connection's, ends the watches.
///
/// Bound to its call's event loop.
final class WatchStream<Node: NodeHandle>: GRPCHandler, WatchSink, SupervisedStream, @unchecked Sendable {
  private final class Watch {
    let startRevision: Int64
    let fields: WatchedFields
    let wantsFragments: Bool
    let wantsProgress: Bool
    /// The revision of the last header that it was sent: where its client would resume.
    var sentRevision: Int64 = 0
    /// Nothing was sent since the last turn of the progress timer.
    var quiet = true

    init(_ request: EtcdWatchCreateRequest, deletionCause: Bool) {
      startRevision = request.startRevision
      fields = WatchedFields(previous: request.prevKv, deletionCause: deletionCause)
      wantsFragments = request.fragment
      wantsProgress = request.progressNotify
    }
  }

  /// A client's request for progress, on its way through the session.
  private enum ProgressRequest { case idle, asked, askedAgain }

  /// The watch ID that stands for "all of this stream", or for "none was made".
  private static var noWatch: Int64 { -1 }

  let call: any GRPCCall
  private let context: ServiceContext<Node>
  private var session: (any WatchSession)?
  private var watches: [Int64: Watch] = [:]
  /// Watches that a compaction ended. As in etcd their IDs stay taken until the client cancels them, and count.
  private var ended: Set<Int64> = []
  private var nextID: Int64 = 0
  /// Between the session's `create` and our answer to the client nothing may be sent for this watch.
  private var beingCreated: Int64?
  private var heldBack: [ByteBuffer] = []
  private var progressTimer: RepeatedTask?
  private var progress = ProgressRequest.idle
  private let tellsDeletionCause: Bool
  private var early = EarlyMessages()

  init(_ call: any GRPCCall, _ context: ServiceContext<Node>) {
    self.call = call
    self.context = context
    tellsDeletionCause = call.metadata("leasehold-deletion-cause") == "1"
    context.metrics.watchStreams.add(1)
  }

  // MARK: What the client sends

  func receive(_ message: ByteBuffer) {
    guard !call.isOver else { return }
    if session == nil {
      if let refusal = context.refusal(of: call) {
        end(refusal)
        return
      }
      session = context.node.openWatchSession(on: call.eventLoop, sink: self)
      context.supervise(self)
    }
    let keeps = early.keep(message, of: call, context) { for held in self.early.release() { self.receive(held) } }
    guard !keeps else { return }
    do {
      switch try EtcdWatchRequest(wire: message).requestUnion {
      case .createRequest(let request): create(request)
      case .cancelRequest(let request): cancel(request.watchID)
      case .progressRequest: askForProgress()
      case nil: break
      }
    } catch {
      end(EtcdErrors.undecodable(error, streaming: true))
    }
  }

  /// etcd goes on telling its watches to a client that has nothing more to ask.
  func halfClosed() {}

  func cancelled() { close() }

  func writable() { session?.resume() }

  func end(_ status: GRPCStatus) {
    close()
    call.finish(status)
  }

  private func close() {
    guard !closed else { return }
    closed = true
    context.metrics.watchStreams.add(-1)
    context.metrics.watchers.add(-Double(watches.count))
    watches = [:]
    ended = []
    progressTimer?.cancel()
    session?.close()
    session = nil
  }

  private var closed = false

  private func create(_ request: EtcdWatchCreateRequest) {
    guard let session else { return }
    let key = request.key.isEmpty ? Bytes([0]) : Bytes(request.key)
    let range = KeyRange(key: key, rangeEnd: Bytes(request.rangeEnd))
    if let refusal = refusalByUsers(range) { return refuse(WatchCancelReason.status(refusal)) }
    let id: Int64
    switch admit(request, range) {
    case .success(let picked): id = picked
    case .failure(let refusal):
      refuse(refusal.reason)
      return
    }
    let watch = Watch(request, deletionCause: tellsDeletionCause)
    watches[id] = watch
    context.metrics.watchers.add(1)
    beingCreated = id
    let revision = session.create(
      WatchRequest(
        id: id, range: range, startRevision: request.startRevision, wantsPrevious: request.prevKv,
        filtersPuts: request.filters.contains(.noput), filtersDeletes: request.filters.contains(.nodelete)))
    beingCreated = nil
    var created = response(id, revision: revision)
    created.created = true
    call.send(created.wireBuffer)
    watch.sentRevision = revision
    for held in heldBack { call.send(held) }
    heldBack = []
    if request.progressNotify { startProgressTimer() }
  }

  private struct Refusal: Error {
    var reason: String
  }

  /// The ID of the new watch. ID 0 lets us pick: the next of our own count that is free.
  private func admit(_ request: EtcdWatchCreateRequest, _ range: KeyRange) -> Result<Int64, Refusal> {
    if case .halfOpen(let start, let end) = range, start >= end {
      return .failure(Refusal(reason: WatchCancelReason.emptyRange))
    }
    if watches.count + ended.count >= Limits.maxWatchersPerStream {
      return .failure(Refusal(reason: WatchCancelReason.tooManyWatches))
    }
    if request.watchID != 0 {
      return !isTaken(request.watchID)
        ? .success(request.watchID) : .failure(Refusal(reason: WatchCancelReason.duplicateID))
    }
    while isTaken(nextID) { nextID += 1 }
    defer { nextID += 1 }
    return .success(nextID)
  }

  private func isTaken(_ id: Int64) -> Bool { watches[id] != nil || ended.contains(id) }

  /// A watch that began before rights changed goes on, as in etcd. Unlike there, a watch of all keys from one on is
  /// judged by all of them.
  private func refusalByUsers(_ range: KeyRange) -> GRPCStatus? {
    guard context.node.auth.isEnabled else { return nil }
    do throws(GRPCStatus) {
      try context.authorize(context.settledCaller(of: call)) { (auth, caller) throws(AuthError) in
        try auth.check(caller, .read, range)
      }
      return nil
    } catch { return error }
  }

  private func refuse(_ reason: String) {
    var refusal = response(Self.noWatch, revision: context.revision)
    refusal.created = true
    refusal.canceled = true
    refusal.cancelReason = reason
    call.send(refusal.wireBuffer)
  }

  /// Silent about a watch that is not there.
  private func cancel(_ id: Int64) {
    guard forget(id) != nil || ended.remove(id) != nil else { return }
    session?.cancel(id)
    var canceled = response(id, revision: context.revision)
    canceled.canceled = true
    call.send(canceled.wireBuffer)
  }

  private func forget(_ id: Int64) -> Watch? {
    guard let watch = watches.removeValue(forKey: id) else { return nil }
    context.metrics.watchers.add(-1)
    return watch
  }

  // MARK: What the session tells

  var pendingBytes: Int { call.pendingBytes }
  var sharesBacklogBudget: Bool { true }

  func notifyWhenDrained() { call.notifyWhenDrained() }

  func events(watch id: Int64, _ events: [KeyspaceEvent], revision: Int64) {
    tell(watch: id, WatchedEvents(events, revision: revision))
  }

  func tell(watch id: Int64, _ events: WatchedEvents) {
    guard let watch = watches[id] else { return }
    watch.quiet = false
    watch.sentRevision = events.revision
    let head = events.encoded.head(watch: id, revision: events.revision) { context.node.header }
    if watch.wantsFragments {
      let limit = context.settings.maxRequestBytes + Limits.grpcOverheadBytes
      for part in events.encoded.fragments(head, events.events, watch.fields, maxBytes: limit) { send(part, of: id) }
    } else {
      send(events.encoded.message(head, events.events, watch.fields), of: id)
    }
  }

  /// etcd names the compact revision, no reason, and no revision in the header.
  func compacted(watch id: Int64, compactRevision: Int64, revision: Int64) {
    guard forget(id) != nil else { return }
    ended.insert(id)
    var message = response(id, revision: 0)
    message.canceled = true
    message.compactRevision = compactRevision
    send(message.wireBuffer, of: id)
  }

  private func send(_ message: ByteBuffer, of id: Int64) {
    if id == beingCreated {
      heldBack.append(message)
    } else {
      call.send(message)
    }
  }

  private func response(_ id: Int64, revision: Int64) -> EtcdWatchResponse {
    var response = EtcdWatchResponse()
    response.header = context.header(revision: revision)
    response.watchID = id
    return response
  }

  // MARK: Progress

  /// etcd answers only for watches; a stream without any stays silent. Requests that come before the answer to an
  /// earlier one share the next answer.
  private func askForProgress() {
    guard let session, !watches.isEmpty else { return }
    switch progress {
    case .idle:
      progress = .asked
      session.requestProgress()
    case .asked, .askedAgain: progress = .askedAgain
    }
  }

  /// A watch that starts in the future has made no progress yet.
  func progress(revision: Int64) {
    let isAskedAgain = progress == .askedAgain
    progress = .idle
    if !watches.isEmpty, watches.values.allSatisfy({ $0.startRevision <= revision }) {
      for watch in watches.values { watch.sentRevision = max(watch.sentRevision, revision) }
      call.send(response(Self.noWatch, revision: revision).wireBuffer)
    }
    if isAskedAgain { askForProgress() }
  }

  /// The jitter keeps watches that were made together from reporting together.
  private func startProgressTimer() {
    guard progressTimer == nil else { return }
    let interval = context.settings.watchProgressInterval.nanoseconds
    let jitter = Int64.random(in: 0...max(interval / 10, 0))
    let period = TimeAmount.nanoseconds(interval + jitter)
    progressTimer = call.eventLoop.scheduleRepeatedTask(initialDelay: period, delay: period) { [weak self] _ in
      self?.reportQuietWatches()
    }
  }

  private func reportQuietWatches() {
    for (id, watch) in watches where watch.wantsProgress {
      if watch.quiet { reportProgress(of: id, watch) }
      watch.quiet = true
    }
  }

  /// A client that is away when the compaction's revision is what it would resume from could not.
  func compactionBegan(at revision: Int64) {
    for (id, watch) in watches where watch.wantsProgress && watch.sentRevision < revision {
      reportProgress(of: id, watch)
    }
  }

  /// A watch that is behind, or in the future, has nothing to report.
  private func reportProgress(of id: Int64, _ watch: Watch) {
    guard let revision = session?.toldThrough(id), watch.startRevision <= revision else { return }
    watch.sentRevision = revision
    call.send(response(id, revision: revision).wireBuffer)
  }
}
