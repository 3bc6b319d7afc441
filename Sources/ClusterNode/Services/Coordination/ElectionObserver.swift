import EtcdAPI
import Foundation
import NIOCore
import Wire

/// A call of Observe: tells who leads, each value that the leader proclaims, and whoever leads next. As in etcd a leader
/// that comes and goes while the observer looks elsewhere may go untold.
final class ElectionObserver<Node: NodeHandle>: GRPCHandler, InnerWatchReader {
  private enum State {
    case idle
    case looking
    /// Nobody leads: the next put under the prefix is told.
    case awaiting
    /// The leader's key is watched.
    case following
    case over
  }

  private let call: any GRPCCall
  private let context: ServiceContext<Node>
  private let calls: InnerCalls
  private var keys = CoordinationKeys(name: Data())
  private var state = State.idle
  private var watch: InnerWatch?

  init(_ call: any GRPCCall, _ context: ServiceContext<Node>, _ registry: GRPCRegistry) {
    self.call = call
    self.context = context
    calls = InnerCalls(registry, for: call)
  }

  func receive(_ message: ByteBuffer) {
    guard case .idle = state else { return }
    if let refusal = context.refusal(of: call) { return end(refusal) }
    do {
      keys = CoordinationKeys(name: try EtcdElectionLeaderRequest(wire: message).name)
      look()
    } catch {
      end(EtcdErrors.undecodable(error, streaming: true))
    }
  }

  func halfClosed() {}

  func cancelled() { close() }

  func writable() { watch?.drained() }

  private func end(_ status: GRPCStatus) {
    close()
    call.finish(status)
  }

  private func close() {
    state = .over
    stopWatch()
  }

  private func stopWatch() {
    watch?.stop()
    watch = nil
  }

  private func look() {
    state = .looking
    stopWatch()
    calls.range(keys.first) { answer in
      guard case .looking = self.state else { return }
      switch answer {
      case .failure(let error): self.end(CoordinationErrors.inner(error))
      case .success(let found):
        if let record = found.kvs.first {
          self.follow(record, found.header)
        } else {
          self.awaitLeader(since: found.header.revision)
        }
      }
    }
  }

  private func awaitLeader(since revision: Int64) {
    state = .awaiting
    watch = calls.watch(
      .with {
        $0.key = keys.prefix
        $0.rangeEnd = keys.end
        $0.startRevision = revision
        $0.filters = [.nodelete]
      }, reader: self)
  }

  private func follow(_ record: EtcdKeyValue, _ header: EtcdResponseHeader) {
    state = .following
    stopWatch()
    tell(record, header)
    watch = calls.watch(
      .with {
        $0.key = record.key
        $0.startRevision = header.revision + 1
      }, reader: self)
  }

  private func tell(_ record: EtcdKeyValue, _ header: EtcdResponseHeader) {
    call.send(EtcdElectionLeaderResponse(header, record).wireBuffer)
  }

  // MARK: InnerWatchReader

  func changed(_ events: [EtcdEvent], _ header: EtcdResponseHeader) {
    // A batch may hold several revisions; each is told as its own.
    var header = header
    switch state {
    case .idle, .looking, .over: return
    case .awaiting:
      guard let event = events.first(where: { $0.type == .put }) else { return }
      header.revision = event.kv.modRevision
      follow(event.kv, header)
    case .following:
      for event in events {
        if event.type == .delete { return look() }
        header.revision = event.kv.modRevision
        tell(event.kv, header)
      }
    }
  }

  func watchEnded(_ status: GRPCStatus?) {
    watch = nil
    if case .over = state { return }
    if let status { end(CoordinationErrors.inner(status)) } else { look() }
  }

  var pendingBytes: Int { call.pendingBytes }
  func notifyWhenDrained() { call.notifyWhenDrained() }
}
