import Raft

/// Runs a trace file: blocks of commands, a line `----`, and the trace that they produce, up to the next empty line.
/// `#` starts a comment line. The commands:
///
///     cluster 3 [preVote=false checkQuorum=false maxInflightMessages=2 …]   a new cluster, all members running;
///                                  with `genesis` behind entry 1/1, with `down` not running
///     join 4                       a new member that knows nothing
///     past 1 term=3 vote=2 commit=1 1/1:a 2/3:b   a member's disk before the cluster runs; then `start`
///     tick 1 · timeout 1           a tick now · a tick when the member's next deadline has come
///     advance 250                  milliseconds pass
///     propose 1 a b · read 1 7     payloads · a read of context 7
///     change 1 voters=1,2 [learners=3] [word]   a target for the membership, and a command
///     transfer 1 2 · unreachable 1 2   leadership is to go to 2 · the connection to 2 is lost
///     state 1 2 · sent 1 2 · failed 1 2   1's state is at hand at 2 · 1 hears that it is, or that it is not
///     disk 1 [n]                   its writes (the oldest n) become durable
///     deliver [1>2] · drop [1>2] · duplicate 1>2     the messages under way (on one link)
///     settle                       disks and messages until nothing moves
///     applied 1 · compact 1 5      the state machine catches up · a snapshot replaces the log up to 5
///     crash 1 [kept [torn]] · start 1   a crash in which `kept` writes had reached the disk, and of the next one the hard
///                                  state and `torn` entries
///     status · members             all members · the memberships in force
///
/// `quietly` before a command leaves its trace out.
final class TraceScript {
  private var cluster = Cluster(voters: 1)
  /// Where the state that was moved last ends.
  private var movedIndex: LogIndex = 0
  private var trace: [String] = []
  private var isQuiet = false

