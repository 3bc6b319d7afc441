import Member
import Primitives
import SidecarCore

/// One named subscriber at work: feeds `SubscriberState` with what happens, in order, and does what it says.
final class HubSubscriber {
  private unowned let hub: SidecarHub
  private var state: SubscriberState
  private var lastRequest: UInt64 = 0
  private var pending: [(event: SubscriberEvent, checkedAt: Int64)] = []
  private var isProcessing = false

  init(_ name: String, _ record: SubscriberRecord, _ hub: SidecarHub, seed: UInt64) {
    self.hub = hub
    state = SubscriberState(name: name, record: record, bounds: hub.journal.bounds, seed: seed)
  }

  private var sidecar: SimulatedSidecar { hub.sidecar }
  private var world: World { sidecar.world }

  func attach(_ subscription: Subscription, connection: UInt64) {
    process(
      .attached(connection: connection, subscription, .stream, node: "m\(sidecar.member.id)", hub.journal.bounds))
  }

  func perform(_ op: SubscriberOp, connection: UInt64) {
    guard state.connection == connection else { return }
    world.trace.note(world.now, "m\(sidecar.member.id) \(state.name) says \(op)")
    lastRequest += 1
    process(.op(op, request: lastRequest))
  }

  func tick() { if state.needsClock { process(.clock) } }

  /// - Parameter checkedAt: true time since when what is delivered now is known to be due.
  func process(_ event: SubscriberEvent, checkedAt: Int64 = .max) {
    pending.append((event, checkedAt))
    guard !isProcessing else { return }
    isProcessing = true
    while !pending.isEmpty {
      let (event, checkedAt) = pending.removeFirst()
      var actions: [SubscriberAction] = []
      state.step(event, at: sidecar.now, into: &actions)
      for action in actions {
        world.trace.note(world.now, "m\(sidecar.member.id) \(state.name): \(action)")
        carryOut(action, checkedAt: checkedAt)
      }
    }
    isProcessing = false
  }

  private func carryOut(_ action: SubscriberAction, checkedAt: Int64) {
    switch action {
    case .send(let connection, let message): world.tell(state.name, connection, message)
    case .deliver(let connection, let events, _):
      for event in events { world.cacheOracle.delivers(event, to: state.name, checkedAt: checkedAt, world) }
      world.tell(state.name, connection, .evictBatch(events))
    case .answer(_, let message):
      if let connection = state.connection { world.tell(state.name, connection, message) }
    case .read(let from, let limit, let scope): read(from: from, limit: limit, scope)
    case .verify(let evictions):
      let asked = world.now
      hub.areDue(evictions) { [unowned self] result in
        switch result {
        case .failure: process(.readFailed)
        case .success(let due):
          process(.verified(notDue: Set(evictions.map(\.sequence)).subtracting(due)), checkedAt: asked)
        }
      }
    case .settle(let settlement):
      hub.enqueue(
        .settle(state.name, settlement) { [unowned self] result in
          switch result {
          case .success(let stale): process(.settled(settlement, stale: stale))
          case .failure: process(.unsettled(settlement))
          }
        })
    case .keep(let request, let sequence, let entry, _):
      guard let entry else { return process(.kept(request: request, sequence: sequence, .unknown)) }
      sidecar.requests.keep(entry, sequence: sequence) { [unowned self] outcome in
        process(.kept(request: request, sequence: sequence, outcome))
      }
    case .close(let connection, _): world.closed(state.name, connection)
    case .forget: world.oracle.violate("nobody asks to be forgotten")
    }
  }

  private func read(from: UInt64, limit: Int, _ scope: SubscriberScope) {
    hub.journal.items(from: from, limit: limit) { [unowned self] result in
      guard case .success(let items) = result else { return process(.readFailed) }
      let asked = world.now
      let evictions = items.compactMap { $0.1.eviction(sequence: $0.0) }.filter { scope.includes($0.entry.cache) }
      hub.areDue(evictions) { [unowned self] result in
        guard case .success(var due) = result else { return process(.readFailed) }
        if sidecar.mistake == .skipsDeliveries, let unlucky = due.min() { due.remove(unlucky) }
        process(
          .read(items.map { JournalReading(sequence: $0.0, item: $0.1, isDue: due.contains($0.0)) }), checkedAt: asked)
      }
    }
  }
}
