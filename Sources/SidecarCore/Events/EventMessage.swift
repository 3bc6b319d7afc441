import Primitives

/// What the server tells a subscriber, one a line.
package enum EventMessage: Hashable, Sendable {
  case hello(Hello)
  case evict(EvictEvent)
  /// Only to who asked for batches.
  case evictBatch([EvictEvent])
  case cancel(sequence: UInt64, of: UInt64, EntryName, generation: UInt64)
  case heartbeat(head: UInt64, acknowledged: UInt64)
  /// The cursor was older than the journal, which starts at `first`: list what is owed, then go on.
  case gap(first: UInt64)
  case ok(Accepted)
  case failure(Refused)

  package struct Hello: Hashable, Sendable {
    package var version = 1
    package var node: String
    package var epoch: UInt32
    package var first: UInt64
    package var head: UInt64
    /// The subscriber's floor.
    package var acknowledged: UInt64
    package var capabilities = ["batch", "nak", "keep", "cancel"]

    package init(node: String, epoch: UInt32, first: UInt64, head: UInt64, acknowledged: UInt64) {
      self.node = node
      self.epoch = epoch
      self.first = first
      self.head = head
      self.acknowledged = acknowledged
    }
  }

  /// `ok`: which op is done, and what its kind has to say.
  package enum Accepted: Hashable, Sendable {
    /// The subscriber's floor after it.
    case acknowledged(floor: UInt64)
    /// nak (with the wait it got), wip, keep, term.
    case one(op: String, sequence: UInt64, afterMilliseconds: Int64? = nil)
    case plain(op: String)
    case kicked(count: Int)
    case statistics(SubscriberStatistics)
  }

  package struct Refused: Hashable, Sendable {
    package var code: EventErrorCode
    package var message: String
    /// The sequence numbers it concerns, with the generation under which the entry lives if it does.
    package var stale: [StaleEvent]

    package init(_ code: EventErrorCode, _ message: String, stale: [StaleEvent] = []) {
      self.code = code
      self.message = message
      self.stale = stale
    }
  }

  package struct StaleEvent: Hashable, Sendable {
    package var sequence: UInt64
    package var livingGeneration: UInt64?

    package init(sequence: UInt64, livingGeneration: UInt64?) {
      self.sequence = sequence
      self.livingGeneration = livingGeneration
    }
  }

  package static func refused(_ code: EventErrorCode, _ message: String) -> EventMessage {
    .failure(Refused(code, message))
  }
}

/// One delivery of one eviction.
package struct EvictEvent: Hashable, Sendable {
  package var sequence: UInt64
  package var entry: EntryName
  package var generation: UInt64
  package var reason: EvictionReason
  package var sizeBytes: Int64
  package var idleMilliseconds: Int64
  package var registeredAtMilliseconds: Int64
  /// Counts the deliveries of this event to this subscriber from 1.
  package var attempt: Int

  package init(
    sequence: UInt64, entry: EntryName, generation: UInt64, reason: EvictionReason, sizeBytes: Int64,
    idleMilliseconds: Int64, registeredAtMilliseconds: Int64, attempt: Int
  ) {
    self.sequence = sequence
    self.entry = entry
    self.generation = generation
    self.reason = reason
    self.sizeBytes = sizeBytes
    self.idleMilliseconds = idleMilliseconds
    self.registeredAtMilliseconds = registeredAtMilliseconds
    self.attempt = attempt
  }
}

/// How a subscriber stands: the answer to `stat`, and what metrics show.
package struct SubscriberStatistics: Hashable, Sendable {
  package var name: String
  package var isConnected: Bool
  package var isPaused: Bool
  package var head: UInt64
  package var acknowledged: UInt64
  /// Delivered and not acknowledged, or waiting to be delivered again.
  package var unacknowledged: Int
  package var parked: Int
  /// Since this process started.
  package var redelivered: UInt64

  package init(
    name: String, isConnected: Bool, isPaused: Bool, head: UInt64, acknowledged: UInt64, unacknowledged: Int,
    parked: Int, redelivered: UInt64
  ) {
    self.name = name
    self.isConnected = isConnected
    self.isPaused = isPaused
    self.head = head
    self.acknowledged = acknowledged
    self.unacknowledged = unacknowledged
    self.parked = parked
    self.redelivered = redelivered
  }

  /// Sequence numbers between the floor and the head.
  package var lag: UInt64 { head > acknowledged ? head - acknowledged : 0 }
}

extension EvictionReason {
  /// `why` on the event stream.
  package var text: String {
    switch self {
    case .expired: "expired"
    case .deleted: "deleted"
    case .size: "size"
    case .cascade: "cascade"
    }
  }

  package init?(text: String) {
    switch text {
    case "expired": self = .expired
    case "deleted": self = .deleted
    case "size": self = .size
    case "cascade": self = .cascade
    default: return nil
    }
  }
}
