import Keyspace
import Primitives

// The keyspace's requests inside a command: flags in one byte, choices as one tag byte, integers as signed varints,
// lease IDs (random 63-bit numbers) as 8 fixed bytes where they are present.

private struct Flags: OptionSet {
  var rawValue: UInt8

  static let wantsPrevious = Flags(rawValue: 1)
  static let ignoresValue = Flags(rawValue: 2)
  static let ignoresLease = Flags(rawValue: 4)
  static let hasLease = Flags(rawValue: 8)
  static let keysOnly = Flags(rawValue: 16)
  static let countOnly = Flags(rawValue: 32)

  static let ofPut: Flags = [.wantsPrevious, .ignoresValue, .ignoresLease, .hasLease]
  static let ofRange: Flags = [.keysOnly, .countOnly]
}

extension ByteWriter {
  package mutating func write(_ request: PutRequest) {
    var flags: Flags = []
    if request.wantsPrevious { flags.insert(.wantsPrevious) }
    if request.ignoresValue { flags.insert(.ignoresValue) }
    if request.ignoresLease { flags.insert(.ignoresLease) }
    if request.lease != 0 { flags.insert(.hasLease) }
    writeByte(flags.rawValue)
    writeBytes(request.key)
    writeBytes(request.value)
    if request.lease != 0 { writeFixed(request.lease) }
  }

  package mutating func write(_ request: DeleteRequest) {
    writeBool(request.wantsPrevious)
    write(request.range)
  }

  /// The caller has refused what is nested deeper than `Limits.maxTransactionDepth`.
  package mutating func write(_ request: TransactionRequest) { write(request, depth: 1) }

  private mutating func write(_ request: TransactionRequest, depth: Int) {
    precondition(depth <= Limits.maxTransactionDepth, "a transaction nested too deep to be read back")
    writeCount(request.comparisons.count)
    for comparison in request.comparisons { write(comparison) }
    for branch in [request.success, request.failure] {
      writeCount(branch.count)
      for operation in branch { write(operation, depth: depth) }
    }
  }

  private mutating func write(_ operation: Operation, depth: Int) {
    switch operation {
    case .range(let query):
      writeByte(1)
      write(query)
    case .put(let request):
      writeByte(2)
      write(request)
    case .delete(let request):
      writeByte(3)
      write(request)
    case .transaction(let request):
      writeByte(4)
      write(request, depth: depth + 1)
    }
  }

  private mutating func write(_ comparison: Comparison) {
    writeByte(comparison.result.tag)
    write(comparison.range)
    switch comparison.target {
    case .version(let version):
      writeByte(1)
      writeSigned(version)
    case .createRevision(let revision):
      writeByte(2)
      writeSigned(revision)
    case .modRevision(let revision):
      writeByte(3)
      writeSigned(revision)
    case .value(let value):
      writeByte(4)
      writeBytes(value)
    case .lease(let lease):
      writeByte(5)
      writeFixed(lease)
    }
  }

  private mutating func write(_ range: KeyRange) {
    switch range {
    case .single(let key):
      writeByte(1)
      writeBytes(key)
    case .halfOpen(let start, let end):
      writeByte(2)
      writeBytes(start)
      writeBytes(end)
    case .from(let start):
      writeByte(3)
      writeBytes(start)
    }
  }

  private mutating func write(_ query: RangeQuery) {
    var flags: Flags = []
    if query.keysOnly { flags.insert(.keysOnly) }
    if query.countOnly { flags.insert(.countOnly) }
    writeByte(flags.rawValue)
    writeByte(query.sortTarget.tag)
    writeByte(query.sortOrder.tag)
    write(query.range)
    writeSigned(query.revision)
    writeSigned(query.limit)
    writeSigned(query.minModRevision)
    writeSigned(query.maxModRevision)
    writeSigned(query.minCreateRevision)
    writeSigned(query.maxCreateRevision)
  }
}

extension ByteReader {
  package mutating func readPut() throws(DecodingFailure) -> PutRequest {
    let flags = try readFlags(.ofPut)
    let key = try readBytes()
    var request = PutRequest(key, try readBytes())
    if flags.contains(.hasLease) { request.lease = try readFixed() }
    request.wantsPrevious = flags.contains(.wantsPrevious)
    request.ignoresValue = flags.contains(.ignoresValue)
    request.ignoresLease = flags.contains(.ignoresLease)
    return request
  }

  package mutating func readDelete() throws(DecodingFailure) -> DeleteRequest {
    let wantsPrevious = try readBool()
    var request = DeleteRequest(try readKeyRange())
    request.wantsPrevious = wantsPrevious
    return request
  }

