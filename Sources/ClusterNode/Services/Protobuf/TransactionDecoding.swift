import Keyspace
import NIOCore
import Primitives

/// etcdserverpb.TxnRequest.
package struct TransactionCall: Hashable, Sendable {
  package var request: TransactionRequest
  /// Every operation of both branches is a range that may be answered from this member's state as it is.
  package var isSerializable: Bool

  package init(wire: ByteBuffer) throws(ProtobufError) {
    let fields = try TransactionFields(wire: wire)
    request = fields.request
    isSerializable = fields.isSerializable
  }
}

struct TransactionFields: ProtobufFields {
  private(set) var request = TransactionRequest()
  private(set) var isSerializable = true

  init() {}

  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError) {
    while let tag = try reader.nextTag() {
      switch tag {
      case .bytes(1):
        var fields = ComparisonFields()
        try fields.mergeMessage(&reader)
        request.comparisons.append(fields.comparison)
      case .bytes(2): isSerializable = try Self.readOperation(&reader, into: &request.success) && isSerializable
      case .bytes(3): isSerializable = try Self.readOperation(&reader, into: &request.failure) && isSerializable
      default: try reader.skip(tag)
      }
    }
  }

  /// Appends the operation that is the next value; whether it is a serializable range.
  private static func readOperation(
    _ reader: inout ProtobufReader, into branch: inout [Operation]
  ) throws(ProtobufError) -> Bool {
    let before = reader.remaining
    var fields = OperationFields()
    try fields.mergeMessage(&reader)
    if branch.isEmpty {
      // Operations of one transaction tend to be alike.
      let alike = 1 + reader.remaining / max(1, before - reader.remaining)
      branch.reserveCapacity(min(alike, Limits.maxTxnOperations))
    }
    branch.append(fields.operation)
    return fields.isSerializable
  }
}

/// etcdserverpb.RequestOp: the last of its alternatives holds.
private enum OperationFields: ProtobufFields {
  case none
  case range(RangeFields)
  case put(PutFields)
  case delete(DeleteFields)
  case transaction(TransactionFields)

  init() { self = .none }

  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError) {
    while let tag = try reader.nextTag() {
      switch tag {
      case .bytes(1):
        var fields = if case .range(let known) = self { known } else { RangeFields() }
        try fields.mergeMessage(&reader)
        self = .range(fields)
      case .bytes(2):
        var fields = if case .put(let known) = self { known } else { PutFields() }
        try fields.mergeMessage(&reader)
        self = .put(fields)
      case .bytes(3):
        var fields = if case .delete(let known) = self { known } else { DeleteFields() }
        try fields.mergeMessage(&reader)
        self = .delete(fields)
      case .bytes(4):
        var fields = if case .transaction(let known) = self { known } else { TransactionFields() }
        try fields.mergeMessage(&reader)
        self = .transaction(fields)
      default: try reader.skip(tag)
      }
    }
  }

  var operation: Operation {
    switch self {
    case .range(let fields): return .range(fields.call.query)
    case .put(let fields): return .put(fields.request)
    case .delete(let fields): return .delete(fields.request)
    case .transaction(let fields): return .transaction(fields.request)
    case .none:
      var query = RangeQuery(.single(Bytes()))
      query.flaw = .noOperation
      return .range(query)
    }
  }

  /// An inner transaction never is, whatever it holds (etcd's rule).
  var isSerializable: Bool {
    if case .range(let fields) = self { fields.call.isSerializable } else { false }
  }
}

/// etcdserverpb.Compare.
private struct ComparisonFields: ProtobufFields {
  private var result: Int32 = 0
  private var target: Int32 = 0
  private var key = Bytes()
  private var rangeEnd = Bytes()
  /// The last value given, whatever it is for.
  private var operand: CompareTarget?

  init() {}

  mutating func merge(_ reader: inout ProtobufReader) throws(ProtobufError) {
    while let tag = try reader.nextTag() {
      switch tag {
      case .varint(1): result = try reader.choice()
      case .varint(2): target = try reader.choice()
      case .bytes(3): key = try reader.value()
      case .varint(4): operand = .version(try reader.int64())
      case .varint(5): operand = .createRevision(try reader.int64())
      case .varint(6): operand = .modRevision(try reader.int64())
      case .bytes(7): operand = .value(try reader.value())
      case .varint(8): operand = .lease(try reader.int64())
      case .bytes(64): rangeEnd = try reader.value()
      default: try reader.skip(tag)
      }
    }
  }

  /// etcd lets a comparison pass whose result is none of the known ones (of a value it still demands that there be
  /// one, as of every comparison with a value); one whose target it does not know compares as equal.
  var comparison: Comparison {
    let range = KeyRange(key: key, rangeEnd: rangeEnd)
    guard let result = CompareResult(wire: result) else {
      return target == Self.valueTarget ? Comparison(range, .greater, .version(0)) : .alwaysHolds(range)
    }
    guard let operand = wantedOperand else { return result == .equal ? .alwaysHolds(range) : .neverHolds(range) }
    return Comparison(range, result, operand)
  }

  private static var valueTarget: Int32 { 3 }

  /// The target says which field is compared; a value given for another field counts as absent, that is, as zero.
  private var wantedOperand: CompareTarget? {
    switch (target, operand) {
    case (0, .version), (1, .createRevision), (2, .modRevision), (3, .value), (4, .lease): operand
    case (0, _): .version(0)
    case (1, _): .createRevision(0)
    case (2, _): .modRevision(0)
    case (3, _): .value(Bytes())
    case (4, _): .lease(0)
    default: nil
    }
  }
}

extension CompareResult {
  fileprivate init?(wire number: Int32) {
    switch number {
    case 0: self = .equal
    case 1: self = .greater
    case 2: self = .less
    case 3: self = .notEqual
    default: return nil
    }
  }
}

extension Comparison {
  /// No version is below the least integer, and an absent key's is 0.
  static func alwaysHolds(_ range: KeyRange) -> Comparison { Comparison(range, .greater, .version(.min)) }
  static func neverHolds(_ range: KeyRange) -> Comparison { Comparison(range, .less, .version(.min)) }
}
