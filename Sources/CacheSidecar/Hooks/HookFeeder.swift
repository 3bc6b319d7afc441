import DequeModule
import Primitives
import SidecarCore
import Synchronization

/// Brings what a lossy hook has read to the sidecar, in the order of the lines, batch after batch: while one is being
/// carried out, the next one grows. Never blocks who offers; beyond the limit lines are dropped and counted.
final class HookFeeder: Sendable {
  /// Batches of different caches that may run side by side.
  private typealias Step = [String: HookBatch]

  private struct State {
    var steps: Deque<Step> = []
    var lineCount = 0
    var isRunning = false
  }

  private let sidecar: Sidecar
  private let hook: HookKind
  private let state = Mutex(State())

  init(sidecar: Sidecar, hook: HookKind) {
    self.sidecar = sidecar
    self.hook = hook
  }

  /// Lines that wait.
  var backlog: Int { state.withLock { $0.lineCount } }

  func offer(_ lines: [(cache: String, key: Bytes, request: EntryRequest)]) {
    let (dropped, mustStart) = state.withLock { state in
      var dropped = 0
      for line in lines {
        guard state.lineCount < Limits.maxHookBacklogLines else {
          dropped += 1
          continue
        }
        state.lineCount += 1
        Self.add(line, to: &state.steps)
      }
      defer { state.isRunning = state.isRunning || !state.steps.isEmpty }
      return (dropped, !state.isRunning && !state.steps.isEmpty)
    }
    if dropped > 0 { sidecar.metrics.countLost(hook, UInt64(dropped)) }
    if mustStart { Task { await run() } }
  }

  private static func add(
    _ line: (cache: String, key: Bytes, request: EntryRequest), to steps: inout Deque<Step>
  ) {
    if !steps.isEmpty {
      let last = steps.count - 1
      if steps[last][line.cache, default: HookBatch()].add(line.key, line.request) { return }
    }
    var batch = HookBatch()
    guard batch.add(line.key, line.request) else { preconditionFailure("an empty batch takes any line") }
    steps.append([line.cache: batch])
  }

  private func run() async {
    while true {
      let step = state.withLock { state -> Step? in
        if state.steps.isEmpty { state.isRunning = false }
        return state.steps.popFirst()
      }
      guard let step else { return }
      for (name, batch) in step {
        guard let cache = sidecar.caches[name] else {
          preconditionFailure("a line for the cache \(name), which has no policy")
        }
        let results = await sidecar.perform(batch.requests, in: cache, hook: hook)
        let failures = results.count { if case .failure = $0 { true } else { false } }
        if failures > 0 { sidecar.metrics.countLost(hook, UInt64(failures)) }
        state.withLock { $0.lineCount -= batch.lineCount }
      }
    }
  }
}
