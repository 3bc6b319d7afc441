import Dispatch
import Glibc

/// SIGTERM and SIGINT ask the process to stop in order; a second one ends it at once.
enum Termination {
  static func signalled() async {
    let signals = AsyncStream<Void> { continuation in
      let sources = [SIGTERM, SIGINT].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler { continuation.yield() }
        source.resume()
        return source
      }
      // Sources are thread-safe; Dispatch does not say so to the compiler here.
      nonisolated(unsafe) let made = sources
      continuation.onTermination = { _ in
        for source in made { source.cancel() }
        for number in [SIGTERM, SIGINT] { signal(number, SIG_DFL) }
      }
    }
    for await _ in signals { break }
  }
}
