import Keyspace
import Member
import Primitives
import SidecarCore
import StateMachine

/// The journal as one sidecar writes and reads it; others may write it too.
final class SidecarJournal {
  typealias Completion<Value> = (Result<Value, ProposalError>) -> Void

  private static let maxConflictRetries = 8
  private static let itemsPerChunk = 4

  private unowned let sidecar: SimulatedSidecar
  private let planner = JournalPlanner(layout: SimulatedSidecar.layout)
  private(set) var index = JournalIndex()
  /// One at a time; each calls `done`.
  private var jobs: [() -> Void] = []
  private var isBusy = false
  /// The outcome of the last append is unknown.
  private var mustReload = false
  var onAdvance: () -> Void = {}

  init(_ sidecar: SimulatedSidecar) { self.sidecar = sidecar }

  private var store: SimulatedStore { sidecar.store }
  private var layout: StoreLayout { SimulatedSidecar.layout }
  var bounds: JournalBounds {
    JournalBounds(epoch: index.head.epoch, first: index.head.first, head: index.head.next - 1)
  }

  func open(_ completion: @escaping (Bool) -> Void) {
    store.get([layout.journalHead]) { [unowned self] result in
      guard case .success(let found) = result else { return completion(false) }
      if found[0] != nil {
        return reload {
          if case .success = $0 { completion(true) } else { completion(false) }
        }
      }
      let head = JournalHead(epoch: UInt32(sidecar.random(1, 1_000_000)), appendID: sidecar.generator.next())
      store.commit([Command(planner.creation(of: head))]) { [unowned self] _ in open(completion) }
    }
  }

  // MARK: Appending

  private func enqueue<Value>(
    _ completion: @escaping Completion<Value>, _ body: @escaping (@escaping Completion<Value>) -> Void
  ) {
    jobs.append { [unowned self] in
      let done: Completion<Value> = { [unowned self] result in
        if case .failure = result { mustReload = true }
        isBusy = false
        completion(result)
        next()
      }
      guard mustReload else { return body(done) }
      reload { reloaded in
        switch reloaded {
        case .success: body(done)
        case .failure(let error): done(.failure(error))
        }
      }
    }
    next()
  }

  private func next() {
    guard !isBusy, !jobs.isEmpty else { return }
    isBusy = true
    jobs.removeFirst()()
  }

  /// The revision of each, nil for one whose guard failed.
  func evict(_ candidates: [EvictionCandidate], _ completion: @escaping Completion<[Int64?]>) {
    guard !candidates.isEmpty else { return completion(.success([])) }
    enqueue(completion) { [unowned self] done in append(candidates[...], [], done) }
  }

  private func append(
    _ rest: ArraySlice<EvictionCandidate>, _ revisions: [Int64?], _ done: @escaping Completion<[Int64?]>
  ) {
    guard !rest.isEmpty else { return done(.success(revisions)) }
    let part = Array(rest.prefix(Self.itemsPerChunk))
    appendChunk(part, tries: 0) { [unowned self] result in
      switch result {
      case .failure: done(result)
      case .success(let committed): append(rest.dropFirst(part.count), revisions + committed, done)
      }
    }
  }

  private func appendChunk(_ candidates: [EvictionCandidate], tries: Int, _ done: @escaping Completion<[Int64?]>) {
    guard tries < Self.maxConflictRetries else { return done(.failure(.tooManyRequests)) }
    var plan = planner.evictions(candidates, after: index.head, appendID: sidecar.generator.next())
    if sidecar.mistake == .evictsUnguarded {
      for place in plan.changes.indices { plan.changes[place].comparisons = [] }
    }
    store.commit([Command(plan.append)] + plan.changes.map { Command($0) }) { [unowned self] result in
      switch result {
      case .failure: done(result)
      case .success(let revisions):
        guard revisions[0] != nil else {
          return reload { [unowned self] reloaded in
            switch reloaded {
            case .failure(let error): done(.failure(error))
            case .success: appendChunk(candidates, tries: tries + 1, done)
            }
          }
        }
        index.note(plan.append)
        onAdvance()
        done(.success(Array(revisions.dropFirst())))
      }
    }
  }

