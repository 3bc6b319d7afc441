import Keyspace
import Primitives

/// How watches that are behind read history.
///
/// A round copies the keyspace (a few words: copies share their storage), lets go of the lock, and reads one page for
/// all watches of ranges together, from where the last of them stands, and one for each key that watches of single keys
/// ask for. Those further ahead join as the page reaches them. So a thousand watches that lag cost one walk over the
/// log, not a thousand, and no writer waits for any of it. Watches whose clients have no room take no part: history
/// keeps their place.
extension WatchHub {
  private static let pageEvents = 1_000
  private static let pageBytes = 256 * 1024
  /// Versions looked at in one round, however few of them are wanted.
  private static let pageScanned = 20_000

  func catchUp() {
    isCatchUpScheduled = false
    guard let applied, !behind.isEmpty else { return }
    let groups = behind.allGroups.filter { $0.members.contains { $0.session.hasRoom } }
    guard !groups.isEmpty else { return pollForRoom() }
    let keyspace = applied.withLock { contents in
      inbox.listen()
      return contents.machine.keyspace
    }
    let ranges = groups.filter { !$0.isSingleKey }
    if !ranges.isEmpty { _ = readPage(for: ranges, of: keyspace) }
    readKeys(groups.filter(\.isSingleKey), of: keyspace)
    finishRound()
  }

  /// Goes on with another round when somebody is still behind and has room.
  private func finishRound() {
    let groups = behind.allGroups
    if groups.contains(where: { $0.members.contains { $0.session.hasRoom } }) { scheduleCatchUp() }
    if !behind.isEmpty, groups.contains(where: { $0.members.contains { !$0.session.hasRoom } }) { pollForRoom() }
    answerProgress()
  }

  /// One page for each key, until the round has told enough; the next round begins where this one ended.
  private func readKeys(_ groups: [WatchGroup], of keyspace: Keyspace) {
    let start = catchUpTurn
    var eventsLeft = Self.pageEvents
    for place in 0..<groups.count where eventsLeft > 0 {
      eventsLeft -= 1 + readPage(for: [groups[(start + place) % groups.count]], of: keyspace)
      catchUpTurn = (start + place + 1) % groups.count
    }
  }

  /// Reads on from where the last of these groups' watches stands. Answers how many events were read.
  private func readPage(for groups: [WatchGroup], of keyspace: Keyspace) -> Int {
    endCompacted(groups, keyspace)
    let ready = groups.flatMap { $0.members.filter { $0.session.hasRoom } }
    guard let start = ready.map(\.next).min() else { return 0 }
    let wantsPrevious = ready.contains(where: \.request.wantsPrevious)
    let page: (events: [KeyspaceEvent], next: Int64)
    do throws(KeyspaceError) {
      page = try keyspace.history(
        from: start, in: Self.hull(of: groups.map(\.key.range)), wantsPrevious: wantsPrevious, limit: Self.pageEvents,
        maxBytes: Self.pageBytes, allowsCompactRevision: true, maxScanned: Self.pageScanned)
    } catch {
      // Watches whose place is gone have been ended above.
      preconditionFailure("history from \(start) cannot be read: \(error)")
    }
    tell(page.events.withPreviousOfEarlierRevisions(), of: groups, from: start, to: page.next, keyspace.revision)
    for watch in ready where watch.next > keyspace.revision {
      catchesUp(watch, at: keyspace.revision)
    }
    return page.events.count
  }

  /// Tells watches that stand in `start..<end`, and moves them to `end`. One that has no room stays where it is.
  private func tell(
    _ events: [KeyspaceEvent], of groups: [WatchGroup], from start: Int64, to end: Int64, _ revision: Int64
  ) {
    pageNumber += 1
    if groups.count == 1 {
      if let wanted = behind.select(events, for: groups[0], revision: revision) {
        tell(groups[0], wanted, from: start, to: end)
      }
    } else {
      behind.match(events[...], revision: revision) { group, wanted in
        if !group.isSingleKey { tell(group, wanted, from: start, to: end) }
      }
    }
    for group in groups where group.page != pageNumber {
      // The page holds nothing for them.
      for watch in group.members where watch.next >= start && watch.next < end { watch.next = end }
    }
  }

  private func tell(_ group: WatchGroup, _ events: WatchedEvents, from start: Int64, to end: Int64) {
    group.page = pageNumber
    var told = 0
    for watch in group.members where watch.next >= start && watch.next < end {
      if let own = events.from(watch.next) {
        guard watch.session.hasRoom else {
          watch.session.awaitRoom()
          continue
        }
        watch.session.tell(watch, own)
        told += own.events.count
      }
      watch.next = end
    }
    counters.told(told)
  }

  private func endCompacted(_ groups: [WatchGroup], _ keyspace: Keyspace) {
    let compactRevision = keyspace.compactRevision
    let ended = groups.flatMap { $0.members.filter { $0.next < compactRevision && $0.session.hasRoom } }
    for watch in ended { watch.session.end(watch, compactRevision: compactRevision, revision: keyspace.revision) }
  }

  /// The smallest range that holds them all.
  private static func hull(of ranges: [KeyRange]) -> KeyRange {
    guard ranges.count > 1 else { return ranges[0] }
    let bounds = ranges.map(\.bounds)
    let start = bounds.map(\.start).min()!
    var end = Bytes()
    for bound in bounds {
      guard let own = bound.end else { return .from(start) }
      end = max(end, own)
    }
    return .halfOpen(start: start, end: end)
  }
}

extension KeyRange {
  /// `end` is nil when there is none.
  fileprivate var bounds: (start: Bytes, end: Bytes?) {
    switch self {
    case .single(let key): (key, key.successor)
    case .halfOpen(let start, let end): (start, end)
    case .from(let start): (start, nil)
    }
  }
}
