import Keyspace
import Primitives

/// A keyspace with the shortest possible words for a story in a test, and all events it has told so far.
struct Trial {
  var keyspace = Keyspace()
  var events: [KeyspaceEvent] = []
  var leases: Set<LeaseID> = []

  var revision: Int64 { keyspace.revision }

  @discardableResult
  mutating func put(_ key: Bytes, _ value: Bytes, lease: LeaseID = 0) throws -> KeyRecord? {
    var request = PutRequest(key, value, lease: lease)
    request.wantsPrevious = true
    return try put(request)
  }

  @discardableResult
  mutating func put(_ request: PutRequest) throws -> KeyRecord? {
    try keyspace.put(request, leaseExists: { [leases] in leases.contains($0) }, events: &events)
  }

  @discardableResult
  mutating func delete(_ range: KeyRange) -> DeleteResult {
    var request = DeleteRequest(range)
    request.wantsPrevious = true
    return keyspace.delete(request, events: &events)
  }

  @discardableResult
  mutating func transact(
    if comparisons: [Comparison] = [], then success: [Keyspace.Step] = [], else failure: [Keyspace.Step] = []
  ) throws -> TransactionResult {
    let request = TransactionRequest(comparisons: comparisons, success: success, failure: failure)
    return try keyspace.transact(request, leaseExists: { [leases] in leases.contains($0) }, events: &events)
  }

  func get(_ key: Bytes, at revision: Int64 = 0) throws -> KeyRecord? {
    try keyspace.range(RangeQuery(.single(key), revision: revision)).records.first
  }

  /// Keys and values of the whole keyspace as `k=v` texts.
  func all(at revision: Int64 = 0) throws -> [String] {
    try keyspace.range(RangeQuery(.from(""), revision: revision)).records.map { "\($0.key)=\($0.value)" }
  }

  func history(
    from revision: Int64, in range: KeyRange = .from(""), wantsPrevious: Bool = true, limit: Int = .max,
    maxBytes: Int = .max
  ) throws -> (events: [KeyspaceEvent], next: Int64) {
    try keyspace.history(
      from: revision, in: range, wantsPrevious: wantsPrevious, limit: limit, maxBytes: maxBytes)
  }
}

extension Keyspace {
  typealias Step = Operation

  func encoded() -> [UInt8] {
    var writer = ByteWriter()
    encode(into: &writer)
    return writer.bytes
  }

  init(encoded bytes: [UInt8]) throws(DecodingFailure) {
    var reader = ByteReader(bytes)
    try self.init(decoding: &reader)
    try reader.finish()
  }
}

extension Operation {
  static func put(_ key: Bytes, _ value: Bytes) -> Operation { .put(PutRequest(key, value)) }
  static func get(_ key: Bytes, at revision: Int64 = 0) -> Operation {
    .range(RangeQuery(.single(key), revision: revision))
  }
  static func delete(_ range: KeyRange) -> Operation { .delete(DeleteRequest(range)) }
}

extension OperationResult {
  /// The values a range result holds, nil for other results.
  var values: [Bytes]? {
    guard case .range(let result) = self else { return nil }
    return result.records.map(\.value)
  }
}

extension KeyspaceEvent {
  /// `put k=v @5` or `delete k @5`.
  var text: String {
    switch kind {
    case .put: "put \(record.key)=\(record.value) @\(record.modRevision)"
    case .delete: "delete \(record.key) @\(record.modRevision)"
    }
  }
}
