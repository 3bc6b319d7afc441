import Logging
import NIOCore
import NIOPosix
import PeerProtocol
import Primitives

/// Asks a member who it is and who its peers are, before the own cluster ID is known.
package enum PeerDescription {
  package struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
    package var url: PeerURL
    package var reason: String

    package var description: String { "\(url): \(reason)" }
  }

  /// - Returns: what the member's `PeerReceiver.describe` answers.
  package static func ask(
    _ url: PeerURL, tls: PeerTLS?, timing: PeerTiming = PeerTiming(), group: any EventLoopGroup,
    threadPool: NIOThreadPool = .singleton, logger: Logger
  ) async throws -> [UInt8] {
    let eventLoop = group.any()
    let dialer = PeerDialer(tls: tls, timing: timing, threadPool: threadPool, logger: logger)
    let hello = PeerHello(purpose: .describe, clusterID: 0, senderID: 0, addresseeID: 0, senderURLs: [])
    let answer = eventLoop.makePromise(of: [UInt8].self)
    eventLoop.execute { dialer.dial(url, hello, on: eventLoop, Question(url, answer)) }
    return try await answer.futureResult.get()
  }

  private final class Question: PeerConversation {
    private let url: PeerURL
    private var answer: EventLoopPromise<[UInt8]>?

    init(_ url: PeerURL, _ answer: EventLoopPromise<[UInt8]>) {
      self.url = url
      self.answer = answer
    }

    func began(_ connection: PeerConnection) { connection.close(.misbehaved("a welcome to a question")) }

    func received(_ frame: PeerFrame) throws(PeerConnectionEnd) {
      guard case .description(let bytes) = frame else { return }
      answer?.succeed(bytes)
      answer = nil
      throw .released
    }

    func ended(_ end: PeerConnectionEnd) {
      answer?.fail(Failure(url: url, reason: end.description))
      answer = nil
    }
  }
}
