import Logging
import NIOCore
import NIOPosix
import Synchronization

/// The connections that a certificate has opened, in either direction. When it changes who is trusted, all of them are
/// judged again, and those that would not be let in any more are closed.
final class TLSGuests: Sendable {
  struct Guest: Sendable {
    var channel: any Channel
    var question: TrustQuestion
    var check: TrustCheck
    /// Which side the peer is; for the log.
    var role: String
  }

  private struct State {
    /// Counts changes of trust.
    var round = 0
    var guests: [ObjectIdentifier: Guest] = [:]
  }

  private let state = Mutex(State())

  /// To be noted before a peer is judged.
  var round: Int { state.withLock { $0.round } }

  var count: Int { state.withLock { $0.guests.count } }

  /// Remembers a connection until it closes. One whose handshake was judged before the last change of trust is judged
  /// again at once: no change slips in between.
  func add(_ guest: Guest, judgedIn round: Int, threadPool: NIOThreadPool, logger: Logger) {
    let key = ObjectIdentifier(guest.channel)
    let isCurrent = state.withLock { state in
      state.guests[key] = guest
      return state.round == round
    }
    guest.channel.closeFuture.whenComplete { [self] _ in
      state.withLock { state in _ = state.guests.removeValue(forKey: key) }
    }
    if !isCurrent { Self.review(guest, threadPool, logger) }
  }

  /// To be called when the change has been made: what is judged from now on is judged by the new rules.
  func judgeAgain(threadPool: NIOThreadPool, logger: Logger) {
    let guests = state.withLock { state in
      state.round += 1
      return Array(state.guests.values)
    }
    for guest in guests { Self.review(guest, threadPool, logger) }
  }

  private static func review(_ guest: Guest, _ threadPool: NIOThreadPool, _ logger: Logger) {
    threadPool.submit { state in
      guard case .active = state else { return }
      var question = guest.question
      question.occasion = .review
      guard case .failure(let reason) = guest.check(question) else { return }
      logger.warning(
        "connection closed: the \(guest.role)'s certificate is not trusted any more",
        metadata: ["peer": "\(question.address ?? "?")", "reason": "\(reason)"])
      guest.channel.close(promise: nil)
    }
  }
}
