import EtcdAPI
import NIOCore
import SwiftProtobuf
import Wire

/// Calls of this member's own methods for a client's call, with its metadata and thereby with its rights: what etcd's
/// lock and election services do by a client inside of the server. They are not counted as calls.
struct InnerCalls {
  /// What a method may ask for.
  private static let passedOn = ["token", "authorization", "hasleader", "client-api-version"]

  let eventLoop: any EventLoop
  private let registry: GRPCRegistry
  private let context: LocalCall.Context

  init(_ registry: GRPCRegistry, for call: any GRPCCall) {
    self.registry = registry
    eventLoop = call.eventLoop
    var metadata: [String: String] = [:]
    for name in Self.passedOn { metadata[name] = call.metadata(name) }
    context = LocalCall.Context(metadata: metadata, peerCommonName: call.peerCommonName)
  }

  /// `then` is called once, on the event loop, perhaps before this returns.
  func ask<Request: Message, Response: Message>(
    _ path: String, _ request: Request, then: @escaping (Result<Response, GRPCStatus>) -> Void
  ) {
    let call = LocalCall(path, of: registry, context, on: eventLoop, caller: InnerQuestion(then))
    call.send(request: request.wireBuffer)
    call.end()
  }

  func transact(_ request: EtcdTxnRequest, then: @escaping (Result<EtcdTxnResponse, GRPCStatus>) -> Void) {
    ask("/etcdserverpb.KV/Txn", request, then: then)
  }

  func range(_ request: EtcdRangeRequest, then: @escaping (Result<EtcdRangeResponse, GRPCStatus>) -> Void) {
    ask("/etcdserverpb.KV/Range", request, then: then)
  }

  func delete(
    _ request: EtcdDeleteRangeRequest, then: @escaping (Result<EtcdDeleteRangeResponse, GRPCStatus>) -> Void
  ) {
    ask("/etcdserverpb.KV/DeleteRange", request, then: then)
  }

  /// The lease that a request names, or a new one.
  func lease(_ id: Int64, then: @escaping (Result<Int64, GRPCStatus>) -> Void) {
    guard id == 0 else { return then(.success(id)) }
    let request = EtcdLeaseGrantRequest.with { $0.ttl = Self.newLeaseSeconds }
    ask("/etcdserverpb.Lease/LeaseGrant", request) { (answer: Result<EtcdLeaseGrantResponse, GRPCStatus>) in
      then(answer.map(\.id))
    }
  }

  /// What etcd gives to a caller without a lease. Nobody renews it but the caller.
  private static let newLeaseSeconds: Int64 = 60

  /// Starts a watch. It goes on until `InnerWatch.stop`, or until it ends by itself.
  func watch(_ request: EtcdWatchCreateRequest, reader: any InnerWatchReader) -> InnerWatch {
    let watch = InnerWatch(reader)
    let call = LocalCall("/etcdserverpb.Watch/Watch", of: registry, context, on: eventLoop, caller: watch)
    watch.call = call
    call.send(request: EtcdWatchRequest.with { $0.createRequest = request }.wireBuffer)
    return watch
  }
}

/// Waits for the answer to one question.
private final class InnerQuestion<Response: Message>: LocalCaller {
  private let then: (Result<Response, GRPCStatus>) -> Void
  private var message: ByteBuffer?

  init(_ then: @escaping (Result<Response, GRPCStatus>) -> Void) { self.then = then }

  func received(_ message: ByteBuffer) { self.message = message }

  func finished(_ status: GRPCStatus) {
    guard status == .ok, let message else { return then(.failure(status)) }
    do {
      then(.success(try Response(wire: message)))
    } catch {
      then(.failure(EtcdErrors.undecodable(error, streaming: false)))
    }
  }
}

protocol InnerWatchReader: AnyObject {
  func changed(_ events: [EtcdEvent], _ header: EtcdResponseHeader)
  /// The watch is over. Nil: its place in history has been compacted away, and looking again helps.
  func watchEnded(_ status: GRPCStatus?)
  /// What the reader's own client has not taken.
  var pendingBytes: Int { get }
  func notifyWhenDrained()
}

/// A watch of one range. Holds itself until it is over.
final class InnerWatch: LocalCaller {
  fileprivate var call: LocalCall?
  private weak var reader: (any InnerWatchReader)?

  init(_ reader: any InnerWatchReader) { self.reader = reader }

  func stop() {
    reader = nil
    call?.cancel()
    call = nil
  }

  func drained() { call?.drained() }

  var pendingBytes: Int { reader?.pendingBytes ?? 0 }
  func notifyWhenDrained() { reader?.notifyWhenDrained() }

  func received(_ message: ByteBuffer) {
    guard let reader, let answer = try? EtcdWatchResponse(wire: message) else { return }
    if answer.canceled {
      stop()
      let reason = answer.cancelReason
      return reader.watchEnded(answer.compactRevision > 0 ? nil : GRPCStatus(.failedPrecondition, reason))
    }
    if !answer.events.isEmpty { reader.changed(answer.events, answer.header) }
  }

  func finished(_ status: GRPCStatus) {
    let reader = reader
    stop()
    reader?.watchEnded(status)
  }
}
