#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// State under a mutex with a condition to wait on.
final class Monitor<State>: @unchecked Sendable {
  // Sendable: the state is reached only under the mutex. Both live on the heap, since their addresses must not change.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var state: State

  init(_ state: sending State) {
    self.state = state
    precondition(pthread_mutex_init(mutex, nil) == 0 && pthread_cond_init(changed, nil) == 0)
  }

  deinit {
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(mutex)
    changed.deallocate()
    mutex.deallocate()
  }

  func withLock<R>(_ body: (inout State) throws -> R) rethrows -> R {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return try body(&state)
  }

  /// Changes the state and wakes all waiters when `body` says so.
  func change(_ body: (inout State) -> Bool) {
    pthread_mutex_lock(mutex)
    if body(&state) { pthread_cond_broadcast(changed) }
    pthread_mutex_unlock(mutex)
  }

  /// Waits until `body` gives a value.
  func wait<R>(for body: (inout State) -> R?) -> R {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while true {
      if let result = body(&state) { return result }
      pthread_cond_wait(changed, mutex)
    }
  }
}

/// Something that happens once, and whoever waits for it.
package final class Occasion: Sendable {
  private let hasCome = Monitor(false)

  package init() {}

  package func come() {
    hasCome.change { state in
      state = true
      return true
    }
  }

  package func wait() { hasCome.wait { $0 ? () : nil } }
}

/// A thread that may block on the disk, outside of every pool. Join it exactly once.
package final class DedicatedThread: Sendable {
  private let handle: pthread_t

  /// - Parameters:
  ///   - name: at most 15 bytes, as `top -H` shows it.
  ///   - niceness: how far the thread stands back behind the others when all cores are busy, as of `nice`: 0 to 19.
  package init(name: String, niceness: Int32 = 0, _ body: @escaping @Sendable () -> Void) {
    let start = Unmanaged.passRetained(Start(name: name, niceness: niceness, body: body))
    var thread = pthread_t()
    let code = pthread_create(
      &thread, nil,
      { argument in
        let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        start.nameThread()
        start.standBack()
        start.body()
        return nil
      }, start.toOpaque())
    guard code == 0 else { fatalError("cannot start thread \(name): \(String(cString: strerror(code)))") }
    handle = thread
  }

  package func join() { pthread_join(handle, nil) }

  private final class Start: Sendable {
    let name: String
    let niceness: Int32
    let body: @Sendable () -> Void
    init(name: String, niceness: Int32, body: @escaping @Sendable () -> Void) {
      self.name = name
      self.niceness = niceness
      self.body = body
    }

    /// Of the calling thread: Linux gives every thread a niceness of its own, and takes 0 for the caller. Without the
    /// right to it the thread is as good as the others, which is no harm.
    func standBack() {
      if niceness > 0 { _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, niceness) }
    }

    /// For the eyes of operators only, so a failure does not matter. (glibc's function for it is not visible here.)
    func nameThread() {
      let descriptor = openFile("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
      guard descriptor >= 0 else { return }
      _ = Array(name.utf8.prefix(15)).withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      _ = closeFile(descriptor)
    }
  }
}

/// Runs jobs one after the other on a thread of its own.
final class SerialWorker: Sendable {
  private struct State {
    var jobs: [@Sendable () -> Void] = []
    var isClosed = false
  }

  private let monitor: Monitor<State>
  private let thread: DedicatedThread

  init(name: String) {
    let monitor = Monitor(State())
    self.monitor = monitor
    thread = DedicatedThread(name: name) {
      while let jobs = monitor.wait(for: Self.take) { for job in jobs { job() } }
    }
  }

  private static func take(_ state: inout State) -> [@Sendable () -> Void]?? {
    if !state.jobs.isEmpty {
      defer { state.jobs = [] }
      return .some(state.jobs)
    }
    return state.isClosed ? .some(nil) : nil
  }

  func run(_ job: @escaping @Sendable () -> Void) {
    monitor.change { state in
      state.jobs.append(job)
      return state.jobs.count == 1
    }
  }

  /// Finishes what is queued and ends the thread.
  func close() {
    monitor.change { state in
      state.isClosed = true
      return true
    }
    thread.join()
  }
}
