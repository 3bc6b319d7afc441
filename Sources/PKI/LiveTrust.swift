import Synchronization

/// The trust store in force. Replaced as a whole when files change; whoever judges asks for the current one each time.
package final class LiveTrust: Sendable {
  private let store: Mutex<TrustStore>

  package init(_ store: TrustStore) { self.store = Mutex(store) }

  package var current: TrustStore { store.withLock { $0 } }

  package func replace(_ new: TrustStore) { store.withLock { $0 = new } }
}
