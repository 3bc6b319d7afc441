import Storage
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Says what has happened when the map cannot be read. The kernel answers a read that the disk cannot serve, or one behind
/// the end of a file that was cut, with SIGBUS, and a damaged page can lead LMDB to an address where nothing is (SIGSEGV).
/// Either way nothing can be served: the process writes one line for the operator and dies of the signal as it would
/// have.
///
/// Threads say when they are inside of the map; a signal of any other thread is not ours. A thread's place in the table
/// follows from its identity; two threads that share one cost at most the message.
enum FaultGuard {
  private struct Place: ~Copyable {
    let thread = Atomic<UInt>(0)
    let message = Atomic<UInt>(0)
  }

  private static let placeCount = 1_024

  private nonisolated(unsafe) static let places: UnsafeMutablePointer<Place> = {
    let places = UnsafeMutablePointer<Place>.allocate(capacity: placeCount)
    for index in 0..<placeCount { (places + index).initialize(to: Place()) }
    return places
  }()

  /// Installs the handlers, once in a process.
  static func install() { _ = previousActions }

  private static let previousActions: (bus: sigaction, segmentation: sigaction) = {
    _ = places
    var action = sigaction()
    action.__sigaction_handler.sa_sigaction = { signal, _, _ in handle(signal) }
    action.sa_flags = SA_SIGINFO | Int32(bitPattern: UInt32(SA_ONSTACK))
    var previous = (bus: sigaction(), segmentation: sigaction())
    sigaction(SIGBUS, &action, &previous.bus)
    sigaction(SIGSEGV, &action, &previous.segmentation)
    return previous
  }()

  /// Runs `body`, which reads or writes the environment of `message`.
  @inline(__always)
  static func inside<R, E: Error>(_ message: FaultMessage, _ body: () throws(E) -> R) throws(E) -> R {
    let thread = UInt(bitPattern: Int(pthread_self()))
    let place = places + index(of: thread)
    let outer = (place.pointee.thread.load(ordering: .relaxed), place.pointee.message.load(ordering: .relaxed))
    place.pointee.message.store(UInt(bitPattern: message.text), ordering: .relaxed)
    place.pointee.thread.store(thread, ordering: .relaxed)
    defer {
      place.pointee.thread.store(outer.0, ordering: .relaxed)
      place.pointee.message.store(outer.1, ordering: .relaxed)
      withExtendedLifetime(message) {}
    }
    return try body()
  }

  @inline(__always)
  private static func index(of thread: UInt) -> Int {
    // Thread descriptors lie pages apart.
    Int(((thread >> 12) &* 0x9e37_79b9_7f4a_7c15) >> 54)
  }

  /// Only what a signal handler may do: no allocation, no lock. Returning repeats the access under the action that was
  /// there before, which ends the process.
  private static func handle(_ signal: Int32) {
    let thread = UInt(bitPattern: Int(pthread_self()))
    let place = places + index(of: thread)
    if place.pointee.thread.load(ordering: .relaxed) == thread {
      FaultMessage.write(UnsafeRawPointer(bitPattern: place.pointee.message.load(ordering: .relaxed)))
    }
    var previous = signal == SIGBUS ? previousActions.bus : previousActions.segmentation
    sigaction(signal, &previous, nil)
  }
}

/// The operator's line, ready to be written from a signal handler: text that ends with a zero byte.
final class FaultMessage: Sendable {
  nonisolated(unsafe) let text: UnsafePointer<CChar>

  init(path: String) {
    let reason = "a page cannot be read or makes no sense"
    text = UnsafePointer(strdup("leasehold stops: \(StorageError.corruptState(file: path, reason: reason))\n")!)
  }

  deinit { free(UnsafeMutablePointer(mutating: text)) }

  /// - Parameter text: of a message, or nil.
  static func write(_ text: UnsafeRawPointer?) {
    guard let text else { return }
    let count = strlen(text.assumingMemoryBound(to: CChar.self))
    // Nobody is left to be told of a failure.
    _ = Glibc.write(STDERR_FILENO, text, count)
  }
}
