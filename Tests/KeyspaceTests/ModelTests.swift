import Keyspace
import Primitives
import Testing

@Suite("Random operations come to the same as in a naive model")
struct ModelTests {
  @Test("Every result, event, range, history and compaction agrees", arguments: 1...12)
  func agreesWithModel(seed: UInt64) throws {
    var random = RandomRequests(seed: seed)
    var trial = Trial()
    trial.leases = [1, 2, 3]
    var model = NaiveKeyspace()
    for step in 0..<400 {
      try perform(&trial, &model, &random)
      #expect(trial.revision == model.revision)
      if step % 50 == 0 {
        #expect(trial.keyspace.keyCount == model.state(at: .max).count)
        let copy = try Keyspace(encoded: trial.keyspace.encoded())
        #expect(copy.encoded() == trial.keyspace.encoded())
        #expect(try copy.hash(at: 0) == trial.keyspace.hash(at: 0))
        if seed % 2 == 0 { trial.keyspace = copy }
      }
    }
    #expect(trial.events == model.changes)
  }

  @Test("And so it does while versions leave memory, at any moment, and for copies held meanwhile", arguments: 21...40)
  func agreesWithModelOverArchive(seed: UInt64) throws {
    var random = RandomRequests(seed: seed)
    var (trial, model) = (Trial(), NaiveKeyspace())
    trial.leases = [1, 2, 3]
    var engine = MemoryEngine()
    var twin = Trial()  // is told the same and never archives anything
    var held: [(keyspace: Keyspace, bytes: [UInt8])] = []
    for step in 0..<400 {
      switch Int.random(in: 0..<100, using: &random.generator) {
      case ..<10: if engine.pending == nil { engine.cut(&trial.keyspace) }
      case ..<20: engine.commit(&trial.keyspace)
      case ..<22: engine.rebase(&trial.keyspace)
      case ..<24: held.append((trial.keyspace, trial.keyspace.encoded()))
      case ..<26:
        if engine.pending == nil {
          engine.cut(&trial.keyspace)
          engine.commit(&trial.keyspace)
          let loaded = try engine.load()
          #expect(loaded.encoded() == trial.keyspace.encoded())
          #expect(loaded.keyCount == trial.keyspace.keyCount)
          #expect(loaded.sizeInBytes == trial.keyspace.sizeInBytes)
          trial.keyspace = loaded
        }
      default: try perform(&trial, &model, &random)
      }
      #expect(trial.revision == model.revision)
      if step % 20 == 0 {
        twin.keyspace = try Keyspace(encoded: trial.keyspace.encoded())
        #expect(twin.keyspace.encoded() == trial.keyspace.encoded())
        #expect(try twin.keyspace.hash(at: 0) == trial.keyspace.hash(at: 0))
        #expect(twin.keyspace.keyCount == trial.keyspace.keyCount)
        #expect(twin.keyspace.keyCount == model.state(at: .max).count)
        for (keyspace, bytes) in held { #expect(keyspace.encoded() == bytes) }
      }
    }
    #expect(trial.events == model.changes)
    engine.commit(&trial.keyspace)
    while trial.keyspace.compactStep(maxKeys: 7) {}
    engine.cut(&trial.keyspace)
    engine.commit(&trial.keyspace)
    #expect(trial.keyspace.recentBytes == 0)
    #expect(trial.keyspace.uncutBytes == 0)
    let kept = try Keyspace(encoded: trial.keyspace.encoded())
    #expect(trial.keyspace.sizeInBytes == kept.sizeInBytes)
  }

  /// One random operation or question, to both.
  private func perform(_ trial: inout Trial, _ model: inout NaiveKeyspace, _ random: inout RandomRequests) throws {
    switch Int.random(in: 0..<100, using: &random.generator) {
    case ..<60: try change(&trial, &model, &random)
    case ..<64: try compact(&trial, &model, &random)
    case ..<70: trial.keyspace.compactStep(maxKeys: .random(in: 1...10, using: &random.generator))
    case ..<88:
      let query = random.query(around: model.revision)
      let mine = try outcome { try trial.keyspace.range(query) }
      let theirs = try outcome { try model.range(query) }
      #expect(mine == theirs)
    default: try compareHistory(trial, model, &random)
    }
  }

  private func change(_ trial: inout Trial, _ model: inout NaiveKeyspace, _ random: inout RandomRequests) throws {
    let leases = trial.leases
    let request: TransactionRequest
    switch Int.random(in: 0..<10, using: &random.generator) {
    case ..<5:
      let put = random.put()
      let mine = try outcome { try trial.keyspace.put(put, leaseExists: leases.contains, events: &trial.events) }
      let theirs = try outcome {
        try model.transact(TransactionRequest(success: [.put(put)]), leaseExists: leases.contains)
      }
      switch (mine, theirs) {
      case (.success(let previous), .success(let result)): #expect(result.results == [.put(previous: previous)])
      // A lone put looks at its lease first, one in a transaction at its key.
      case (.failure(let mine), .failure(let theirs)): #expect(mine == theirs || mine == .leaseNotFound)
      default: Issue.record("\(mine) but \(theirs)")
      }
      return
    case ..<7:
      let delete = random.delete()
      let mine = trial.keyspace.delete(delete, events: &trial.events)
      let theirs = try model.transact(TransactionRequest(success: [.delete(delete)]), leaseExists: leases.contains)
      #expect(theirs.results == [.delete(mine)])
      return
    default: request = random.transaction(around: model.revision, depth: 2)
    }
    let mine = try outcome { try trial.keyspace.transact(request, leaseExists: leases.contains, events: &trial.events) }
    let theirs = try outcome { try model.transact(request, leaseExists: leases.contains) }
    #expect(mine == theirs)
  }

  private func compact(_ trial: inout Trial, _ model: inout NaiveKeyspace, _ random: inout RandomRequests) throws {
    let floor = max(0, model.compactedRevision)
    let revision = Int64.random(in: floor...min(model.revision + 1, floor + 30), using: &random.generator)
    let mine = try outcome {
      try trial.keyspace.compact(to: revision)
      return trial.keyspace.compactRevision
    }
    let theirs = try outcome {
      try model.compact(to: revision)
      return revision
    }
    #expect(mine == theirs)
  }

  private func compareHistory(_ trial: Trial, _ model: NaiveKeyspace, _ random: inout RandomRequests) throws {
    let range = random.range()
    let floor = max(0, model.compactedRevision)
    var revision = Int64.random(in: max(0, floor - 1)...model.revision + 1, using: &random.generator)
    let wanted = try outcome { try model.history(from: revision, in: range) }
    guard case .success(let events) = wanted else {
      let mine = try outcome { try trial.history(from: revision, in: range).events }
      #expect(mine == wanted)
      return
    }
    let limit = Int.random(in: 1...20, using: &random.generator)
    var told: [KeyspaceEvent] = []
    while revision <= trial.revision {
      let (events, next) = try trial.history(from: revision, in: range, limit: limit)
      told += events
      revision = next
    }
    #expect(told == events)
  }

  private func outcome<Value>(_ body: () throws -> Value) rethrows -> Result<Value, KeyspaceError> {
    do { return .success(try body()) } catch let error as KeyspaceError { return .failure(error) }
  }

  @Test("Tens of thousands of keys in any order: the tree grows, shrinks and keeps its order", arguments: 1...3)
  func manyKeys(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var trial = Trial()
    var wanted: Set<Bytes> = []
    let numbers = seed == 1 ? Array(0..<12_000) : Array(0..<12_000).shuffled(using: &generator)
    for number in numbers {
      let key = Self.key(number)
      try trial.put(key, "v")
      wanted.insert(key)
    }
    for round in 0..<3 {
      for number in numbers where Int.random(in: 0..<3, using: &generator) > 0 {
        let key = Self.key(number)
        if wanted.remove(key) != nil { trial.delete(.single(key)) }
      }
      try trial.keyspace.compact(to: trial.revision)
      while trial.keyspace.compactStep(maxKeys: 500) {}
      let sorted = wanted.sorted()
      let all = try trial.keyspace.range(RangeQuery(.from("")))
      #expect(all.records.map(\.key) == sorted)
      for _ in 0..<50 {
        let first = Self.key(.random(in: 0..<12_000, using: &generator))
        let second = Self.key(.random(in: 0..<12_000, using: &generator))
        let range = KeyRange.halfOpen(start: min(first, second), end: max(first, second))
        let keys = try trial.keyspace.range(RangeQuery(range)).records.map(\.key)
        #expect(keys == sorted.filter(range.contains))
        #expect(try (trial.get(first) != nil) == wanted.contains(first))
      }
      for number in numbers.prefix(round * 1_000) {
        try trial.put(Self.key(number), "again")
        wanted.insert(Self.key(number))
      }
    }
    #expect(try trial.keyspace.range(RangeQuery(.from(""))).records.map(\.key) == wanted.sorted())
    trial.delete(.from(""))
    try trial.put("last", "")
    try trial.keyspace.compact(to: trial.revision)
    while trial.keyspace.compactStep(maxKeys: 1_000) {}
    #expect(try trial.all() == ["last="])
  }

  /// Long shared prefixes, keys that are prefixes of others, zero bytes.
  private static func key(_ number: Int) -> Bytes {
    switch number % 5 {
    case 0: Bytes("/registry/leases/kube-node-lease/a-node-with-a-long-name/\(number)")
    case 1: Bytes("/registry/\(number % 7)/leases/\(number)")
    case 2: Bytes([UInt8](repeating: 0, count: number % 13)) + Bytes("\(number)")
    case 3: Bytes([UInt8(truncatingIfNeeded: number), UInt8(truncatingIfNeeded: number >> 8)])
    default: Bytes("\(number)")
    }
  }
}
