import Keyspace
import NIOCore
import Primitives

/// The watches of one event loop: matches what is applied against them and tells them.
///
/// A watch is *up to date* (in `current`, told of batches as the inbox brings them) or *behind* (in `behind`, told from
/// history, page by page, in rounds that all of them share: see `WatchCatchUp`). It falls behind when its client has no
/// room for what it should be told, and becomes up to date when history holds nothing more for it. Both happen on the
/// event loop, between two batches: the inbox listens from before a round's copy of the keyspace was made, so that
/// nothing is missed and nothing is told twice.
///
/// Everything but `inbox` and `wake` is bound to the event loop.
final class WatchHub: @unchecked Sendable {
  /// Events looked at before others have their turn on the event loop.
  private static let turnEvents = 1_000
  private static let turnBytes = 1 << 20
  /// Clients without room are looked at this often, should nobody report that they have some again.
  private static let pollInterval = TimeAmount.milliseconds(100)

  private static let crowd = 16
  private static let gatherTime = TimeAmount.milliseconds(2)

  let eventLoop: any EventLoop
  let inbox: WatchInbox
  let counters: WatchCounters
  private(set) weak var applied: AppliedState?

  let current = WatchRoster()
  let behind = WatchRoster()
  private var sessions: [ObjectIdentifier: NodeWatchSession] = [:]
  /// Sessions that share the budget for what clients have not read.
  private var budgetSessions = 0
  /// What each of them may have waiting.
  private(set) var sharedBacklogBytes = Limits.maxWatchStreamBacklogBytes

  /// Taken from the inbox, matched up to `queueStart`.
  private var queue: [KeyspaceEvent] = []
  private var queueStart = 0
  private var queueRevision: Int64 = 0
  private var announcedCompaction: Int64?
  private var isDrainScheduled = false
  var isCatchUpScheduled = false
  private var isPollScheduled = false
  private var isGathering = false
  /// Where the round through watches of single keys goes on.
  var catchUpTurn = 0
  /// Counts the pages of history.
  var pageNumber = 0

  /// Every watch that is up to date has been told everything up to here.
  private(set) var position: Int64 = 0
  private var progressWaiters: [NodeWatchSession] = []

  init(eventLoop: any EventLoop, applied: AppliedState, counters: WatchCounters) {
    self.eventLoop = eventLoop
    self.applied = applied
    self.counters = counters
    inbox = WatchInbox(counters: counters)
  }

  /// From any thread.
  func wake() { eventLoop.execute { self.drain() } }

  // MARK: Sessions and their watches

  func open(_ session: NodeWatchSession) {
    sessions[ObjectIdentifier(session)] = session
    if session.sharesBudget { changeBudgetSessions(by: 1) }
  }

  func close(_ session: NodeWatchSession) {
    guard sessions.removeValue(forKey: ObjectIdentifier(session)) != nil else { return }
    if session.sharesBudget { changeBudgetSessions(by: -1) }
    progressWaiters.removeAll { $0 === session }
    restIfIdle()
  }

  private func changeBudgetSessions(by change: Int) {
    budgetSessions += change
    let share = Limits.maxWatchBacklogBytesPerLoop / max(budgetSessions, 1)
    sharedBacklogBytes = min(max(share, Limits.minWatchStreamBacklogBytes), Limits.maxWatchStreamBacklogBytes)
  }

  /// Starts a watch and answers the keyspace's revision then.
  func add(_ request: WatchRequest, of session: NodeWatchSession) -> (watch: HubWatch, revision: Int64)? {
    guard let applied else { return nil }
    let revision = applied.withLock { contents in
      inbox.listen()
      return contents.machine.keyspace.revision
    }
    let isBehind = request.startRevision != 0 && request.startRevision <= revision
    let next = isBehind ? request.startRevision : max(request.startRevision, revision + 1)
    let watch = HubWatch(request, session: session, next: next, isBehind: isBehind)
    if isBehind {
      enterBehind(watch)
      scheduleCatchUp()
    } else {
      current.add(watch)
    }
    return (watch, revision)
  }

  func remove(_ watch: HubWatch) {
    if watch.isBehind { leaveBehind(watch) } else { current.remove(watch) }
  }

  func restIfIdle() {
    if current.isEmpty, behind.isEmpty { inbox.stopListening() }
  }

  private func enterBehind(_ watch: HubWatch) {
    watch.isBehind = true
    behind.add(watch)
    watch.session.behindCount += 1
    counters.slow(1)
  }

  private func leaveBehind(_ watch: HubWatch) {
    behind.remove(watch)
    watch.session.behindCount -= 1
    counters.slow(-1)
  }

  /// History up to `revision` holds nothing more for this watch.
  func catchesUp(_ watch: HubWatch, at revision: Int64) {
    leaveBehind(watch)
    watch.isBehind = false
    // A start in the future stays one.
    watch.next = max(watch.next, revision + 1)
    watch.session.progressTarget = max(watch.session.progressTarget, revision)
    current.add(watch)
  }

  /// `next` is the first revision that the watch could not be told of.
  private func fallsBehind(_ watch: HubWatch, next: Int64) {
    current.remove(watch)
    watch.next = max(watch.next, next)
    enterBehind(watch)
  }

