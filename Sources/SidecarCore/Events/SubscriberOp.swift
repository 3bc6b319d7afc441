import Primitives

/// What a subscriber asks for, one a line.
package enum SubscriberOp: Hashable, Sendable {
  case subscribe(Subscription)
  /// `blobIsGone`: the consumer has deleted the blob, even if the entry lives again meanwhile.
  case acknowledge(AcknowledgedSequences, blobIsGone: Bool)
  /// Not now: again after `afterMilliseconds` (nil: a back-off that grows with the tries).
  case nak(UInt64, afterMilliseconds: Int64?)
  /// Still working on it: the wait for the acknowledgement starts again.
  case working(UInt64)
  /// Veto: the entry lives on, with this TTL (nil: its policy's).
  case keep(UInt64, ttlMilliseconds: Int64?)
  /// Gives the event up: it is parked until `kick`.
  case terminate(UInt64, why: String)
  case stat
  case pause
  case resume
  case unsubscribe(forget: Bool)
  /// Brings parked events back.
  case kick
}

package enum AcknowledgedSequences: Hashable, Sendable {
  /// Everything up to and with this one, except what is parked.
  case through(UInt64)
  case only([UInt64])
}

/// The arguments of `sub`.
package struct Subscription: Hashable, Sendable {
  package enum Start: Hashable, Sendable {
    /// Everything still owed.
    case oldest
    /// What comes from now on.
    case now
  }

  package static let inflightRange = 1...65_536
  package static let batchRange = 1...1_000
  package static let ackWaitMillisecondsRange: ClosedRange<Int64> = 100...604_800_000

  package var name: String
  package var cache: String?
  /// Most events delivered and not acknowledged.
  package var inflight = 256
  /// Most events on one line; 1: the plain form without `items`.
  package var batch = 1
  package var ackWaitMilliseconds: Int64 = 60_000
  /// Counts for a name never seen before.
  package var start = Start.oldest

  package init(name: String) { self.name = name }

  package var scope: SubscriberScope { cache.map { .cache($0) } ?? .allCaches }

  /// Letters, digits and `. _ - : @`, at most `Limits.maxSubscriberNameBytes`: a name is part of a store key and a
  /// metric's label.
  package static func isValidName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= Limits.maxSubscriberNameBytes
      && name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: ".-_:@".utf8.contains(byte)
        }
      }
  }
}

/// Why a line could not be understood; it answers the line as `err`.
package struct OpFailure: Error, Hashable, Sendable {
  package var code: EventErrorCode
  package var message: String

  package init(_ code: EventErrorCode, _ message: String) {
    self.code = code
    self.message = message
  }
}

/// The codes of `err`.
package enum EventErrorCode: String, Hashable, Sendable {
  /// The event is not this subscriber's to answer any more: the entry lives again, or it was never delivered.
  case stale
  /// The connection has not subscribed, or may not as it asked.
  case nosub
  /// A newer connection has taken the name.
  case fenced
  /// The line is too long; the connection is closed.
  case toolong
  /// The line is no JSON object, or a field of it is wrong.
  case badjson
  /// Nothing of this name can be asked for, or its arguments in the short form are wrong.
  case unknownOp = "unknown-op"
  /// The store did not take it; nothing has been acknowledged. Ask again.
  case unavailable
}
