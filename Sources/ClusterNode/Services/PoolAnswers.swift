import NIOPosix
import SwiftProtobuf
import Wire

extension ServiceContext {
  /// Answers with what `body` makes on a thread of the pool: for work that would keep an event loop from its other
  /// connections.
  func answerFromPool<Response>(
    _ reply: UnaryReply<Response>, _ body: @escaping @Sendable () throws(GRPCStatus) -> Response
  ) {
    let loop = reply.call.eventLoop
    NIOThreadPool.singleton.submit { _ in
      let result = Result { () throws(GRPCStatus) in try body() }
      loop.execute { reply.answer { () throws(GRPCStatus) in try result.get() } }
    }
  }
}
