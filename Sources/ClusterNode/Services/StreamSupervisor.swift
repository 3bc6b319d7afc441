import NIOCore
import Primitives
import Synchronization
import Wire

/// A stream that may have to end although neither its client nor its service wants it to.
protocol SupervisedStream: AnyObject {
  var call: any GRPCCall { get }
  /// Ends it, on its call's event loop.
  func end(_ status: GRPCStatus)
}

/// The long-lived streams of one event loop. They end when this member may no longer serve (its state is not the
/// cluster's), and, for clients that have asked for that by the metadata `hasleader`, when it has had no leader for some
/// time (etcd's `monitorLeader`).
///
/// Bound to its event loop.
final class StreamSupervisor<Node: NodeHandle>: @unchecked Sendable {
  /// As in etcd: looked at each election time-out, given up the third time that there is no leader.
  private static var patience: Int { 3 }

  private struct Entry {
    weak var stream: (any SupervisedStream)?
    var needsLeader: Bool
  }

  private let context: ServiceContext<Node>
  private let eventLoop: any EventLoop
  private var entries: [Entry] = []
  private var timesWithoutLeader = 0
  private var timer: RepeatedTask?

  init(_ context: ServiceContext<Node>, on eventLoop: any EventLoop) {
    self.context = context
    self.eventLoop = eventLoop
  }

  func add(_ stream: any SupervisedStream) {
    entries.append(Entry(stream: stream, needsLeader: stream.call.hasMetadata("hasleader", "true")))
    guard timer == nil else { return }
    let interval = TimeAmount.milliseconds(context.settings.electionTimeoutMilliseconds)
    timer = eventLoop.scheduleRepeatedTask(initialDelay: interval, delay: interval) { [self] _ in look() }
  }

  private func look() {
    entries.removeAll { $0.stream?.call.isOver ?? true }
    guard !entries.isEmpty else {
      timer?.cancel()
      timer = nil
      timesWithoutLeader = 0
      return
    }
    if context.node.isCorrupt {
      end(EtcdErrors.corrupt) { _ in true }
      return
    }
    timesWithoutLeader = context.node.status.leaderID == 0 ? timesWithoutLeader + 1 : 0
    if timesWithoutLeader >= Self.patience { end(EtcdErrors.noLeader) { $0.needsLeader } }
  }

  private func end(_ status: GRPCStatus, _ isConcerned: (Entry) -> Bool) {
    for entry in entries where isConcerned(entry) { entry.stream?.end(status) }
  }
}

/// One supervisor for each event loop, made when its first stream comes.
final class StreamSupervisors<Node: NodeHandle>: Sendable {
  private let supervisors = Mutex<[ObjectIdentifier: StreamSupervisor<Node>]>([:])

  func supervisor(_ context: ServiceContext<Node>, on eventLoop: any EventLoop) -> StreamSupervisor<Node> {
    supervisors.withLock { supervisors in
      let key = ObjectIdentifier(eventLoop)
      if let known = supervisors[key] { return known }
      let made = StreamSupervisor(context, on: eventLoop)
      supervisors[key] = made
      return made
    }
  }
}

extension ServiceContext {
  /// Watches over a stream whose first message has been let in. On its event loop.
  func supervise(_ stream: any SupervisedStream) {
    supervisors.supervisor(self, on: stream.call.eventLoop).add(stream)
  }
}
