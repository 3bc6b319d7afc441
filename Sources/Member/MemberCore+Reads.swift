import Primitives
import Raft

// Linearizable reads: the leader confirms an index, the answer comes when that has been applied here (thesis §6.4).

/// Readers that wait, in groups that share one question to the leader.
struct ReadTable: Sendable {
  struct Reader: Sendable {
    var ticket: ReadTicket
    var deadline: MonotonicTime
  }

  struct Group: Sendable {
    var readers: [Reader]
    var askedAt: MonotonicTime
    /// Set once the leader has confirmed it.
    var index: LogIndex?
  }

  private(set) var unasked: [Reader] = []
  private(set) var asked: [UInt64: Group] = [:]
  private var lastContext: UInt64 = 0
  /// Questions that were asked again for want of an answer.
  private(set) var repetitions = 0
  /// A refused question is not repeated at once.
  private var askAgainAt: MonotonicTime?

  var isEmpty: Bool { unasked.isEmpty && asked.isEmpty }

  mutating func add(_ ticket: ReadTicket, deadline: MonotonicTime) {
    unasked.append(Reader(ticket: ticket, deadline: deadline))
  }

  /// The question to ask now, for all that have not asked yet.
  mutating func ask(at now: MonotonicTime) -> UInt64? {
    guard !unasked.isEmpty, (askAgainAt.map { $0 <= now } ?? true) else { return nil }
    askAgainAt = nil
    lastContext += 1
    asked[lastContext] = Group(readers: unasked, askedAt: now)
    unasked = []
    return lastContext
  }

  mutating func confirm(_ context: UInt64, at index: LogIndex) { asked[context]?.index = index }

  mutating func refuse(_ context: UInt64, askAgainAt moment: MonotonicTime) {
    guard let group = asked.removeValue(forKey: context) else { return }
    unasked += group.readers
    askAgainAt = moment
  }

  mutating func takeAnswered(applied index: LogIndex) -> [Reader] {
    if asked.isEmpty { return [] }
    var answered: [Reader] = []
    for (context, group) in asked where (group.index ?? .max) <= index {
      asked[context] = nil
      answered += group.readers
    }
    return answered
  }

  /// Questions without an answer since `moment` are asked anew: they, or their answers, may be lost.
  mutating func forget(askedBefore moment: MonotonicTime) {
    for (context, group) in asked where group.index == nil && group.askedAt < moment {
      asked[context] = nil
      unasked += group.readers
      repetitions += 1
    }
  }

  mutating func takeExpired(at now: MonotonicTime) -> [Reader] {
    var expired = unasked.filter { $0.deadline <= now }
    unasked.removeAll { $0.deadline <= now }
    for context in asked.keys {
      expired += asked[context]!.readers.filter { $0.deadline <= now }
      asked[context]!.readers.removeAll { $0.deadline <= now }
      if asked[context]!.readers.isEmpty { asked[context] = nil }
    }
    return expired
  }
}

extension MemberCore {
  mutating func askForReads(at now: MonotonicTime) {
    guard isLeader || raft.leader != nil, let context = reads.ask(at: now) else { return }
    step(.readIndex(context: context), at: now)
  }

  mutating func settleReads(at now: MonotonicTime) {
    for (context, index) in output.raft.readStates { reads.confirm(context, at: index) }
    for context in output.raft.refusedReads {
      reads.refuse(context, askAgainAt: now.advanced(byMilliseconds: settings.heartbeatIntervalMilliseconds))
    }
    for reader in reads.takeAnswered(applied: applied.index) { output.reads.append((reader.ticket, nil)) }
  }

  mutating func timeOutReads(at now: MonotonicTime) {
    reads.forget(askedBefore: now.advanced(byMilliseconds: -Chores.resendMilliseconds))
    for reader in reads.takeExpired(at: now) {
      output.reads.append((reader.ticket, raft.leader == nil ? .timedOutByLeaderFailure : .timedOut))
    }
  }
}
