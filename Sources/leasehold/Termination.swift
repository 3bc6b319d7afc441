import Dispatch
import Glibc

/// SIGTERM and SIGINT ask the process to stop in order; a second one ends it at once.
struct Termination: Sendable {
  private let signals: AsyncStream<Void>
  private let continuation: AsyncStream<Void>.Continuation

  /// Begins to listen, and returns when that is settled. Before the first connection can come: listening takes a
  /// descriptor, and a crowd of connections could have taken the last one.
  static func listen() async -> Termination {
    let (signals, continuation) = AsyncStream<Void>.makeStream()
    var sources: [any DispatchSourceSignal] = []
    for number in [SIGTERM, SIGINT] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler { continuation.yield() }
      await withCheckedContinuation { registered in
        source.setRegistrationHandler { registered.resume() }
        source.resume()
      }
      sources.append(source)
    }
    // Sources are thread-safe; Dispatch does not say so to the compiler here.
    nonisolated(unsafe) let made = sources
    continuation.onTermination = { _ in
      for source in made { source.cancel() }
      for number in [SIGTERM, SIGINT] { signal(number, SIG_DFL) }
    }
    return Termination(signals: signals, continuation: continuation)
  }

  /// Asks this process to stop, as a signal does.
  func request() { continuation.yield() }

  /// Returns at the first signal since `listen`; from then on they do what they do to any process. Await it once.
  func signalled() async {
    for await _ in signals { break }
    continuation.finish()
  }
}
