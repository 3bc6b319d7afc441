import PeerProtocol

/// The last things that happened, newest last.
struct Trace {
  static let kept = 400
  private var lines: [(at: Int64, what: String)] = []
  var isOn = false

  mutating func note(_ moment: Int64, _ what: @autoclosure () -> String) {
    guard isOn else { return }
    lines.append((moment, what()))
    if lines.count > 2 * Self.kept { lines.removeFirst(Self.kept) }
  }

  mutating func note(_ moment: Int64, _ happening: World.Happening) { note(moment, Self.text(happening)) }

  private static func text(_ happening: World.Happening) -> String {
    switch happening {
    case .deliver(.raft(let message), let from, let to): "\(from)>\(to) t\(message.term) \(message.body)"
    case .stateArrives(_, let mark, let from, let to, let term): "\(from)>\(to) t\(term) state \(mark.last)"
    default: "\(happening)"
    }
  }

  var text: String {
    lines.suffix(Self.kept).map { line in
      "\(Double(line.at) / 1_000_000) ms  \(line.what.prefix(300))"
    }.joined(separator: "\n")
  }
}
