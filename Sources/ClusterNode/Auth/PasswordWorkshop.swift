import NIOCore
import NIOPosix
import Primitives
import Synchronization
import Wire

/// Where passwords are hashed: threads of their own, on half of the cores, since each takes tens of milliseconds and
/// megabytes, and a bounded queue in front of them, since anybody may ask.
final class PasswordWorkshop: Sendable {
  private let scheme: (any PasswordScheme)?
  /// Started with the first password.
  private let pool: Mutex<NIOThreadPool?> = Mutex(nil)
  private let waiting = Atomic<Int>(0)
  /// What a name that nobody has is compared with.
  private let decoy: Mutex<[UInt8]?> = Mutex(nil)

  init(_ scheme: (any PasswordScheme)?) { self.scheme = scheme }

  /// Runs `work` on one of the workshop's threads and `then` with its result on the call's event loop, or fails the call.
  func run<Result: Sendable>(
    for call: UnaryCall, _ work: @escaping @Sendable (any PasswordScheme) -> Result,
    _ then: @escaping @Sendable (Result) -> Void
  ) {
    guard let scheme else { return call.fail(EtcdErrors.notCapable) }
    guard waiting.wrappingAdd(1, ordering: .relaxed).newValue <= Limits.maxWaitingPasswords else {
      waiting.wrappingSubtract(1, ordering: .relaxed)
      return call.fail(EtcdErrors.tooManyRequests)
    }
    let loop = call.eventLoop
    threads.submit { [self] _ in
      let result = work(scheme)
      waiting.wrappingSubtract(1, ordering: .relaxed)
      loop.execute { then(result) }
    }
  }

  /// `stored` nil: of a user who is not there.
  func matches(_ password: [UInt8], _ stored: [UInt8]?, _ scheme: any PasswordScheme) -> Bool {
    if let stored, !stored.isEmpty { return scheme.matches(password, stored) }
    let decoy = decoy.withLock { decoy in
      if decoy == nil { decoy = scheme.hash(Array("nobody".utf8)) }
      return decoy
    }
    if let decoy { _ = scheme.matches(password, decoy) }
    return false
  }

  private var threads: NIOThreadPool {
    pool.withLock { pool in
      if let pool { return pool }
      let started = NIOThreadPool(numberOfThreads: max(1, System.coreCount / 2))
      started.start()
      pool = started
      return started
    }
  }

  deinit { pool.withLock { $0 }?.shutdownGracefully { _ in } }
}
