import NIOCore
import StateMachine
import Synchronization

package typealias ReadOutcome = Result<Void, ProposalError>

/// Readers that wait until their reads are linearizable and share one question: everybody who came before it was asked.
struct ReadGroup: Sendable {
  private var loops: [(loop: any EventLoop, readers: [@Sendable (ReadOutcome) -> Void])] = []

  var isEmpty: Bool { loops.isEmpty }

  fileprivate mutating func add(_ reader: @escaping @Sendable (ReadOutcome) -> Void, on loop: any EventLoop) {
    if let known = loops.firstIndex(where: { $0.loop === loop }) {
      loops[known].readers.append(reader)
    } else {
      loops.append((loop, [reader]))
    }
  }

  /// One hop per event loop.
  func answer(_ outcome: ReadOutcome) {
    for (loop, readers) in loops {
      loop.execute {
        for reader in readers { reader(outcome) }
      }
    }
  }
}

/// Where readers gather until the raft thread takes them all at once.
final class ReadBarriers: Sendable {
  private enum State: Sendable {
    case open(ReadGroup)
    case stopped
  }

  private let state = Mutex(State.open(ReadGroup()))

  /// - Returns: whether the raft thread has to be told, because this reader is the first.
  func add(_ reader: @escaping @Sendable (ReadOutcome) -> Void, on loop: any EventLoop) -> Bool {
    let isFirst: Bool? = state.withLock { state in
      guard case .open(var group) = state else { return nil }
      // Moved out, or adding to it would copy it.
      state = .open(ReadGroup())
      defer { state = .open(group) }
      let isFirst = group.isEmpty
      group.add(reader, on: loop)
      return isFirst
    }
    guard let isFirst else {
      loop.execute { reader(.failure(.stopped)) }
      return false
    }
    return isFirst
  }

  func takeAll() -> ReadGroup {
    state.withLock { state in
      guard case .open(let group) = state else { return ReadGroup() }
      state = .open(ReadGroup())
      return group
    }
  }

  /// Later readers are refused at once.
  func stop() -> ReadGroup {
    state.withLock { state in
      guard case .open(let group) = state else { return ReadGroup() }
      state = .stopped
      return group
    }
  }
}