  // MARK: Batches

  func drain() {
    isDrainScheduled = false
    let takesMail = queue.isEmpty
    if takesMail { takeMail() }
    tellCurrent(nextChunk())
    if !queue.isEmpty || (!takesMail && inbox.hasMail) {
      scheduleDrain()
    } else if let compactRevision = announcedCompaction {
      announcedCompaction = nil
      for session in sessions.values { session.announceCompaction(at: compactRevision) }
    }
    answerProgress()
    // While everybody reads history, batches are of no use: a round listens before it copies.
    if current.isEmpty, queue.isEmpty { inbox.stopListening() }
  }

  private func scheduleDrain() {
    guard !isDrainScheduled else { return }
    isDrainScheduled = true
    eventLoop.execute { self.drain() }
  }

  private func takeMail() {
    let mail = inbox.take()
    if let start = mail.gapStart {
      for group in Array(current.allGroups) {
        for watch in group.members { fallsBehind(watch, next: start) }
      }
      scheduleCatchUp()
    }
    if let compactRevision = mail.compactRevision { announcedCompaction = compactRevision }
    guard let last = mail.batches.last else { return }
    queue = mail.batches.count == 1 ? last.events : mail.batches.flatMap(\.events)
    queue = queue.withPreviousOfEarlierRevisions()
    queueStart = 0
    queueRevision = last.revision
  }

  /// Whole revisions from the queue, about as many as one turn should handle.
  private func nextChunk() -> ArraySlice<KeyspaceEvent> {
    var end = queueStart
    var bytes = 0
    while end < queue.count {
      let begins = end == queueStart || queue[end].record.modRevision != queue[end - 1].record.modRevision
      if begins, end - queueStart >= Self.turnEvents || bytes >= Self.turnBytes { break }
      bytes += queue[end].approximateBytes
      end += 1
    }
    return queue[queueStart..<end]
  }

  private func tellCurrent(_ chunk: ArraySlice<KeyspaceEvent>) {
    guard let last = chunk.last else { return }
    let isLast = chunk.endIndex == queue.count
    let revision = isLast ? queueRevision : last.record.modRevision
    var withoutRoom: [(watch: HubWatch, next: Int64)] = []
    var told = 0
    current.match(chunk, revision: revision) { group, events in
      for watch in group.members {
        guard let own = events.from(watch.next) else { continue }
        if watch.session.hasRoom {
          watch.session.tell(watch, own)
          told += own.events.count
        } else {
          withoutRoom.append((watch, own.firstRevision))
        }
      }
    }
    counters.told(told)
    counters.pending(-chunk.count)
    position = revision
    queueStart = chunk.endIndex
    if isLast {
      queue = []
      queueStart = 0
    }
    for (watch, next) in withoutRoom {
      fallsBehind(watch, next: next)
      watch.session.awaitRoom()
    }
    if !withoutRoom.isEmpty { pollForRoom() }
  }

  // MARK: Room

  /// A session's client has taken what it was sent.
  ///
  /// In a crowd a round waits a little for others to have room as well: they share it.
  func hasDrained(_ session: NodeWatchSession) {
    guard session.behindCount > 0 else { return }
    if behind.count < Self.crowd {
      scheduleCatchUp()
    } else if !isCatchUpScheduled, !isGathering {
      isGathering = true
      eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: Self.gatherTime) {
        self.isGathering = false
        self.scheduleCatchUp()
      }
    }
  }

  func pollForRoom() {
    guard !isPollScheduled else { return }
    isPollScheduled = true
    eventLoop.assumeIsolatedUnsafeUnchecked().scheduleTask(in: Self.pollInterval) {
      self.isPollScheduled = false
      guard self.applied != nil else { return }
      let waiting = self.sessions.values.filter { $0.behindCount > 0 }
      if waiting.contains(where: \.hasRoom) { self.scheduleCatchUp() }
      if waiting.contains(where: { !$0.hasRoom }) { self.pollForRoom() }
    }
  }

  func scheduleCatchUp() {
    guard !isCatchUpScheduled else { return }
    isCatchUpScheduled = true
    eventLoop.execute { self.catchUp() }
  }

  // MARK: Progress

  /// The session is told of its progress once all its watches know everything that has been applied by now.
  func requestProgress(_ session: NodeWatchSession) {
    progressWaiters.append(session)
    session.progressTarget = max(session.progressTarget, synchronize())
    answerProgress()
  }

  /// What is applied now; with nothing on its way, that is where the watches that are up to date stand.
  func synchronize() -> Int64 {
    guard let applied else { return position }
    let (revision, isIdle) = applied.withLock { ($0.machine.keyspace.revision, inbox.isEmpty) }
    if isIdle, queue.isEmpty { position = max(position, revision) }
    return revision
  }

  func answerProgress() {
    guard !progressWaiters.isEmpty else { return }
    var waiting: [NodeWatchSession] = []
    for session in progressWaiters {
      if session.behindCount == 0, position < session.progressTarget { _ = synchronize() }
      if session.behindCount == 0, position >= session.progressTarget {
        session.sink.progress(revision: position)
      } else {
        waiting.append(session)
      }
    }
    progressWaiters = waiting
  }
}
