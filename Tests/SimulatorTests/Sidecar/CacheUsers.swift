import Member
import Primitives
import Raft
import SidecarCore

/// The build caches: they hit, register and delete entries at whichever sidecar they reach, one request at a time.
struct CacheUsers {
  static let count = 3
  static let keyCount = 5

  private var busy: [Int: NodeID] = [:]
  private(set) var accepted = 0
  private(set) var refused = 0

  func isBusy(_ user: Int) -> Bool { busy[user] != nil }

  mutating func asks(_ user: Int, at id: NodeID) { busy[user] = id }

  mutating func answered(_ user: Int, accepted isAccepted: Bool) {
    busy[user] = nil
    if isAccepted { accepted += 1 } else { refused += 1 }
  }

  mutating func sidecarDied(_ id: NodeID) { busy = busy.filter { $0.value != id } }
}

extension World {
  func cacheUserActs(_ user: Int) {
    guard !clients.isStopped else { return }
    schedule(.cacheUser(user), afterMilliseconds: random(50, 900))
    guard !cacheUsers.isBusy(user) else { return }
    let open = sidecars.keys.sorted().filter { sidecars[$0]!.isOpen }
    guard let id = open.randomElement(using: &generator) else { return }
    let entry = EntryName(
      cache: random(0, 2) > 0 ? "c" : "d", key: Bytes("e\(random(0, Int64(CacheUsers.keyCount) - 1))"))
    let request: EntryRequest =
      switch random(0, 99) {
      case ..<75: .hit
      case ..<95: .register(EntryRegistration(sizeBytes: random(1, 3)))
      default: .evict
      }
    cacheUsers.asks(user, at: id)
    let asked = now
    let sidecar = sidecars[id]!
    sidecar.after(microseconds: 50) { [unowned self, unowned sidecar] in
      sidecar.requests.perform(request, entry) { [unowned self] result in
        let isAccepted = Self.keepsAlive(result)
        cacheUsers.answered(user, accepted: isAccepted)
        trace.note(now, "user \(user) at \(id): \(request) \(entry.path) asked \(asked / Self.millisecond): \(result)")
        if isAccepted { cacheOracle.accepted(entry, asked: asked) }
      }
    }
  }

  private static func keepsAlive(_ result: Result<EntryOutcome, ProposalError>) -> Bool {
    guard case .success(let outcome) = result else { return false }
    switch outcome {
    case .coalesced, .renewed, .registered, .updated, .revived: return true
    case .unknown, .evicting, .evictionStarted: return false
    }
  }
}
