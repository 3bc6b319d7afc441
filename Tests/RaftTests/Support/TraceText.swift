import Raft

/// How traces write things down. An entry is `index/term:payload`, `-` for the empty one.
enum TraceText {
  static func lines(_ output: Output, of event: Event) -> [String] {
    var lines: [String] = []
    switch event {
    case .propose: lines.append(output.accepted.map { "accepted from \($0.firstIndex)/\($0.term)" } ?? "refused")
    case .proposeMembership:
      lines.append(output.refusedMembership.map { "refused: \($0)" } ?? "accepted from \(output.accepted!.firstIndex)")
    default: break
    }
    if let mark = output.restore { lines.append("restarts behind \(self.mark(mark))") }
    if !output.persist.isEmpty {
      let state = output.persist.hardState.map { "term=\($0.term) vote=\($0.vote) commit=\($0.commit)" }
      let entries = output.persist.entries.isEmpty ? nil : list(output.persist.entries)
      lines.append("writes " + [state, entries].compactMap { $0 }.joined(separator: " "))
    }
    lines += output.sendNow.map { "sends \(message($0))" }
    lines += output.sendAfterPersist.map { held in
      let entry = held.waitsFor.entry.map { " entry=\($0.index)/\($0.term)" } ?? ""
      return "holds \(message(held.message)) until term=\(held.waitsFor.term) vote=\(held.waitsFor.vote)\(entry)"
    }
    if !output.commit.isEmpty { lines.append("commits \(list(output.commit))") }
    lines += output.readStates.map { "answers read \($0.context) at \($0.index)" }
    lines += output.refusedReads.map { "refuses read \($0)" }
    lines += output.sendSnapshot.map { "wants a snapshot sent to \($0)" }
    return lines
  }

  static func event(_ event: Event) -> String {
    if case .received(let message) = event { "receives \(self.message(message))" } else { "\(event)" }
  }

  static func message(_ message: Message) -> String {
    "\(message.from)>\(message.to) t\(message.term) \(body(message.body))"
  }

  static func membership(_ core: RaftCore) -> String {
    let settled = core.committedMembership == core.membership ? "" : ", not committed"
    return "{\(text(core.membership))}\(settled)"
  }

  static func role(_ core: RaftCore) -> String {
    switch core.role {
    case .follower(let leader): "follows \(leader.map(String.init) ?? "nobody") in term \(core.term)"
    case .preCandidate: "sounds out term \(core.term + 1)"
    case .candidate: "campaigns in term \(core.term)"
    case .leader: "leads term \(core.term)"
    }
  }

  static func status(_ core: RaftCore) -> String {
    let log = "log \(core.firstIndex)...\(core.lastIndex), durable \(core.durableIndex), commit \(core.commitIndex)"
    let behind = core.progress.filter(\.isSendingSnapshot).map { ", \($0.id) gets a snapshot" }.joined()
    return "\(role(core)), \(log)\(behind)"
  }

  /// `voters=1,2 learners=3 word`
  static func change(_ words: some Sequence<Substring>) -> Event {
    var ids: [Substring: [NodeID]] = [:]
    var command: [UInt8] = []
    for word in words {
      let parts = word.split(separator: "=")
      if parts.count == 2 {
        ids[parts[0]] = parts[1].split(separator: ",").compactMap { NodeID($0) }
      } else {
        command = Array(word.utf8)
      }
    }
    let target = Membership(
      voters: ids["voters"] ?? [], outgoing: ids["outgoing"] ?? [], learners: ids["learners"] ?? [])
    return .proposeMembership(target: target, command: command)
  }

  static func entry(_ text: Substring) -> Entry? {
    let parts = text.split(separator: ":", maxSplits: 1)
    let numbers = (parts.first ?? "").split(separator: "/")
    guard parts.count == 2, numbers.count == 2, let index = LogIndex(numbers[0]), let term = Term(numbers[1]) else {
      return nil
    }
    return Entry(index: index, term: term, payload: parts[1] == "-" ? .empty : .command(Array(parts[1].utf8)))
  }

  private static func list(_ entries: [Entry]) -> String { "[" + entries.map(text).joined(separator: " ") + "]" }

  private static func text(_ entry: Entry) -> String {
    switch entry.payload {
    case .empty: "\(entry.index)/\(entry.term):-"
    case .command(let bytes): "\(entry.index)/\(entry.term):\(String(decoding: bytes, as: UTF8.self))"
    case .membership(let membership, let command):
      "\(entry.index)/\(entry.term):{\(text(membership))}\(String(decoding: command, as: UTF8.self))"
    }
  }

  static func text(_ membership: Membership) -> String {
    let parts = [
      ("", membership.voters), ("outgoing=", membership.outgoing), ("learners=", membership.learners),
      ("learnersNext=", membership.learnersNext),
    ]
    return parts.filter { !$0.1.isEmpty }.map { $0.0 + $0.1.map(String.init).joined(separator: ",") }
      .joined(separator: " ")
  }

  private static func mark(_ mark: SnapshotMark) -> String {
    "\(mark.last.index)/\(mark.last.term) {\(text(mark.membership))}"
  }

  private static func body(_ body: Message.Body) -> String {
    switch body {
    case .voteRequest(let request):
      "\(request.isPreVote ? "pre-vote" : "vote")? last=\(request.last.index)/\(request.last.term)"
        + (request.isTransfer ? " in succession" : "")
    case .voteResponse(let response):
      "\(response.isPreVote ? "pre-vote" : "vote") \(response.isGranted ? "granted" : "refused")"
    case .appendRequest(let request):
      "append after \(request.previous.index)/\(request.previous.term) \(list(request.entries)) commit=\(request.commit)"
    case .appendResponse(.matched(let index)):
      "matched \(index)"
    case .appendResponse(.mismatch(let rejected, let hint)):
      "mismatch at \(rejected), try \(hint.index)/\(hint.term)"
    case .heartbeat(let heartbeat):
      "heartbeat commit=\(heartbeat.commit) round=\(heartbeat.readRound)"
    case .heartbeatResponse(let response):
      "heartbeat heard round=\(response.readRound)"
    case .timeoutNow:
      "campaign now"
    case .snapshot(let mark):
      "snapshot \(self.mark(mark))"
    case .readRequest:
      "read index?"
    case .readResponse(_, let index):
      "read index \(index)"
    case .readRefused:
      "read refused"
    }
  }
}
