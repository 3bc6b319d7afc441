import ClusterNode
import Engine
import Glibc
import Keyspace
import StateMachine
import Storage
import Synchronization

/// A storage engine in memory: remembers what was committed, and fails or dawdles when the test likes.
final class FakeEngine: StateStore {
  struct Contents {
    var versions: [UInt64: StoredVersion] = [:]
    var head: StateHead?
    var commits = 0
    var defragmentations = 0
    var attempts = 0
    var hasNoSpace = false
    /// What the first start has made durable.
    var genesis: StateMachine?
  }

  private let contents = Mutex(Contents())
  /// A test wants commits to take long.
  fileprivate let isHeld = Atomic<Bool>(false)

  var now: Contents { contents.withLock { $0 } }
  var hasNoSpace: Bool {
    get { now.hasNoSpace }
    set { contents.withLock { $0.hasNoSpace = newValue } }
  }

  /// Opens the state that the first start began with, whatever has been committed since.
  var opener: StateStoreOpener {
    { _, _, genesis throws(StorageError) in
      var machine = self.contents.withLock { contents in
        contents.genesis = contents.genesis ?? genesis
        return contents.genesis ?? StateMachine()
      }
      machine.recordChanges()
      return (self, machine)
    }
  }

  func prepareReplacement(fromSnapshotAt path: String) throws(StorageError) -> (PreparedState, StateMachine) {
    preconditionFailure("a single member is sent no states")
  }

  func install(_ prepared: PreparedState) throws(StorageError) -> EngineCommit {
    preconditionFailure("a single member is sent no states")
  }

  func discard(_ prepared: PreparedState) throws(StorageError) {
    preconditionFailure("a single member is sent no states")
  }

  func commit(_ changes: StateChanges) throws(StorageError) -> EngineCommit {
    while isHeld.load(ordering: .acquiring) { usleep(1_000) }
    let isDone = contents.withLock { contents in
      contents.attempts += 1
      if contents.hasNoSpace { return false }
      changes.keyspace.forEachVersion { contents.versions[$0] = $1 }
      for removal in changes.keyspace.removals { contents.versions[removal.reference.ordinal] = nil }
      contents.head = changes.head
      contents.commits += 1
      return true
    }
    guard isDone else { throw .io(DiskFailure(operation: "write", path: "state", code: 28)) }
    return archived
  }

  func defragment() throws(StorageError) -> EngineCommit {
    contents.withLock { $0.defragmentations += 1 }
    return archived
  }

  private var archived: EngineCommit {
    let now = now
    return EngineCommit(
      appliedIndex: now.head?.appliedIndex ?? 0, appliedTerm: now.head?.appliedTerm ?? 0,
      archive: MemoryArchive(now.versions), belowOrdinal: now.head?.nextOrdinal ?? 0,
      archivedBytes: now.versions.values.reduce(0) { $0 + $1.sizeInBytes })
  }

  var sizes: EngineSizes {
    let count = Int64(now.versions.count)
    return EngineSizes(fileBytes: 8_192 + count * 100, inUseBytes: 4_096 + count * 100)
  }

  func close() {}
}

private final class MemoryArchive: VersionArchive {
  private let versions: [UInt64: StoredVersion]
  private let ordinals: [UInt64]

  init(_ versions: [UInt64: StoredVersion]) {
    self.versions = versions
    ordinals = versions.keys.sorted()
  }

  func version(at ordinal: UInt64) -> StoredVersion { versions[ordinal]! }

  func forEachVersion(from main: Int64, below end: UInt64, _ body: (UInt64, StoredVersion) -> Bool) -> Bool {
    for ordinal in ordinals where ordinal < end && versions[ordinal]!.revision.main >= main {
      if !body(ordinal, versions[ordinal]!) { return false }
    }
    return true
  }
}

extension FakeEngine {
  /// Commits wait from now on, until `release`.
  func holdCommits() -> Hold { Hold(self) }

  struct Hold {
    private let engine: FakeEngine

    fileprivate init(_ engine: FakeEngine) {
      self.engine = engine
      engine.isHeld.store(true, ordering: .releasing)
    }

    func release() { engine.isHeld.store(false, ordering: .releasing) }
  }
}

/// The real engine on a directory that no node holds.
enum StateEngineForTests {
  static func open(_ directory: String) throws -> (StateEngine, StateMachine) {
    try StateEngine.open(directory: directory, options: EngineOptions())
  }
}
