import Synchronization

/// State that tests wait on: looked at after each change, without polling.
final class Watched<State: Sendable>: Sendable {
  private struct Waiter {
    var number: Int
    var condition: @Sendable (State) -> Bool
    var continuation: CheckedContinuation<Bool, Never>
  }

  private struct Content {
    var state: State
    var waiters: [Waiter] = []
    var lastNumber = 0
  }

  private let content: Mutex<Content>

  init(_ state: State) { content = Mutex(Content(state: state)) }

  var now: State { content.withLock { $0.state } }

  func change(_ body: (inout State) -> Void) {
    let ready = content.withLock { content in
      body(&content.state)
      let ready = content.waiters.filter { $0.condition(content.state) }.map { ($0.number, $0.continuation) }
      content.waiters.removeAll { waiter in ready.contains { $0.0 == waiter.number } }
      return ready
    }
    for (_, continuation) in ready { continuation.resume(returning: true) }
  }

  /// False when `condition` does not come true in time.
  func until(seconds: Int = 20, _ condition: @escaping @Sendable (State) -> Bool) async -> Bool {
    await withCheckedContinuation { continuation in
      let number = content.withLock { content -> Int? in
        guard !condition(content.state) else { return nil }
        content.lastNumber += 1
        content.waiters.append(
          Waiter(number: content.lastNumber, condition: condition, continuation: continuation))
        return content.lastNumber
      }
      guard let number else { return continuation.resume(returning: true) }
      Task {
        try await Task.sleep(for: .seconds(seconds))
        self.giveUp(number)
      }
    }
  }

  private func giveUp(_ number: Int) {
    let waiter = content.withLock { content in
      let index = content.waiters.firstIndex { $0.number == number }
      return index.map { content.waiters.remove(at: $0) }
    }
    waiter?.continuation.resume(returning: false)
  }
}

/// For figures that tell nobody when they change. False after twenty seconds.
func eventually(_ condition: () async throws -> Bool) async rethrows -> Bool {
  for _ in 0..<4_000 {
    if try await condition() { return true }
    try? await Task.sleep(for: .milliseconds(5))
  }
  return false
}
