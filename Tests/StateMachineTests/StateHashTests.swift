import Keyspace
import Primitives
import StateMachine
import TestSupport
import Testing

@Suite("The rolling hash")
struct StateHashTests {
  private static func run(_ entries: [[Command]]) -> Log {
    var log = Log()
    for (index, commands) in entries.enumerated() {
      log.apply(CommandBatch(clock: LeaseClock(milliseconds: Int64(index) * 100), commands: commands))
    }
    return log
  }

  private static let story: [[Command]] = [
    [.grant(1, 10_000), .put(PutRequest("key", "a value of many bytes", lease: 1))],
    [.put("other"), .put("third"), .leaseRenew(ids: [1])],
    [.delete("other"), .compact(revision: 3)],
    [.member(.add(ClusterMember(id: 5, peerURLs: ["http://a:1"])))],
    [.alarm(.activate, Alarm(memberID: 5, kind: .noSpace))],
    [.leaseRevoke(id: 1)],
  ]

  @Test("tells apart every effect that differs")
  func effects() {
    var stories = [Self.story]
    func vary(_ entry: Int, _ command: Int, _ other: Command) {
      var story = Self.story
      story[entry][command] = other
      stories.append(story)
    }
    vary(0, 0, .grant(1, 10_001))
    for value in ["a value of many bytez", "A value of many bytes", "a value of many byte"] {
      vary(0, 1, .put(PutRequest("key", Bytes(value), lease: 1)))
    }
    vary(0, 1, .put(PutRequest("key", "a value of many bytes")))
    vary(0, 1, .put(PutRequest("kez", "a value of many bytes", lease: 1)))
    vary(1, 1, .tick)
    vary(1, 2, .tick)
    vary(2, 0, .delete("third"))
    vary(2, 1, .compact(revision: 2))
    vary(3, 0, .member(.add(ClusterMember(id: 6, peerURLs: ["http://a:1"]))))
    vary(3, 0, .member(.add(ClusterMember(id: 5, peerURLs: ["http://b:1"]))))
    vary(3, 0, .member(.add(ClusterMember(id: 5, peerURLs: ["http://a:1"], isLearner: true))))
    vary(4, 0, .alarm(.activate, Alarm(memberID: 5, kind: .corrupt)))
    vary(5, 0, .tick)
    var hashes = Set(stories.map { Self.run($0).machine.rollingHash })
    #expect(hashes.count == stories.count)
    var skipping = Self.run(Self.story).machine
    skipping.skip(index: 7, term: 1)
    hashes.insert(skipping.rollingHash)
    var later = Self.run(Self.story).machine
    later.skip(index: 7, term: 2)
    hashes.insert(later.rollingHash)
    var changed = Self.run(Self.story).machine
    changed.applyMembership([1])
    changed.skip(index: 7, term: 1)
    hashes.insert(changed.rollingHash)
    #expect(hashes.count == stories.count + 3)
  }

  @Test("does not depend on how entries are gathered, or on who keeps changes for an engine")
  func gathering() {
    var workload = Workload(random: SeededGenerator(seed: 4))
    var (single, gathered) = (StateMachine(), StateMachine())
    gathered.recordChanges()
    var (results, events) = ([CommandResult](), [KeyspaceEvent]())
    for index in 1...500 as ClosedRange<UInt64> {
      let batch = workload.batch()
      var (ownResults, ownEvents) = ([CommandResult](), [KeyspaceEvent]())
      single.apply(batch, index: index, term: 1, results: &ownResults, events: &ownEvents)
      gathered.apply(batch, index: index, term: 1, results: &results, events: &events)
      if index % 9 == 0 { events = [] }
      if index % 50 == 0 {
        gathered.advanceCompaction(maxKeys: 5)
        gathered.turnWheel(to: gathered.clock)
        _ = gathered.cut()
      }
      #expect(single.hash == gathered.hash)
    }
  }

  @Test("is kept at fixed indexes, a bounded number of them, through a snapshot and a start")
  func checkpoints() throws {
    let interval = StateHash.checkpointInterval
    let end = interval * UInt64(StateHash.maxCheckpoints + 3) + 5
    var log = Log()
    log.machine.recordChanges()
    var hashes: [UInt64: UInt64] = [:]
    for number in 1...end {
      log.at(Int64(number), .put(Bytes("\(number % 7)")))
      hashes[log.machine.appliedIndex] = log.machine.rollingHash
    }
    var engine = MemoryEngine()
    engine.cut(&log.machine)
    engine.commit(&log.machine)
    for machine in [log.machine, try StateMachine(decoding: log.machine.encoded()), try engine.load()] {
      #expect(machine.hash(at: end) == hashes[end])
      #expect(machine.hash(at: end - 1) == nil)
      let last = end / interval * interval
      #expect(machine.latestCheckpoint == .init(index: last, hash: hashes[last]!))
      let oldest = last - interval * UInt64(StateHash.maxCheckpoints - 1)
      for index in stride(from: oldest, through: last, by: Int(interval)) {
        #expect(machine.hash(at: index) == hashes[index])
      }
      #expect(machine.hash(at: oldest - interval) == nil)
    }
  }
}