  /// The commit's revision; nil when the record has changed.
  func revive(_ candidate: RevivalCandidate, _ completion: @escaping Completion<Int64?>) {
    enqueue(completion) { [unowned self] done in revive(candidate, tries: 0, done) }
  }

  private func revive(_ candidate: RevivalCandidate, tries: Int, _ done: @escaping Completion<Int64?>) {
    guard tries < Self.maxConflictRetries else { return done(.failure(.tooManyRequests)) }
    let head = index.head
    let append = planner.revivals([candidate], after: head, appendID: sidecar.generator.next())
    store.commit([Command(append)]) { [unowned self] result in
      switch result.map({ $0[0] }) {
      case .failure(let error): done(.failure(error))
      case .success(let revision?):
        index.note(append)
        onAdvance()
        done(.success(revision))
      case .success(nil):
        reload { [unowned self] reloaded in
          switch reloaded {
          case .failure(let error): done(.failure(error))
          case .success where index.head == head: done(.success(nil))
          case .success: revive(candidate, tries: tries + 1, done)
          }
        }
      }
    }
  }

  /// Whole chunks below `sequence` go.
  func trim(below sequence: UInt64, _ completion: @escaping Completion<Void>) {
    enqueue(completion) { [unowned self] done in
      let target = index.trimTarget(below: sequence)
      guard target > index.head.first else { return done(.success(())) }
      let append = planner.trim(to: target, after: index.head, appendID: sidecar.generator.next())
      store.commit([Command(append)]) { [unowned self] result in
        switch result.map({ $0[0] }) {
        case .failure(let error): done(.failure(error))
        case .success(nil): reload(done)
        case .success:
          index.noteTrim(append.head)
          done(.success(()))
        }
      }
    }
  }

  /// Learns what the store's head tells: another sidecar may have moved it.
  func catchUp(with stored: KeyRecord, _ completion: @escaping Completion<Void>) {
    guard let head = try? JournalHead(decoding: stored.value), index.isBehind(head) else {
      return completion(.success(()))
    }
    enqueue(completion) { [unowned self] done in
      if index.isBehind(head) { reload(done) } else { done(.success(())) }
    }
  }

  // MARK: Reading

  private func reload(_ completion: @escaping Completion<Void>) {
    store.get([layout.journalHead]) { [unowned self] result in
      switch result {
      case .failure(let error): completion(.failure(error))
      case .success(let found):
        guard let stored = found[0], let head = try? JournalHead(decoding: stored.value) else {
          return sidecar.world.oracle.violate("the journal has no head")
        }
        reload(head, completion)
      }
    }
  }

  private func reload(_ head: JournalHead, _ completion: @escaping Completion<Void>) {
    guard head != index.head else {
      mustReload = false
      return completion(.success(()))
    }
    let unknown = index.unknown(below: head)
    var query = RangeQuery(
      .halfOpen(
        start: layout.journalChunk(firstSequence: unknown.lowerBound),
        end: layout.journalChunk(firstSequence: unknown.upperBound)))
    query.keysOnly = true
    store.range(query) { [unowned self] result in
      switch result {
      case .failure(let error): completion(.failure(error))
      case .success(let page):
        let starts = page.records.compactMap { record in
          let digits = record.key.array[layout.allJournalChunks.count...]
          return UInt64(String(decoding: digits, as: UTF8.self), radix: 16)
        }
        index.reload(head, newStarts: starts)
        mustReload = false
        onAdvance()
        completion(.success(()))
      }
    }
  }

  func items(from sequence: UInt64, limit: Int, _ completion: @escaping Completion<[(UInt64, JournalItem)]>) {
    let lookup = index.lookUp(from: sequence, limit: limit)
    if lookup.chunkStarts.isEmpty { return completion(.success([])) }
    if let remembered = lookup.remembered {
      return completion(.success(lookup.items(of: remembered).map { ($0.sequence, $0.item) }))
    }
    store.get(lookup.chunkStarts.map { layout.journalChunk(firstSequence: $0) }) { result in
      completion(
        result.map { records in
          let chunks = records.compactMap { $0.flatMap { try? JournalChunk(decoding: $0.value) } }
          return lookup.items(of: chunks).map { ($0.sequence, $0.item) }
        })
    }
  }
}
