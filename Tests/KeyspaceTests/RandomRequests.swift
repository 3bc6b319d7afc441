import Keyspace
import Primitives

/// Requests over a few keys, so that they meet each other often.
struct RandomRequests {
  var generator: SeededGenerator

  init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

  private mutating func number(_ range: Range<Int>) -> Int { .random(in: range, using: &generator) }
  private mutating func isOne(in count: Int) -> Bool { number(0..<count) == 0 }
  private mutating func pick<Element>(_ elements: [Element]) -> Element { elements[number(0..<elements.count)] }

  mutating func key() -> Bytes {
    Bytes(pick(["", "k/", "a/long/shared/prefix/", "z"]) + "\(number(0..<8))")
  }

  mutating func range() -> KeyRange {
    switch number(0..<6) {
    case 0: .from(key())
    case 1: .prefix(pick(["k/", "a/long", "", "none"]))
    case 2: .halfOpen(start: key(), end: key())
    default: .single(key())
    }
  }

  private mutating func revision(around revision: Int64) -> Int64 {
    isOne(in: 3) ? max(0, revision - Int64(number(-1..<40))) : 0
  }

  mutating func query(around current: Int64) -> RangeQuery {
    var query = RangeQuery(range(), revision: revision(around: current))
    if isOne(in: 2) { query.range = .from("") }
    if isOne(in: 2) { query.limit = Int64(number(1..<12)) }
    if isOne(in: 2) {
      query.sortTarget = pick([.key, .version, .create, .mod, .value])
      query.sortOrder = pick([.none, .ascend, .descend])
    }
    query.keysOnly = isOne(in: 5)
    query.countOnly = isOne(in: 8)
    if isOne(in: 6) { query.minModRevision = revision(around: current) }
    if isOne(in: 6) { query.maxModRevision = revision(around: current) }
    if isOne(in: 6) { query.minCreateRevision = revision(around: current) }
    if isOne(in: 6) { query.maxCreateRevision = revision(around: current) }
    return query
  }

  mutating func put() -> PutRequest {
    var put = PutRequest(key(), Bytes("\(number(0..<100))"))
    if isOne(in: 4) { put.lease = LeaseID(number(1..<5)) }
    put.wantsPrevious = isOne(in: 2)
    put.ignoresValue = isOne(in: 8)
    put.ignoresLease = isOne(in: 8)
    return put
  }

  mutating func delete() -> DeleteRequest {
    var delete = DeleteRequest(range())
    delete.wantsPrevious = isOne(in: 2)
    return delete
  }

  private mutating func comparison(around current: Int64) -> Comparison {
    let target: CompareTarget =
      switch number(0..<5) {
      case 0: .version(Int64(number(0..<3)))
      case 1: .createRevision(isOne(in: 2) ? 0 : revision(around: current))
      case 2: .modRevision(revision(around: current))
      case 3: .value(Bytes("\(number(0..<100))"))
      default: .lease(LeaseID(number(0..<4)))
      }
    return Comparison(range(), pick([.equal, .greater, .less, .notEqual]), target)
  }

  mutating func transaction(around current: Int64, depth: Int) -> TransactionRequest {
    var request = TransactionRequest()
    for _ in 0..<number(0..<3) { request.comparisons.append(comparison(around: current)) }
    for _ in 0..<number(0..<5) { request.success.append(operation(around: current, depth: depth)) }
    for _ in 0..<number(0..<5) { request.failure.append(operation(around: current, depth: depth)) }
    return request
  }

  private mutating func operation(around current: Int64, depth: Int) -> Operation {
    switch number(0..<8) {
    case 0..<2: .range(query(around: isOne(in: 2) ? 0 : current))
    case 2..<5: .put(put())
    case 5..<7: .delete(delete())
    default: depth > 0 ? .transaction(transaction(around: current, depth: depth - 1)) : .put(put())
    }
  }
}
