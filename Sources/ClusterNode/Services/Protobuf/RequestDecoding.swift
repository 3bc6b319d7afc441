import Keyspace
import NIOCore
import Primitives

// The requests on the hot path, read from their bytes straight into the keyspace's own. `RequestCheck` has still to
// look at them.

/// etcdserverpb.RangeRequest.
package struct RangeCall: Hashable, Sendable {
  package var query: RangeQuery
  /// May be answered from this member's state as it is.
  package var isSerializable: Bool

  package init(wire: ByteBuffer) throws(ProtobufError) { self = try RangeFields(wire: wire).call }

  init(query: RangeQuery, isSerializable: Bool) {
    self.query = query
    self.isSerializable = isSerializable
  }
}

extension PutRequest {
  /// etcdserverpb.PutRequest.
  package init(wire: ByteBuffer) throws(ProtobufError) { self = try PutFields(wire: wire).request }
}

extension DeleteRequest {
  /// etcdserverpb.DeleteRangeRequest.
  package init(wire: ByteBuffer) throws(ProtobufError) { self = try DeleteFields(wire: wire).request }
}

/// etcdserverpb.LeaseKeepAliveRequest.
package struct KeepAliveCall: Hashable, Sendable {
  package var id: LeaseID

  package init(wire: ByteBuffer) throws(ProtobufError) { id = try KeepAliveFields(wire: wire).id }
}

struct KeepAliveFields: ProtobufFields {
  private(set) var id: LeaseID = 0

  init() {}

  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError) {
    while let tag = try reader.nextTag() {
      switch tag {
      case .varint(1): id = try reader.int64()
      default: try reader.skip(tag)
      }
    }
  }
}

struct RangeFields: ProtobufFields {
  private var key = Bytes()
  private var rangeEnd = Bytes()
  private var query = RangeQuery(.single(Bytes()))
  private var sortOrder: Int32 = 0
  private var sortTarget: Int32 = 0
  private var isSerializable = false

  init() {}

  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError) {
    while let tag = try reader.nextTag() {
      switch tag {
      case .bytes(1): key = try reader.value()
      case .bytes(2): rangeEnd = try reader.value()
      case .varint(3): query.limit = try reader.int64()
      case .varint(4): query.revision = try reader.int64()
      case .varint(5): sortOrder = try reader.choice()
      case .varint(6): sortTarget = try reader.choice()
      case .varint(7): isSerializable = try reader.bool()
      case .varint(8): query.keysOnly = try reader.bool()
      case .varint(9): query.countOnly = try reader.bool()
      case .varint(10): query.minModRevision = try reader.int64()
      case .varint(11): query.maxModRevision = try reader.int64()
      case .varint(12): query.minCreateRevision = try reader.int64()
      case .varint(13): query.maxCreateRevision = try reader.int64()
      default: try reader.skip(tag)
      }
    }
  }

  var call: RangeCall {
    var query = query
    query.range = KeyRange(key: key, rangeEnd: rangeEnd)
    // etcd reads any limit up to 0 as "none"; a negative revision too, but not inside a transaction.
    query.limit = max(query.limit, 0)
    if let order = SortOrder(wire: sortOrder), let target = SortTarget(wire: sortTarget) {
      query.sortOrder = order
      query.sortTarget = target
    } else {
      query.flaw = .unknownSortOption
    }
    return RangeCall(query: query, isSerializable: isSerializable)
  }
}

struct PutFields: ProtobufFields {
  private(set) var request = PutRequest(Bytes(), Bytes())

  init() {}

  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError) {
    while let tag = try reader.nextTag() {
      switch tag {
      case .bytes(1): request.key = try reader.value()
      case .bytes(2): request.value = try reader.value()
      case .varint(3): request.lease = try reader.int64()
      case .varint(4): request.wantsPrevious = try reader.bool()
      case .varint(5): request.ignoresValue = try reader.bool()
      case .varint(6): request.ignoresLease = try reader.bool()
      default: try reader.skip(tag)
      }
    }
  }
}

struct DeleteFields: ProtobufFields {
  private var key = Bytes()
  private var rangeEnd = Bytes()
  private var wantsPrevious = false

  init() {}

  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError) {
    while let tag = try reader.nextTag() {
      switch tag {
      case .bytes(1): key = try reader.value()
      case .bytes(2): rangeEnd = try reader.value()
      case .varint(3): wantsPrevious = try reader.bool()
      default: try reader.skip(tag)
      }
    }
  }

  var request: DeleteRequest {
    var request = DeleteRequest(KeyRange(key: key, rangeEnd: rangeEnd))
    request.wantsPrevious = wantsPrevious
    return request
  }
}

extension SortOrder {
  fileprivate init?(wire number: Int32) {
    switch number {
    case 0: self = .none
    case 1: self = .ascend
    case 2: self = .descend
    default: return nil
    }
  }
}

extension SortTarget {
  fileprivate init?(wire number: Int32) {
    switch number {
    case 0: self = .key
    case 1: self = .version
    case 2: self = .create
    case 3: self = .mod
    case 4: self = .value
    default: return nil
    }
  }
}

/// What no keyspace could serve, and `RequestCheck` has to refuse in its turn. It is written down where a query that
/// can be served never has anything: in a negative limit.
enum RequestFlaw: Int64 {
  case unknownSortOption = -1
  /// Not a query at all: an operation of a transaction that says nothing.
  case noOperation = -2
}

extension RangeQuery {
  var flaw: RequestFlaw? {
    get { RequestFlaw(rawValue: limit) }
    set { limit = newValue?.rawValue ?? 0 }
  }
}
