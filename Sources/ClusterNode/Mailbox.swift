import Glibc
import Primitives

/// Many producers, one consumer thread: the consumer sleeps until there is something or a moment has come, then takes
/// everything at once. Producers wake it only when it sleeps.
package final class Mailbox<Element: Sendable>: @unchecked Sendable {
  // The lock guards `elements`, `sleeping`; the pointers live as long as the object.
  private let lock: UnsafeMutablePointer<pthread_mutex_t>
  private let arrival: UnsafeMutablePointer<pthread_cond_t>
  private var elements: [Element] = []
  private var sleeping = false

  package init() {
    lock = .allocate(capacity: 1)
    arrival = .allocate(capacity: 1)
    pthread_mutex_init(lock, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(arrival, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(arrival)
    pthread_mutex_destroy(lock)
    arrival.deallocate()
    lock.deallocate()
  }

  package func post(_ element: Element) {
    pthread_mutex_lock(lock)
    elements.append(element)
    let wake = sleeping
    sleeping = false
    pthread_mutex_unlock(lock)
    if wake { pthread_cond_signal(arrival) }
  }

  /// Everything posted so far, in order; waits for the first element, at most until `deadline` on the monotonic clock.
  /// `spare` is an emptied array whose storage the mailbox goes on with, so that a busy loop allocates nothing.
  package func takeAll(until deadline: MonotonicTime, spare: consuming [Element]) -> [Element] {
    pthread_mutex_lock(lock)
    defer { pthread_mutex_unlock(lock) }
    while elements.isEmpty {
      sleeping = true
      var moment = deadline.timespec
      if pthread_cond_timedwait(arrival, lock, &moment) == ETIMEDOUT { break }
    }
    sleeping = false
    let taken = elements
    elements = spare
    return taken
  }
}

extension MonotonicTime {
  package static var now: MonotonicTime {
    var moment = Glibc.timespec()
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return MonotonicTime(nanoseconds: Int64(moment.tv_sec) * 1_000_000_000 + Int64(moment.tv_nsec))
  }

  fileprivate var timespec: Glibc.timespec {
    Glibc.timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
  }
}
