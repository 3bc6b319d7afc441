import Primitives
import Raft
import SidecarCore

/// A consumer of evictions that deletes blobs: now and then it refuses, takes long, vetoes, gives up, or dies.
struct Consumer {
  enum Step {
    case connect
    /// A message, on the connection that it came by.
    case told(EventMessage, connection: UInt64)
    /// What was delivered is done with, in this process's life.
    case done(UInt64, life: Int)
  }

  let subscription: Subscription
  private(set) var connection: UInt64?
  private(set) var life = 0
  private var connections: UInt64 = 0
  /// Deleted, or found cancelled: whatever comes of it again is acknowledged at once.
  var finished: Set<UInt64> = []
  /// Told and not finished.
  var open: Set<UInt64> = []

  init(_ subscription: Subscription) { self.subscription = subscription }

  mutating func connected() -> UInt64 {
    connections += 1
    connection = connections
    return connections
  }

  /// Its blobs stay as they are; what it was about to do is forgotten.
  mutating func died() {
    life += 1
    disconnected()
  }

  mutating func disconnected() { connection = nil }

  static var all: [Consumer] {
    var janitor = Subscription(name: "janitor")
    janitor.inflight = 8
    janitor.batch = 4
    janitor.ackWaitMilliseconds = 1_000
    var mirror = Subscription(name: "mirror")
    mirror.cache = "c"
    mirror.inflight = 3
    mirror.ackWaitMilliseconds = 1_500
    return [Consumer(janitor), Consumer(mirror)]
  }
}

extension World {
  // MARK: From the hub

  /// Over a socket: in order, and lost with its connection.
  func tell(_ name: String, _ connection: UInt64, _ message: EventMessage) {
    guard let place = consumers.firstIndex(where: { $0.subscription.name == name }) else { return }
    schedule(.consumer(place, .told(message, connection: connection)), afterMicroseconds: 100)
  }

  func closed(_ name: String, _ connection: UInt64) {
    for place in consumers.indices where consumers[place].subscription.name == name {
      if consumers[place].connection == connection { consumers[place].disconnected() }
    }
  }

  // MARK: What the consumer does

  func consumerActs(_ place: Int, _ step: Consumer.Step) {
    switch step {
    case .connect:
      schedule(.consumer(place, .connect), afterMilliseconds: random(200, 600))
      // What it has given up, and what was tried too often, comes back.
      if random(0, 3) == 0 { ask(.kick, by: consumers[place].subscription.name, place) }
      guard consumers[place].connection == nil, let hub else { return }
      let subscription = consumers[place].subscription
      hub.attach(subscription, connection: consumers[place].connected())
    case .told(let message, let connection):
      guard consumers[place].connection == connection else { return }
      consumerIsTold(place, message)
    case .done(let sequence, let life):
      guard consumers[place].life == life else { return }
      consumers[place].open.remove(sequence)
      consumers[place].finished.insert(sequence)
      acknowledge(sequence, place)
    }
  }

  private func consumerIsTold(_ place: Int, _ message: EventMessage) {
    switch message {
    case .evictBatch(let events):
      for event in events where consumers[place].connection != nil { consider(event, place) }
    case .evict(let event): consider(event, place)
    case .cancel(let sequence, let of, _, _):
      cacheOracle.isCancelled(sequence, at: consumers[place].subscription.name)
      consumers[place].open.remove(of)
      consumers[place].finished.insert(of)
      consumers[place].finished.insert(sequence)
      ask(.acknowledge(.only([sequence]), blobIsGone: false), by: consumers[place].subscription.name, place)
    case .gap(let first):
      oracle.violate("\(consumers[place].subscription.name) has missed everything before \(first)")
    case .hello, .heartbeat, .ok, .failure: break
    }
  }

  private func consider(_ event: EvictEvent, _ place: Int) {
    let name = consumers[place].subscription.name
    let sequence = event.sequence
    if consumers[place].finished.contains(sequence) { return acknowledge(sequence, place) }
    consumers[place].open.insert(sequence)
    let done = Happening.consumer(place, .done(sequence, life: consumers[place].life))
    switch faults.isOver ? 99 : random(0, 99) {
    case ..<6:
      // The back-off of its own grows with the tries, far beyond the time that is simulated.
      ask(.nak(sequence, afterMilliseconds: event.attempt > 3 ? random(100, 2_000) : nil), by: name, place)
    case ..<10:
      ask(.working(sequence), by: name, place)
      schedule(done, afterMilliseconds: random(500, 1_400))
    case ..<13: ask(.keep(sequence, ttlMilliseconds: nil), by: name, place)
    case ..<15:
      ask(.terminate(sequence, why: ""), by: name, place)
    case ..<18:
      // The blob is gone, whatever has become of the entry.
      consumers[place].open.remove(sequence)
      consumers[place].finished.insert(sequence)
      cacheOracle.acknowledges([sequence], as: name, goneEntry: event.entry)
      ask(.acknowledge(.only([sequence]), blobIsGone: true), by: name, place)
    case ..<22:
      let connection = consumers[place].connection!
      consumers[place].died()
      hub?.detach(name, connection: connection)
    default: schedule(done, afterMilliseconds: random(1, 150))
    }
  }

  private func acknowledge(_ sequence: UInt64, _ place: Int) {
    let name = consumers[place].subscription.name
    cacheOracle.acknowledges([sequence], as: name, goneEntry: nil)
    let isCumulative = (consumers[place].open.min() ?? .max) > sequence && Bool.random(using: &generator)
    ask(.acknowledge(isCumulative ? .through(sequence) : .only([sequence]), blobIsGone: false), by: name, place)
  }

  private func ask(_ op: SubscriberOp, by name: String, _ place: Int) {
    guard let connection = consumers[place].connection, let hub else { return }
    hub.sidecar.after(microseconds: 100) { [unowned hub] in hub.perform(op, by: name, connection: connection) }
  }
}
