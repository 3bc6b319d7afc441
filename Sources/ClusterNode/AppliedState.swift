import Glibc
import StateMachine

/// The applied state and the watches that stand on it, under one lock: a watch that starts "now" and an apply can then
/// never interleave so that an event is missed or told twice.
///
/// Held by the apply loop for one batch and by readers for one short read.
final class AppliedState: @unchecked Sendable {
  struct Contents {
    var machine: StateMachine
    var watches = WatchTable()
  }

  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private var contents: Contents

  init(_ machine: consuming StateMachine) {
    lock = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    contents = Contents(machine: machine)
  }

  deinit {
    pthread_mutex_destroy(lock)
    lock.deallocate()
  }

  func withLock<R, E: Error>(_ body: (inout Contents) throws(E) -> R) throws(E) -> R {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    return try body(&contents)
  }
}
