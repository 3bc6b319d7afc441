import Synchronization

/// That the cluster has removed this member, and what is to be done then.
final class Removal: Sendable {
  private struct State {
    var hasCome = false
    var action: (@Sendable () -> Void)?
  }

  private let state = Mutex(State())

  /// False when it was known.
  func note() -> Bool {
    let (isNews, action) = state.withLock { state in
      defer { state.hasCome = true }
      return (!state.hasCome, state.hasCome ? nil : state.action)
    }
    action?()
    return isNews
  }

  /// `action` runs once, on any thread; at once when the member has been removed already.
  func whenNoted(_ action: @escaping @Sendable () -> Void) {
    let hasCome = state.withLock { state in
      state.action = action
      return state.hasCome
    }
    if hasCome { action() }
  }
}
