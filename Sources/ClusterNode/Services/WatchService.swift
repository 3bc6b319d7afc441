import EtcdAPI
import Keyspace
import NIOCore
import Primitives
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
final class WatchStream<Node: NodeHandle>: GRPCHandler, WatchSink, @unchecked Sendable {
  private struct Watch {
    var startRevision: Int64
    var wantsPrevious: Bool
    var wantsFragments: Bool
    var wantsProgress: Bool
    /// Nothing was sent since the last turn of the progress timer.
    var quiet = true
  }

  /// The watch ID that stands for "all of this stream", or for "none was made".
  private static var noWatch: Int64 { -1 }

  private let call: any GRPCCall
  private let context: ServiceContext<Node>
  private var session: (any WatchSession)?
  private var watches: [Int64: Watch] = [:]
  /// Watches that a compaction ended. As in etcd their IDs stay taken until the client cancels them, and count.
  private var ended: Set<Int64> = []
  private var nextID: Int64 = 0
  /// Between the session's `create` and our answer to the client nothing may be sent for this watch.
  private var beingCreated: Int64?
  private var heldBack: [EtcdWatchResponse] = []
  private var progressTimer: RepeatedTask?
  private var progress = ProgressRequests()

  init(_ call: any GRPCCall, _ context: ServiceContext<Node>) {
    self.call = call
    self.context = context
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
    }
    do {
      switch try EtcdWatchRequest(wire: message).requestUnion {
      case .createRequest(let request): create(request)
      case .cancelRequest(let request): cancel(request.watchID)
      case .progressRequest: askForProgress(.stream)
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

  private func end(_ status: GRPCStatus) {
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
    let id: Int64
    switch admit(request, range) {
    case .success(let picked): id = picked
    case .failure(let refusal):
      refuse(refusal.reason)
      return
    }
    watches[id] = Watch(
      startRevision: request.startRevision, wantsPrevious: request.prevKv, wantsFragments: request.fragment,
      wantsProgress: request.progressNotify)
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
    for held in heldBack { call.send(held.wireBuffer) }
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

  func events(watch id: Int64, _ events: [KeyspaceEvent], revision: Int64) {
    guard let watch = watches[id] else { return }
    watches[id]?.quiet = false
    let limit = context.settings.maxRequestBytes + Limits.grpcOverheadBytes
    let parts = watch.wantsFragments ? WatchFragments.split(events, maxBytes: limit) : [events[...]]
    for (index, part) in parts.enumerated() {
      var message = response(id, revision: revision)
      message.fragment = index < parts.count - 1
      message.events = part.map { EtcdEvent($0, wantsPrevious: watch.wantsPrevious) }
      send(message)
    }
  }

  /// etcd names the compact revision, no reason, and no revision in the header.
  func compacted(watch id: Int64, compactRevision: Int64, revision: Int64) {
    guard forget(id) != nil else { return }
    ended.insert(id)
    var message = response(id, revision: 0)
    message.canceled = true
    message.compactRevision = compactRevision
    send(message)
  }

  private func send(_ message: EtcdWatchResponse) {
    if message.watchID == beingCreated {
      heldBack.append(message)
    } else {
      call.send(message.wireBuffer)
    }
  }

  private func response(_ id: Int64, revision: Int64) -> EtcdWatchResponse {
    var response = EtcdWatchResponse()
    response.header = context.header(revision: revision)
    response.watchID = id
    return response
  }

  // MARK: Progress

  /// etcd answers only for watches; a stream without any stays silent.
  private func askForProgress(_ request: ProgressRequests.Request) {
    guard let session, !watches.isEmpty else { return }
    if progress.add(request) { session.requestProgress() }
  }

  /// A watch that starts in the future has made no progress yet.
  func progress(revision: Int64) {
    for request in progress.takeAnswered() {
      switch request {
      case .stream:
        guard watches.values.allSatisfy({ $0.startRevision <= revision }) else { continue }
        call.send(response(Self.noWatch, revision: revision).wireBuffer)
      case .watch(let id):
        guard let watch = watches[id], watch.startRevision <= revision else { continue }
        call.send(response(id, revision: revision).wireBuffer)
      }
    }
    if progress.isWaiting { session?.requestProgress() }
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
      if watch.quiet { askForProgress(.watch(id)) }
      watches[id]?.quiet = true
    }
  }
}

/// Requests for progress on their way through the session, which answers once for however many were made before.
private struct ProgressRequests {
  enum Request: Hashable {
    case stream
    case watch(Int64)
  }

  /// What the session has been asked for.
  private var asked: [Request] = []
  /// Came after that; asked for when the answer is here.
  private var waiting: [Request] = []

  /// True when the session is to be asked now.
  mutating func add(_ request: Request) -> Bool {
    if asked.isEmpty {
      asked = [request]
      return true
    }
    if !waiting.contains(request) { waiting.append(request) }
    return false
  }

  mutating func takeAnswered() -> [Request] {
    let answered = asked
    asked = waiting
    waiting = []
    return answered
  }

  var isWaiting: Bool { !asked.isEmpty }
}

enum WatchFragments {
  /// Splits events so that no part is (much) larger than a request may be. A part has at least one event.
  static func split(_ events: [KeyspaceEvent], maxBytes: Int) -> [ArraySlice<KeyspaceEvent>] {
    var parts: [ArraySlice<KeyspaceEvent>] = []
    var start = 0
    var bytes = 0
    for (index, event) in events.enumerated() {
      let size = encodedBytesBound(event)
      if index > start, bytes + size > maxBytes {
        parts.append(events[start..<index])
        start = index
        bytes = 0
      }
      bytes += size
    }
    parts.append(events[start...])
    return parts
  }

  /// At most what the event takes on the wire: its keys and values, and tags, lengths and numbers around them.
  private static func encodedBytesBound(_ event: KeyspaceEvent) -> Int {
    let record = { (record: KeyRecord) in record.key.count + record.value.count + 64 }
    return record(event.record) + (event.previous.map(record) ?? 0) + 16
  }
}
