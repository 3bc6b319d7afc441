import StateMachine
import Wire

// Proposals while users count.

extension ServiceContext {
  /// Calls `propose` with the commands under the name of the call's caller; what the caller may do is decided when they
  /// are applied. Nobody's commands do not reach the log: they are refused, unless users have ceased to count
  /// meanwhile elsewhere.
  func authored(_ commands: [Command], _ call: UnaryCall, _ propose: @escaping @Sendable ([Command]) -> Void) {
    guard node.auth.isEnabled else { return propose(commands) }
    switch call.caller {
    case .user(let stamp): propose(commands.map { .authored(.user(stamp), $0) })
    case .impostor: call.fail(EtcdErrors.invalidAuthToken)
    case .nobody, .anyone:
      afterBarrier(call) {
        if self.node.auth.isEnabled { call.fail(EtcdErrors.userEmpty) } else { propose(commands) }
      }
    }
  }

  /// For changes that members also make by themselves, which therefore are not judged where they are applied: calls
  /// `then` for a caller with the root role, by users and roles that are no older than the call.
  func afterRootCheck(_ call: UnaryCall, _ then: @escaping @Sendable (UnaryCall) -> Void) {
    afterBarrier(call) {
      self.identify(call) { identified in
        do throws(GRPCStatus) { try self.authorize(identified.caller, .root) } catch {
          return identified.fail(error)
        }
        then(identified)
      }
    }
  }
}