  package mutating func readTransaction() throws(DecodingFailure) -> TransactionRequest {
    try readTransaction(depth: 1)
  }

  private mutating func readTransaction(depth: Int) throws(DecodingFailure) -> TransactionRequest {
    guard depth <= Limits.maxTransactionDepth else {
      throw .malformed(offset: offset, "a transaction nested deeper than \(Limits.maxTransactionDepth)")
    }
    var request = TransactionRequest()
    for _ in 0..<(try readCount(minimumSize: 4)) { request.comparisons.append(try readComparison()) }
    request.success = try readOperations(depth: depth)
    request.failure = try readOperations(depth: depth)
    return request
  }

  private mutating func readOperations(depth: Int) throws(DecodingFailure) -> [Operation] {
    var operations: [Operation] = []
    for _ in 0..<(try readCount(minimumSize: 4)) { operations.append(try readOperation(depth: depth)) }
    return operations
  }

  private mutating func readOperation(depth: Int) throws(DecodingFailure) -> Operation {
    let start = offset
    switch try readByte() {
    case 1: return .range(try readRangeQuery())
    case 2: return .put(try readPut())
    case 3: return .delete(try readDelete())
    case 4: return .transaction(try readTransaction(depth: depth + 1))
    default: throw .malformed(offset: start, "an unknown operation")
    }
  }

  private mutating func readComparison() throws(DecodingFailure) -> Comparison {
    let result: CompareResult = try readChoice("comparison")
    let range = try readKeyRange()
    let start = offset
    let target: CompareTarget
    switch try readByte() {
    case 1: target = .version(try readSigned())
    case 2: target = .createRevision(try readSigned())
    case 3: target = .modRevision(try readSigned())
    case 4: target = .value(try readBytes())
    case 5: target = .lease(try readFixed())
    default: throw .malformed(offset: start, "an unknown comparison target")
    }
    return Comparison(range, result, target)
  }

  private mutating func readKeyRange() throws(DecodingFailure) -> KeyRange {
    let start = offset
    switch try readByte() {
    case 1: return .single(try readBytes())
    case 2:
      let first = try readBytes()
      return .halfOpen(start: first, end: try readBytes())
    case 3: return .from(try readBytes())
    default: throw .malformed(offset: start, "an unknown kind of key range")
    }
  }

  private mutating func readRangeQuery() throws(DecodingFailure) -> RangeQuery {
    let flags = try readFlags(.ofRange)
    let sortTarget: SortTarget = try readChoice("sort target")
    let sortOrder: SortOrder = try readChoice("sort order")
    var query = RangeQuery(try readKeyRange())
    query.keysOnly = flags.contains(.keysOnly)
    query.countOnly = flags.contains(.countOnly)
    query.sortTarget = sortTarget
    query.sortOrder = sortOrder
    query.revision = try readSigned()
    query.limit = try readSigned()
    query.minModRevision = try readSigned()
    query.maxModRevision = try readSigned()
    query.minCreateRevision = try readSigned()
    query.maxCreateRevision = try readSigned()
    return query
  }

  private mutating func readFlags(_ known: Flags) throws(DecodingFailure) -> Flags {
    let start = offset
    let flags = Flags(rawValue: try readByte())
    guard flags.isSubset(of: known) else { throw .malformed(offset: start, "unknown flags") }
    return flags
  }

  private mutating func readChoice<Choice: TaggedChoice>(_ name: String) throws(DecodingFailure) -> Choice {
    let start = offset
    let tag = Int(try readByte())
    guard tag < Choice.tagged.count else { throw .malformed(offset: start, "an unknown \(name)") }
    return Choice.tagged[tag]
  }
}

/// An enum without payloads, whose place in `tagged` is its byte in the format. Never reorder those lists.
private protocol TaggedChoice: Equatable, Sendable {
  static var tagged: [Self] { get }
}

extension TaggedChoice {
  fileprivate var tag: UInt8 {
    guard let place = Self.tagged.firstIndex(of: self) else { preconditionFailure("\(self) has no tag") }
    return UInt8(place)
  }
}

extension CompareResult: TaggedChoice {
  fileprivate static var tagged: [CompareResult] { [.equal, .greater, .less, .notEqual] }
}

extension SortTarget: TaggedChoice {
  fileprivate static var tagged: [SortTarget] { [.key, .version, .create, .mod, .value] }
}

extension SortOrder: TaggedChoice {
  fileprivate static var tagged: [SortOrder] { [.none, .ascend, .descend] }
}
