import EtcdAPI
import NIOCore
import StateMachine
import SwiftProtobuf
import Wire

/// One unary call that is still to be answered. Bound to the call's event loop; it crosses threads only inside
/// completions that run on that loop.
struct UnaryCall: @unchecked Sendable {
  private let call: any GRPCCall
  /// Size of the request as it came.
  let requestBytes: Int
  /// Known when the method is called.
  var caller = Caller.anyone

  init(_ call: any GRPCCall, requestBytes: Int) {
    self.call = call
    self.requestBytes = requestBytes
  }

  /// See `ServiceContext.caller(of:)`.
  func caller(in context: ServiceContext<some NodeHandle>) -> Caller? { context.caller(of: call) }

  var eventLoop: any EventLoop { call.eventLoop }

  /// The client is gone: work for it is wasted.
  var isOver: Bool { call.isOver }

  func succeed(_ answer: ByteBuffer) { call.reply(answer) }

  /// With a message that is made while it is taken.
  func succeed(_ answer: any GRPCMessageSource) { call.reply(answer) }

  func fail(_ status: GRPCStatus) { call.finish(status) }
}

/// The answer that one unary call still owes, as a generated message.
struct UnaryReply<Response: Message>: Sendable {
  let call: UnaryCall

  func succeed(_ response: Response) { call.succeed(response.wireBuffer) }

  func fail(_ status: GRPCStatus) { call.fail(status) }

  /// Answers with what `body` makes, or with what it throws.
  func answer(_ body: () throws(GRPCStatus) -> Response) {
    do throws(GRPCStatus) {
      succeed(try body())
    } catch {
      fail(error)
    }
  }
}

extension GRPCRegistry {
  /// Registers a unary method: refuses what cannot be served, and leaves the rest to `serve`, whose error is that the
  /// request cannot be decoded.
  /// - Parameters:
  ///   - onLearners: a learner serves the method, too, or some of its requests.
  ///   - access: what is asked of the caller before `serve`, while users count. Whoever says `.open` sees to it that
  ///     the request itself is judged, here or where it is applied.
  mutating func serve<Failure: Error>(
    _ path: String, _ context: ServiceContext<some NodeHandle>, onLearners: Bool = false, access: Access = .root,
    _ serve: @escaping @Sendable (ByteBuffer, UnaryCall) throws(Failure) -> Void
  ) {
    @Sendable func answer(_ message: ByteBuffer, _ call: UnaryCall) {
      do {
        try serve(message, call)
      } catch {
        call.fail(EtcdErrors.undecodable(error, streaming: false))
      }
    }
    unary(path) { message, call in
      if let refusal = context.refusal(of: call, onLearners: onLearners) {
        call.finish(refusal)
        return
      }
      let unary = UnaryCall(call, requestBytes: message.readableBytes)
      guard context.node.auth.isEnabled else { return answer(message, unary) }
      context.identify(unary) { identified in
        do throws(GRPCStatus) {
          try context.authorize(identified.caller, access)
        } catch {
          return identified.fail(error)
        }
        answer(message, identified)
      }
    }
  }

  /// As above, by generated messages.
  mutating func serve<Request: Message, Response: Message>(
    _ path: String, _ context: ServiceContext<some NodeHandle>, onLearners: Bool = false, access: Access = .root,
    _ serve: @escaping @Sendable (Request, UnaryReply<Response>) -> Void
  ) {
    self.serve(path, context, onLearners: onLearners, access: access) { message, call in
      serve(try Request(wire: message), UnaryReply(call: call))
    }
  }
}

extension ServiceContext {
  /// Proposes one command and answers with what `encode` makes of its result. `encode` should capture nothing: it is
  /// given all it needs.
  func propose(
    _ command: Command, _ call: UnaryCall, _ encode: @escaping @Sendable (ServiceContext, CommandResult) -> ByteBuffer
  ) {
    guard node.auth.isEnabled else { return propose(authored: command, call, encode) }
    authored([command], call) { self.propose(authored: $0[0], call, encode) }
  }

  private func propose(
    authored command: Command, _ call: UnaryCall,
    _ encode: @escaping @Sendable (ServiceContext, CommandResult) -> ByteBuffer
  ) {
    node.propose([command], on: call.eventLoop) { outcome in
      switch outcome {
      case .failure(let error):
        self.metrics.proposalsFailed.add()
        call.fail(EtcdErrors.status(for: error))
      case .success(let results):
        guard let result = results.first else { preconditionFailure("a command came back without a result") }
        if case .refused(let error) = result {
          call.fail(EtcdErrors.status(for: error))
        } else {
          call.succeed(encode(self, result))
        }
      }
    }
  }

  /// As above, by generated messages.
  func propose<Response>(
    _ command: Command, _ reply: UnaryReply<Response>, _ respond: @escaping @Sendable (CommandResult) -> Response
  ) {
    propose(command, reply.call) { _, result in respond(result).wireBuffer }
  }

  /// Calls `serve` once the applied state is as new as everything acknowledged so far; not for a client that is gone.
  func afterBarrier(_ call: UnaryCall, _ serve: @escaping @Sendable () -> Void) {
    node.readBarrier(on: call.eventLoop) { outcome in
      guard !call.isOver else { return }
      if case .failure(let error) = outcome {
        call.fail(EtcdErrors.status(for: error))
      } else {
        serve()
      }
    }
  }

  /// Answers with what `respond` reads once the applied state is as new as everything acknowledged so far.
  /// - Parameter access: asked of the caller once more, by that state.
  func afterBarrier<Response>(
    _ reply: UnaryReply<Response>, access: Access = .open,
    _ respond: @escaping @Sendable () throws(GRPCStatus) -> Response
  ) {
    afterBarrier(reply.call) {
      reply.answer { () throws(GRPCStatus) in
        try self.authorize(reply.call.caller, access)
        return try respond()
      }
    }
  }
}
