import Member
import Primitives
import StateMachine
import Synchronization

/// Users and roles as this member has applied them, beside the state: asked by every request, from any thread. While
/// users do not count it costs one flag.
package final class AuthGate: Sendable {
  private let enabled: Atomic<Bool>
  private let current: Mutex<AuthState>
  package let tokens: TokenStore

  package init(_ state: AuthState, tokenTTLSeconds: Int64 = 300) {
    enabled = Atomic(state.isEnabled)
    current = Mutex(state)
    tokens = TokenStore(ttlMilliseconds: tokenTTLSeconds * 1_000)
  }

  /// Whether users count.
  package var isEnabled: Bool { enabled.load(ordering: .acquiring) }

  package var state: AuthState { current.withLock { $0 } }

  /// The thread that applies, before it answers anybody.
  package func publish(_ state: AuthState) {
    current.withLock { $0 = state }
    enabled.store(state.isEnabled, ordering: .releasing)
  }
}
