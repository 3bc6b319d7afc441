import EtcdAPI
import Foundation
import Wire

/// Waits until nobody stands before a key in the queue of a lock or an election: for the deletion of the last that came
/// before it, and then for whoever is last by then. Event-loop bound.
final class QueueWait: InnerWatchReader {
  private let calls: InnerCalls
  private let keys: CoordinationKeys
  private let revision: Int64
  private var done: ((GRPCStatus?) -> Void)?
  private var watch: InnerWatch?

  /// - Parameters:
  ///   - revision: At which the own key was created.
  ///   - done: Called once, with an error or when the own key is first. Not after `stop`.
  init(_ calls: InnerCalls, _ keys: CoordinationKeys, revision: Int64, done: @escaping (GRPCStatus?) -> Void) {
    self.calls = calls
    self.keys = keys
    self.revision = revision
    self.done = done
  }

  func start() { look() }

  func stop() {
    done = nil
    watch?.stop()
    watch = nil
  }

  private func end(_ error: GRPCStatus?) {
    let done = done
    stop()
    done?(error)
  }

  private func look() {
    calls.range(keys.last(before: revision)) { answer in
      guard self.done != nil else { return }
      switch answer {
      case .failure(let error): self.end(error)
      case .success(let found):
        guard let predecessor = found.kvs.first else { return self.end(nil) }
        self.wait(for: predecessor.key, since: found.header.revision)
      }
    }
  }

  private func wait(for key: Data, since revision: Int64) {
    let request = EtcdWatchCreateRequest.with {
      $0.key = key
      $0.startRevision = revision
    }
    watch = calls.watch(request, reader: self)
  }

  func changed(_ events: [EtcdEvent], _ header: EtcdResponseHeader) {
    guard done != nil, events.contains(where: { $0.type == .delete }) else { return }
    watch?.stop()
    watch = nil
    look()
  }

  func watchEnded(_ status: GRPCStatus?) {
    watch = nil
    guard done != nil else { return }
    if let status { end(status) } else { look() }
  }

  var pendingBytes: Int { 0 }
  func notifyWhenDrained() {}
}
