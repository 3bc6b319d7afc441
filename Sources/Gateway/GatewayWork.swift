import NIOCore
import NIOPosix

/// Conversions of JSON. Small ones are done at once; a large one would keep its event loop from the other connections,
/// so a thread of the pool does it.
enum GatewayWork {
  private static let maxBytesHere = 128 * 1024

  /// `then` runs on `eventLoop`: at once, or later.
  static func run<Result: Sendable>(
    bytes: Int, on eventLoop: any EventLoop, _ work: @escaping @Sendable () -> Result,
    then: @escaping (Result) -> Void
  ) {
    guard bytes > maxBytesHere else { return then(work()) }
    let bound = NIOLoopBound(then, eventLoop: eventLoop)
    NIOThreadPool.singleton.submit { _ in
      let result = work()
      eventLoop.execute { bound.value(result) }
    }
  }
}