  /// The same text with every trace replaced by what happens now; problems are invariant violations and bad commands.
  static func rerun(_ text: String) -> (text: String, problems: [String]) {
    let script = TraceScript()
    var problems: [String] = []
    var lines: [String] = []
    var isInTrace = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      if isInTrace {
        guard line.isEmpty else { continue }
        isInTrace = false
        lines.append("")
      } else if line == "----" {
        isInTrace = true
        lines += ["----"] + script.trace
        script.trace = []
      } else {
        lines.append(String(line))
        if !line.isEmpty, !line.hasPrefix("#"), !script.run(line) { problems.append("cannot run: \(line)") }
      }
    }
    return (lines.joined(separator: "\n"), problems + script.cluster.violations)
  }

  private func run(_ line: Substring) -> Bool {
    var words = line.split(separator: " ")
    isQuiet = words.first == "quietly"
    if isQuiet { words.removeFirst() }
    guard let command = words.first else { return false }
    let arguments = words.dropFirst()
    switch command {
    case "cluster", "join", "past", "start", "crash": return runLife(command, arguments)
    case "advance":
      guard let delta = arguments.first.flatMap({ Int64($0) }) else { return false }
      cluster.now.milliseconds += delta
    case "deliver", "drop", "duplicate": move(command, link: arguments.first)
    case "settle": settle()
    case "status":
      for id in cluster.ids { say("\(id) \(cluster.core(id).map(TraceText.status) ?? "is down")") }
    case "members":
      for id in cluster.ids { say("\(id) \(cluster.core(id).map(TraceText.membership) ?? "is down")") }
    default: return runMember(command, arguments)
    }
    return true
  }

  private func runLife(_ command: Substring, _ arguments: ArraySlice<Substring>) -> Bool {
    guard let number = arguments.first.flatMap({ NodeID($0) }) else { return false }
    switch command {
    case "cluster":
      let violations = cluster.violations
      cluster = Cluster(voters: Int(number), genesis: arguments.contains("genesis")) { configuration in
        for option in arguments.dropFirst() { configuration.set(option) }
      }
      cluster.tell = { [unowned self] line in say(line) }
      if !arguments.contains("down") { cluster.startAll() }
      return violations.isEmpty
    case "join": cluster.join(number)
    case "past":
      var state = HardState()
      for word in arguments { state.set(word) }
      cluster.remember(number, hardState: state, entries: arguments.compactMap(TraceText.entry))
    case "start": cluster.start(number)
    default:
      let counts = arguments.dropFirst().compactMap { Int($0) }
      cluster.crash(number, keepingWrites: counts.first ?? 0, tornEntries: counts.dropFirst().first ?? -1)
    }
    return true
  }

  private func runMember(_ command: Substring, _ arguments: ArraySlice<Substring>) -> Bool {
    guard let id = arguments.first.flatMap({ NodeID($0) }) else { return false }
    let rest = arguments.dropFirst()
    let number = rest.first.flatMap { UInt64($0) }
    say("\(id) \(command)\(rest.map { " " + $0 }.joined())")
    switch command {
    case "tick": cluster.step(id, .tick)
    case "timeout": cluster.awaitDeadline(id)
    case "propose": cluster.step(id, .propose(rest.map { Array($0.utf8) }))
    case "read": cluster.step(id, .readIndex(context: number ?? 0))
    case "change": cluster.step(id, TraceText.change(rest))
    case "transfer": cluster.step(id, .transferLeadership(to: number ?? 0))
    case "unreachable": cluster.step(id, .unreachable(number ?? 0))
    case "state": return moveState(from: id, to: number ?? 0)
    case "sent": cluster.step(id, .snapshotSent(to: number ?? 0, index: movedIndex))
    case "failed": cluster.step(id, .snapshotFailed(to: number ?? 0))
    case "disk": cluster.completeWrites(id, count: number.map { Int($0) } ?? .max)
    case "applied": cluster.apply(id)
    case "compact": cluster.compact(id, through: number ?? 0)
    default: return false
    }
    return true
  }

  private func moveState(from id: NodeID, to peer: NodeID) -> Bool {
    guard let mark = cluster.snapshot(of: id), let term = cluster.core(id)?.term else { return false }
    movedIndex = mark.last.index
    cluster.deliver(Message(from: id, to: peer, term: term, body: .snapshot(mark)))
    return true
  }

  /// What the messages cause stays under way.
  private func move(_ command: Substring, link: Substring?) {
    let isChosen = { (message: Message) in link.map { $0 == "\(message.from)>\(message.to)" } ?? true }
    let chosen = cluster.network.filter(isChosen)
    if command == "duplicate" {
      cluster.network += chosen
      return
    }
    cluster.network.removeAll(where: isChosen)
    for message in chosen {
      say("\(command == "drop" ? "lost" : "\(message.to) receives") \(TraceText.message(message))")
      if command == "deliver" { cluster.deliver(message) }
    }
  }

  private func settle() {
    while true {
      for id in cluster.ids where cluster.pendingWrites(id) > 0 {
        say("\(id) disk")
        cluster.completeWrites(id)
      }
      guard !cluster.network.isEmpty else { return }
      move("deliver", link: nil)
    }
  }

  private func say(_ line: String) {
    if !isQuiet { trace.append(line) }
  }
}

extension Configuration {
  fileprivate mutating func set(_ option: Substring) {
    let parts = option.split(separator: "=")
    guard parts.count == 2 else { return }
    switch parts[0] {
    case "preVote": preVote = parts[1] == "true"
    case "checkQuorum": checkQuorum = parts[1] == "true"
    case "leaseReads": leaseReads = parts[1] == "true"
    case "maxInflightMessages": maxInflightMessages = Int(parts[1])!
    case "maxInflightBytes": maxInflightBytes = Int(parts[1])!
    case "maxMessageBytes": maxMessageBytes = Int(parts[1])!
    case "maxBacklogBytes": maxBacklogBytes = Int(parts[1])!
    default: preconditionFailure("unknown option \(option)")
    }
  }
}

extension HardState {
  fileprivate mutating func set(_ word: Substring) {
    let parts = word.split(separator: "=")
    guard parts.count == 2, let value = UInt64(parts[1]) else { return }
    switch parts[0] {
    case "term": term = value
    case "vote": vote = value
    case "commit": commit = value
    default: preconditionFailure("unknown field \(word)")
    }
  }
}
