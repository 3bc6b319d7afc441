import Member
import Primitives
import Synchronization

/// etcd's simple tokens: 16 random letters, a dot, and the index of the log entry that has told every member of them. A
/// member forgets a token that has not been used there for its time to live.
package final class TokenStore: Sendable {
  private struct Entry {
    var user: Bytes
    var endsAt: MonotonicTime
  }

  private struct Contents {
    var entries: [String: Entry] = [:]
    var nextSweep = MonotonicTime(nanoseconds: 0)
  }

  static let prefixLetters = 16
  private static let sweepMilliseconds: Int64 = 1_000
  private static let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)

  private let ttlMilliseconds: Int64
  private let contents = Mutex(Contents())

  package init(ttlMilliseconds: Int64) { self.ttlMilliseconds = ttlMilliseconds }

  package static func randomPrefix() -> Bytes {
    var random = SystemRandomNumberGenerator()
    return Bytes((0..<prefixLetters).map { _ in letters.randomElement(using: &random)! })
  }

  package static func token(prefix: Bytes, index: UInt64) -> String { "\(prefix).\(index)" }

  /// The log index in a token; nil for what cannot be one.
  package static func index(of token: String) -> UInt64? {
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 2, parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    return UInt64(parts[1])
  }

  package var count: Int { contents.withLock { $0.entries.count } }

  /// What the log has said, in order.
  package func take(_ changes: [TokenChange], at now: MonotonicTime) {
    contents.withLock { contents in
      sweep(&contents, at: now)
      for change in changes {
        switch change {
        case .issued(let prefix, let index, let user):
          contents.entries[Self.token(prefix: prefix, index: index)] = Entry(user: user, endsAt: end(from: now))
        case .revoked(let user): contents.entries = contents.entries.filter { $0.value.user != user }
        case .cleared: contents.entries = [:]
        }
      }
    }
  }

  /// Whose token it is; its time begins anew.
  package func use(_ token: String, at now: MonotonicTime) -> Bytes? {
    contents.withLock { contents in
      guard let entry = contents.entries[token] else { return nil }
      guard entry.endsAt > now else {
        contents.entries[token] = nil
        return nil
      }
      contents.entries[token] = Entry(user: entry.user, endsAt: end(from: now))
      return entry.user
    }
  }

  private func end(from now: MonotonicTime) -> MonotonicTime { now.advanced(byMilliseconds: ttlMilliseconds) }

  /// Tokens that nobody comes back for go when others come.
  private func sweep(_ contents: inout Contents, at now: MonotonicTime) {
    guard now >= contents.nextSweep else { return }
    contents.nextSweep = now.advanced(byMilliseconds: Self.sweepMilliseconds)
    contents.entries = contents.entries.filter { $0.value.endsAt > now }
  }
}
