import ClusterNode
import Engine
import FoundationEssentials
import Keyspace
import Primitives
import StateMachine
import Storage
import TestSupport
import Testing

/// Snapshot files and stopped members: what is restored is what was saved, and damage never comes through as data.
@Suite struct OfflineTests {
  private let folder = TemporaryDirectory()

  private static func state(keys: Int, leases: Int) -> StateMachine {
    var machine = StateMachine()
    var events: [KeyspaceEvent] = []
    var results: [CommandResult] = []
    var commands = (0..<leases).map { Command.leaseGrant(id: LeaseID($0 + 1), ttlMilliseconds: 3_600_000) }
    commands += (0..<keys).map {
      .put(PutRequest(Bytes("k\($0)"), Bytes("v\($0)"), lease: leases == 0 ? 0 : LeaseID($0 % leases + 1)))
    }
    commands += [.put(PutRequest("again", "1")), .put(PutRequest("again", "2")), .delete(DeleteRequest(.single("k0")))]
    commands.append(.alarm(.activate, Alarm(memberID: 5, kind: .noSpace)))
    for (index, command) in commands.enumerated() {
      machine.apply(
        CommandBatch(clock: LeaseClock(milliseconds: 1_000 + Int64(index)), commands: [command]),
        index: UInt64(index + 1), term: 3, results: &results, events: &events)
    }
    return machine
  }

  private static func file(of machine: StateMachine) -> [UInt8] {
    var body = SnapshotBody(machine)
    var bytes: [UInt8] = []
    while let piece = body.next(maxBytes: 10_000) { bytes += piece }
    return bytes
  }

  private func saved(_ bytes: [UInt8]) throws -> SnapshotFile {
    try folder.write(bytes, "file")
    return try SnapshotFile(path: folder.file("file"))
  }

  private func configuration(_ name: String = "fresh") -> NodeConfiguration {
    NodeConfiguration(name: name, dataDirectory: folder.file(name), peerURLs: ["http://localhost:2380"])
  }

  @Test(arguments: [(0, 0), (1, 1), (500, 20), (20_000, 3_000)])
  func aFileReadsBackAsTheStateThatItWasMadeOf(keys: Int, leases: Int) throws {
    let machine = Self.state(keys: keys, leases: leases)
    let file = try saved(Self.file(of: machine))
    #expect(try file.read().encoded() == machine.encoded())
    let summary = try SnapshotSummary(of: file)
    #expect(summary.revision == machine.keyspace.revision)
    #expect(summary.keyCount == machine.keyspace.keyCount && summary.leaseCount == leases)
    #expect(summary.hash == (try machine.keyspace.hash(at: machine.keyspace.revision)))
  }

