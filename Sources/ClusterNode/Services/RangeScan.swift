import Keyspace
import NIOCore
import NIOPosix
import Primitives
import Wire

/// A range's answer, ready for the wire.
enum RangePayload {
  case whole(ByteBuffer)
  case inParts(RangeParts)

  /// From here on an answer is made in parts as the client takes them.
  private static let largeAnswerBytes = 512 * 1024
  /// What etcd lets grpc-go send at most.
  private static let maxAnswerBytes = Int(Int32.max)

  init(_ result: RangeResult, header: AnswerHeader) throws(GRPCStatus) {
    let answer = RangeAnswer(header: header, result: result)
    let size = answer.size
    guard size >= Self.largeAnswerBytes else {
      self = .whole(answer.wireBuffer(size: size))
      return
    }
    try self.init(RangeParts(answer, size: size))
  }

  init(_ parts: RangeParts) throws(GRPCStatus) {
    let size = parts.byteCount
    guard size <= Self.maxAnswerBytes else {
      throw GRPCStatus(
        .resourceExhausted, "grpc: trying to send message larger than max (\(size) vs. \(Self.maxAnswerBytes))")
    }
    self = size < Self.largeAnswerBytes ? .whole(parts.whole()) : .inParts(parts)
  }
}

extension UnaryCall {
  func succeed(_ payload: RangePayload) {
    switch payload {
    case .whole(let answer): succeed(answer)
    case .inParts(let parts): succeed(parts)
    }
  }

  func finish(_ outcome: Result<RangePayload, GRPCStatus>) {
    switch outcome {
    case .success(let payload): succeed(payload)
    case .failure(let status): fail(status)
    }
  }
}

/// What is too long for an event loop is read on threads of its own.
enum RangeScan {
  /// Few: scans are to delay each other rather than everybody else. They run as long as the process does.
  private static let pool: NIOThreadPool = {
    let pool = NIOThreadPool(numberOfThreads: 2)
    pool.start()
    return pool
  }()

  /// Has `work` done on another thread, and its outcome sent from the call's event loop.
  static func run(_ call: UnaryCall, _ work: @escaping @Sendable () throws(GRPCStatus) -> RangePayload) {
    pool.submit { state in
      let outcome: Result<RangePayload, GRPCStatus>
      do throws(GRPCStatus) {
        guard case .active = state else { throw EtcdErrors.stopped }
        outcome = .success(try work())
      } catch {
        outcome = .failure(error)
      }
      // Made here and used there: nobody else has it.
      nonisolated(unsafe) let moved = outcome
      call.eventLoop.execute { call.finish(moved) }
    }
  }

  /// Reads a range of any length.
  static func read(
    _ query: RangeQuery, in keyspace: Keyspace, header: AnswerHeader
  ) throws(GRPCStatus) -> RangePayload {
    let parts: RangeParts
    do throws(KeyspaceError) {
      parts =
        query.isReadInOrder
        ? RangeParts(query, try RangeCursor(keyspace, query.range, revision: query.revision), header: header)
        : try RangeParts(query, in: keyspace, header: header)
    } catch {
      throw EtcdErrors.status(for: error)
    }
    return try RangePayload(parts)
  }
}

extension RangeQuery {
  /// The records are wanted as the index gives them, each by itself: nothing to sort, nothing to leave out.
  fileprivate var isReadInOrder: Bool {
    !countOnly && sortTarget == .key && sortOrder != .descend && minModRevision == 0 && maxModRevision == 0
      && minCreateRevision == 0 && maxCreateRevision == 0
  }
}
