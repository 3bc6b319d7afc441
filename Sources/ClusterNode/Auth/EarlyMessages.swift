import NIOCore
import Primitives
import Wire

/// Messages of a stream whose caller is not known yet, because its token is of an entry that this member has yet to
/// apply. Bound to the stream's event loop.
struct EarlyMessages {
  private enum State {
    case unasked
    case waiting([ByteBuffer])
    case known
  }

  private var state = State.unasked

  var isEmpty: Bool {
    if case .waiting(let messages) = state { messages.isEmpty } else { true }
  }

  /// Keeps the message while the caller is not known; false when it may be handled now. `resume` is called later with
  /// the kept ones.
  mutating func keep<Node: NodeHandle>(
    _ message: ByteBuffer, of call: any GRPCCall, _ context: ServiceContext<Node>,
    resume: @escaping @Sendable () -> Void
  ) -> Bool {
    switch state {
    case .known: return false
    case .waiting(var messages):
      guard messages.count < Limits.maxEarlyMessages else {
        call.finish(EtcdErrors.tooManyRequests)
        return true
      }
      messages.append(message)
      state = .waiting(messages)
      return true
    case .unasked:
      guard context.caller(of: call) == nil else {
        state = .known
        return false
      }
      state = .waiting([message])
      context.afterBarrier(UnaryCall(call, requestBytes: 0), resume)
      return true
    }
  }

  /// The kept messages; from here on none is kept.
  mutating func release() -> [ByteBuffer] {
    defer { state = .known }
    if case .waiting(let messages) = state { return messages }
    return []
  }
}
