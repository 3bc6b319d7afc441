import Engine
import Keyspace
import Primitives
import StateMachine
import Storage
import TestSupport
import Testing

@Suite struct StateVerificationTests {
  @Test func aSoundStateIsDescribed() throws {
    var world = try EngineWorld()
    world.apply(.grant(1), .put("a", lease: 1), .put("b"), .put("a"))
    world.apply(.delete(DeleteRequest(.single("b"))))
    world.apply(.put(Bytes([UInt8](repeating: 7, count: 700)), lease: 1))
    try world.commit()
    let report = try world.verification()
    #expect(report.problem == nil)
    #expect(report.versionCount == 5)
    #expect(report.keyCount == 2)
    #expect(report.leaseCount == 1)
    #expect(report.appliedIndex == 3)
    #expect(report.appliedTerm == 1)
    #expect(report.revision == world.machine.keyspace.revision)
    #expect(report.archivedBytes == world.machine.keyspace.sizeInBytes)
    #expect(report.sizes == world.engine.sizes)
  }

  @Test func aFreshEngineIsSound() throws {
    let world = try EngineWorld()
    #expect(try world.verification().problem == nil)
  }

  /// Only reading everything finds a damaged value: the start does not look at values.
  @Test func aDamagedValueIsFound() throws {
    var world = try EngineWorld()
    let value = Bytes([UInt8](repeating: 0x5a, count: 3_000))
    world.apply(.put("a", value))
    try world.commit()
    let copy = try world.copiedDirectory()
    var bytes = try TemporaryDirectory.read("\(copy.path)/data.mdb")
    let place = try #require(bytes.windowStart(of: Array(value.array.prefix(64))))
    bytes[place + 1_000] ^= 4
    try TemporaryDirectory.write(bytes, to: "\(copy.path)/data.mdb")
    let problem = try #require(try StateVerification.verify(directory: copy.path).problem)
    #expect("\(problem)".contains("version 0 fails its checksum"))
    _ = try StateEngine.open(directory: copy.path, options: EngineOptions(unsafeNoSync: true))
  }

  @Test func whatIsNotThereCannotBeVerified() {
    #expect(throws: StorageError.self) { try StateVerification.verify(directory: "/tmp/there-is-nothing") }
  }

  /// Verification only looks: not one byte of the directory changes, and nothing is added.
  @Test func nothingChanges() throws {
    var world = try EngineWorld(seed: 8)
    world.live(entries: 50)
    try world.commit()
    world.engine.close()
    world.release()
    let before = try TemporaryDirectory.read(world.file)
    let files = try world.files()
    _ = try StateVerification.verify(directory: world.directory)
    #expect(try TemporaryDirectory.read(world.file) == before)
    #expect(try world.files() == files)
  }
}

extension [UInt8] {
  fileprivate func windowStart(of part: [UInt8]) -> Int? {
    (0...(count - part.count)).first { self[$0] == part[0] && Array(self[$0..<$0 + part.count]) == part }
  }
}