  @Test func aDamagedFileIsRefusedWhateverBitOfItIsWrong() throws {
    let sound = Self.file(of: Self.state(keys: 50, leases: 5))
    var random = SeededGenerator(seed: 3)
    for _ in 0..<300 {
      var bytes = sound
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
      case 1: bytes += [UInt8](repeating: 0, count: Int.random(in: 1...2_000, using: &random))
      default: bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      }
      let failure = #expect(throws: OfflineFailure.self) { try saved(bytes).read() }
      #expect(failure.map { $0.description.contains(folder.file("file")) } ?? false)
    }
  }

  @Test func withoutItsHashAFileStillHasItsOwnChecksums() throws {
    let machine = Self.state(keys: 50, leases: 5)
    var bytes = Self.file(of: machine)
    bytes[bytes.count - 1] ^= 1
    #expect(throws: OfflineFailure.self) { try saved(bytes).read() }
    let file = try SnapshotFile(path: folder.file("file"), checksHash: false)
    #expect(try file.read().encoded() == machine.encoded())
    bytes[bytes.count / 2] ^= 1
    try folder.write(bytes, "file")
    #expect(throws: OfflineFailure.self) { try SnapshotFile(path: folder.file("file"), checksHash: false).read() }
  }

  @Test func aRestoredMemberHasKeysLeasesAndTheTimeTheyHadLeft() async throws {
    let machine = Self.state(keys: 2_000, leases: 100)
    let outcome = try SnapshotRestore(saved(Self.file(of: machine)), configuration: configuration()).run()
    #expect(outcome.keyCount == 2_000 && outcome.leaseCount == 100)
    #expect(outcome.revision == machine.keyspace.revision + SnapshotRestore.defaultRevisionBump)
    let verified = try MemberVerification.run(dataDirectory: folder.file("fresh"))
    #expect(verified.problems == [])
    #expect(verified.state.keyCount == 2_000)
    #expect(verified.state.versionCount == 2_000, "the bump counts as a compaction")

    let fixture = try NodeFixture(directory: folder.file("fresh")) { $0.peerURLs = ["http://localhost:2380"] }
    #expect(fixture.node.header.memberID == outcome.identity.memberID)
    #expect(try await fixture.value("k7") == "v7")
    let remaining = fixture.node.read { $0.leases.deadline(of: 7)!.milliseconds - $0.clock.milliseconds }
    #expect(remaining <= 3_600_000 && remaining > 3_500_000)
    #expect(fixture.node.status.alarms.isEmpty, "another cluster's alarm")
    try await fixture.put("new", "")
    #expect(fixture.node.read { $0.keyspace.revision } == outcome.revision + 1)
    await fixture.node.stop()
  }

  @Test func membersThatAreRestoredAlikeBeginTogether() throws {
    let machine = Self.state(keys: 300, leases: 10)
    let file = try saved(Self.file(of: machine))
    let cluster = InitialCluster(
      token: "t", members: ["a", "b", "c"].map { .init(name: $0, peerURLs: ["http://\($0):2380"]) })
    var identities: [MemberIdentity] = []
    var states: Set<[UInt8]> = []
    for name in ["a", "b", "c"] {
      var configuration = configuration(name)
      configuration.initialCluster = cluster
      identities.append(try SnapshotRestore(file, configuration: configuration).run().identity)
      let (engine, restored) = try StateEngine.open(
        directory: "\(folder.file(name))/member/state", options: EngineOptions(unsafeNoSync: true))
      states.insert(restored.encoded())
      #expect((restored.appliedIndex, restored.appliedTerm) == (1, 1))
      #expect(restored.cluster == cluster.clusterState && restored.keyspace.keyCount == 300)
      engine.close()
    }
    #expect(states.count == 1)
    #expect(cluster.genesis.cluster == cluster.clusterState && cluster.genesis.keyspace.keyCount == 0)
    #expect(Set(identities.map(\.clusterID)).count == 1 && Set(identities.map(\.memberID)).count == 3)
    let verified = try MemberVerification.run(dataDirectory: folder.file("b"))
    #expect(verified.log?.warnings == [])
    #expect(verified.problems == [] && verified.state.cluster.members.map(\.name).sorted() == ["a", "b", "c"])
  }

  @Test func withoutABumpHistoryAndRevisionStay() throws {
    let machine = Self.state(keys: 10, leases: 1)
    let outcome = try SnapshotRestore(
      saved(Self.file(of: machine)), configuration: configuration(), revisionBump: 0
    ).run()
    #expect(outcome.revision == machine.keyspace.revision)
    #expect(try MemberVerification.run(dataDirectory: folder.file("fresh")).state.versionCount == 13)
  }

  @Test func aRestoreThatFailsLeavesNothingAndNeverOverwrites() throws {
    var bytes = Self.file(of: Self.state(keys: 3_000, leases: 5))
    bytes[bytes.count - 700] ^= 1
    let damaged = try saved(bytes)
    #expect(throws: OfflineFailure.self) { try SnapshotRestore(damaged, configuration: configuration()).run() }
    #expect(try folder.names() == ["file"])
    bytes[bytes.count - 700] ^= 1
    let sound = try saved(bytes)
    #expect(throws: OfflineFailure.self) {
      try SnapshotRestore(sound, configuration: configuration(), revisionBump: .max).run()
    }
    #expect(try folder.names() == ["file"])
    // An empty directory is taken, one with content is not, and a half-done restore is pointed out.
    try folder.makeDirectory("fresh")
    _ = try SnapshotRestore(sound, configuration: configuration()).run()
    let again = #expect(throws: OfflineFailure.self) {
      try SnapshotRestore(sound, configuration: configuration()).run()
    }
    #expect(again?.description.contains("is not empty") == true)
    try folder.makeDirectory("other.restoring")
    let left = #expect(throws: OfflineFailure.self) {
      try SnapshotRestore(sound, configuration: configuration("other")).run()
    }
    #expect(left?.description.contains("remove it") == true)
    #expect(try folder.names() == ["file", "fresh", "other.restoring"])
  }

  @Test func aMemberIsVerifiedOnlyWhileNobodyUsesIt() async throws {
    let fixture = try NodeFixture()
    try await fixture.put("k", "v")
    let failure = #expect(throws: OfflineFailure.self) { try MemberVerification.run(dataDirectory: fixture.directory) }
    #expect(failure?.description.contains("in use by process") == true)
    try await fixture.close()
    let found = try MemberVerification.run(dataDirectory: fixture.directory)
    #expect(found.problems == [])
    #expect(found.state.keyCount == 1)
    #expect(found.log != nil && found.log?.entries == nil)
    let path = "\(fixture.directory)/member/state/data.mdb"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    // The version's record: the key's length and the key, created at this revision, version 1, the value.
    let place = try #require(bytes.firstRange(of: Data([1, UInt8(ascii: "k"), 0, 1, UInt8(ascii: "v")])))
    bytes[place.lowerBound] ^= 1
    try bytes.write(to: URL(fileURLWithPath: path))
    #expect(try !MemberVerification.run(dataDirectory: fixture.directory).problems.isEmpty)
    #expect(throws: OfflineFailure.self) { try MemberVerification.run(dataDirectory: folder.file("nowhere")) }
    #expect(try folder.names().isEmpty, "a mistyped path does not become a directory")
  }
}

extension TemporaryDirectory {
  fileprivate func write(_ bytes: [UInt8], _ name: String) throws { try Self.write(bytes, to: file(name)) }

  fileprivate func makeDirectory(_ name: String) throws {
    try FileManager.default.createDirectory(atPath: file(name), withIntermediateDirectories: false)
  }

  fileprivate func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
}
