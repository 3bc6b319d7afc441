import ClusterNode
import EtcdAPI
import Foundation
import Testing
import Wire

@Suite("Transactions over the wire")
struct TransactionServiceTests {
  let client = Client()

  /// Whether etcd's duplicate check lets these operations pass.
  func passes(_ operations: [EtcdRequestOp]) throws -> Bool {
    do {
      _ = try client.transact { $0.success = operations }
      return true
    } catch let status as GRPCStatus where status == EtcdErrors.duplicateKey {
      return false
    }
  }

  @Test("The branch that its comparisons choose runs, and its answers stand in order")
  func branches() throws {
    let first = try client.transact {
      $0.compare = [version("a", .equal, 0)]
      $0.success = [put("a", "1"), get("a")]
      $0.failure = [get("a")]
    }
    #expect(first.succeeded && first.responses.count == 2)
    #expect(text(first.responses[1].responseRange.kvs[0].value) == "1")
    let second = try client.transact {
      $0.compare = [version("a", .equal, 0)]
      $0.success = [put("a", "2")]
      $0.failure = [get("a")]
    }
    #expect(!second.succeeded)
    #expect(text(second.responses[0].responseRange.kvs[0].value) == "1")
  }

  @Test("Inner answers carry the revision before the first change and after it; an inner transaction's header is empty")
  func innerRevisions() throws {
    try client.put("b", "0")
    let answer = try client.transact {
      $0.success = [get("b"), transaction([get("b"), put("a", "1"), get("b")]), get("b"), delete("none")]
    }
    #expect(answer.header.revision == 3)
    let inner = answer.responses[1].responseTxn
    #expect(answer.responses[0].responseRange.header.revision == 2)
    #expect(inner.hasHeader && inner.header == EtcdResponseHeader())
    #expect(inner.responses[0].responseRange.header.revision == 2)
    #expect(inner.responses[1].responsePut.header.revision == 3)
    #expect(inner.responses[2].responseRange.header.revision == 3)
    #expect(answer.responses[2].responseRange.header.revision == 3)
    #expect(answer.responses[3].responseDeleteRange.header.revision == 3)
  }

  @Test("A transaction that only reads leaves no entry in the log")
  func readOnly() throws {
    try client.put("a", "1")
    let before = client.node.proposed.count
    let answer = try client.transact {
      $0.compare = [version("a", .greater, 0)]
      $0.success = [get("a"), transaction([get("a")])]
    }
    #expect(answer.succeeded && answer.header.revision == 2)
    #expect(client.node.proposed.count == before)
  }

  @Test("Puts of one key clash, in one list and across inner transactions, but not across the branches of one")
  func duplicatePuts() throws {
    #expect(try !passes([put("a"), put("a")]))
    #expect(try !passes([put("a"), transaction([put("a")])]))
    #expect(try !passes([transaction([put("a")]), transaction([put("a")])]))
    #expect(try !passes([transaction([put("a")]), transaction([], else: [put("a")])]))
    #expect(try passes([transaction([put("a")], else: [put("a")])]))
    #expect(try passes([put("a"), put("b"), transaction([put("c")])]))
  }

  @Test("A put clashes with a delete of its list, wherever it stands, and with deletes of inner transactions before it")
  func putsAndDeletes() throws {
    #expect(try !passes([put("b"), delete("a", to: "c")]))
    #expect(try !passes([delete("b"), put("b")]))
    #expect(try passes([delete("a", to: "b"), put("b")]))
    #expect(try !passes([transaction([put("b")]), delete("a", to: "c")]))
    #expect(try !passes([put("b"), transaction([delete("b")])]))
    #expect(try !passes([transaction([delete("b")]), transaction([put("b")])]))
    #expect(try passes([transaction([put("b")]), transaction([delete("b")])]))
    #expect(try passes([transaction([put("b")], else: [delete("b")])]))
    #expect(try passes([delete("a", to: "z"), delete("a", to: "z")]))
  }

  @Test("A range_end of one zero byte, or below the key, is no range to etcd's check")
  func oddIntervals() throws {
    #expect(try passes([put("b"), delete("a", to: "\0")]))
    #expect(try passes([put("b"), delete("c", to: "a")]))
  }

  @Test("At most 128 operations, less those of the levels above")
  func tooManyOperations() throws {
    let tooMany = GRPCStatus(.invalidArgument, "etcdserver: too many operations in txn request")
    _ = try client.transact { $0.success = (0..<128).map { put("k\($0)") } }
    #expect(throws: tooMany) { try client.transact { $0.success = (0..<129).map { put("k\($0)") } } }
    #expect(throws: tooMany) { try client.transact { $0.compare = (0..<129).map { version("k\($0)", .equal, 0) } } }
    #expect(throws: tooMany) {
      try client.transact { $0.success = [transaction((0..<127).map { put("k\($0)") }), get("a")] }
    }
    _ = try client.transact { $0.success = [transaction((0..<127).map { put("k\($0)") })] }
  }

  @Test("Nesting as deep as the log can hold is served; deeper is refused, not crashed on")
  func nesting() throws {
    func nested(_ depth: Int) -> EtcdRequestOp {
      (1..<depth).reduce(put("deep")) { inner, _ in transaction([inner]) }
    }
    _ = try client.transact { $0.success = [nested(64)] }
    #expect(throws: EtcdErrors.tooManyOperations) { try client.transact { $0.success = [nested(65)] } }
    #expect(throws: EtcdErrors.tooManyOperations) { try client.transact { $0.success = [nested(120)] } }
  }

  @Test("Operations and comparisons without a key, and empty operations")
  func emptyParts() throws {
    #expect(throws: EtcdErrors.emptyKey) { try client.transact { $0.compare = [version("", .equal, 0)] } }
    #expect(throws: EtcdErrors.emptyKey) { try client.transact { $0.failure = [get("")] } }
    #expect(throws: EtcdErrors.keyNotFound) { try client.transact { $0.success = [EtcdRequestOp()] } }
  }

  @Test("A comparison takes its value from the field that its target names, and counts any other as zero")
  func mismatchedComparison() throws {
    try client.put("a", "1")
    let answer = try client.transact {
      $0.compare = [
        .with {
          $0.key = bytes("a")
          $0.result = .equal
          $0.target = .version
          $0.modRevision = 1
        }
      ]
    }
    #expect(!answer.succeeded)
  }

  @Test("Comparisons that etcd does not know hold, unless they ask for an inequality")
  func unknownComparisons() throws {
    func holds(_ result: EtcdCompare.CompareResult, _ target: EtcdCompare.CompareTarget) throws -> Bool {
      try client.transact {
        $0.compare = [
          .with {
            $0.key = bytes("a")
            $0.result = result
            $0.target = target
          }
        ]
      }.succeeded
    }
    #expect(try holds(.UNRECOGNIZED(9), .version))
    #expect(try holds(.equal, .UNRECOGNIZED(9)))
    #expect(try !holds(.notEqual, .UNRECOGNIZED(9)))
    // No comparison with a value holds where there is no key.
    #expect(try !holds(.UNRECOGNIZED(9), .value))
    _ = try client.put("a", "")
    #expect(try holds(.UNRECOGNIZED(9), .value))
  }
}
