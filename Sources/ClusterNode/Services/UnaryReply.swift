import EtcdAPI
import NIOCore
import StateMachine
import SwiftProtobuf
import Wire

/// The answer that one unary call still owes. Bound to the call's event loop; it crosses threads only inside
/// completions that run on that loop.
struct UnaryReply<Response: Message>: @unchecked Sendable {
  private let call: any GRPCCall
  /// Size of the request as it came.
  let requestBytes: Int

  init(_ call: any GRPCCall, requestBytes: Int) {
    self.call = call
    self.requestBytes = requestBytes
  }

  var eventLoop: any EventLoop { call.eventLoop }

  /// The client is gone: work for it is wasted.
  var isOver: Bool { call.isOver }

  func succeed(_ response: Response) { call.reply(response.wireBuffer) }

  func fail(_ status: GRPCStatus) { call.finish(status) }

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
  /// Registers a unary method: decodes the request, refuses what cannot be served, and leaves the rest to `serve`.
  mutating func serve<Request: Message, Response: Message>(
    _ path: String, _ context: ServiceContext<some NodeHandle>,
    _ serve: @escaping @Sendable (Request, UnaryReply<Response>) -> Void
  ) {
    unary(path) { message, call in
      if let refusal = context.refusal(of: call) {
        call.finish(refusal)
        return
      }
      do {
        let request = try Request(wire: message)
        serve(request, UnaryReply(call, requestBytes: message.readableBytes))
      } catch {
        call.finish(EtcdErrors.undecodable(error, streaming: false))
      }
    }
  }
}

extension ServiceContext {
  /// Proposes one command and answers with what `respond` makes of its result.
  func propose<Response>(
    _ command: Command, _ reply: UnaryReply<Response>, _ respond: @escaping @Sendable (CommandResult) -> Response
  ) {
    node.propose([command], on: reply.eventLoop) { outcome in
      reply.answer { () throws(GRPCStatus) in
        switch outcome {
        case .failure(let error):
          self.metrics.proposalsFailed.add()
          throw EtcdErrors.status(for: error)
        case .success(let results):
          guard let result = results.first else { preconditionFailure("a command came back without a result") }
          if case .refused(let error) = result { throw EtcdErrors.status(for: error) }
          return respond(result)
        }
      }
    }
  }

  /// Answers with what `respond` reads once the applied state is as new as everything acknowledged so far.
  func afterBarrier<Response>(
    _ reply: UnaryReply<Response>, _ respond: @escaping @Sendable () throws(GRPCStatus) -> Response
  ) {
    node.readBarrier(on: reply.eventLoop) { outcome in
      guard !reply.isOver else { return }
      reply.answer { () throws(GRPCStatus) in
        if case .failure(let error) = outcome { throw EtcdErrors.status(for: error) }
        return try respond()
      }
    }
  }
}
