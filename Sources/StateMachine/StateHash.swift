import Keyspace
import Primitives

/// A hash of all that the applied entries have done, one after another: members that have applied the same entries have
/// the same one at the same index, however they batched them, and whether they ran all along, started again or took a
/// snapshot in between. A member whose hash differs has another state than the others.
///
/// It costs a few words a command: keys are hashed, of a value only its length and its ends (the log's checksum covers
/// the rest on the way here).
package struct StateHash: Hashable, Sendable {
  package struct Checkpoint: Hashable, Sendable {
    package var index: UInt64
    package var hash: UInt64

    package init(index: UInt64, hash: UInt64) {
      self.index = index
      self.hash = hash
    }
  }

  /// The hash is kept at indexes that this divides, so that members which have come to different indexes find one that
  /// both have passed.
  package static let checkpointInterval: UInt64 = 64
  package static let maxCheckpoints = 64
  private static let seed: UInt64 = 0x4c48_534d

  private var words: WordHash
  /// The latest ones, rising by index.
  package private(set) var checkpoints: [Checkpoint]

  init() { self.init(value: WordHash(seed: Self.seed).state, checkpoints: []) }

  package init(value: UInt64, checkpoints: [Checkpoint]) {
    words = WordHash(state: value)
    self.checkpoints = checkpoints
  }

  package var value: UInt64 { words.state }

  /// After the last effect of an entry.
  mutating func seal(index: UInt64, term: UInt64, clock: LeaseClock, revision: Int64) {
    mix(index)
    mix(term)
    mix(UInt64(bitPattern: clock.milliseconds))
    mix(UInt64(bitPattern: revision))
    guard index % Self.checkpointInterval == 0 else { return }
    if checkpoints.count == Self.maxCheckpoints { checkpoints.removeFirst() }
    checkpoints.append(Checkpoint(index: index, hash: value))
  }

  // MARK: Effects

  @inline(__always)
  mutating func mix(_ word: UInt64) { words.mix(word) }

  @inline(__always)
  mutating func mix(_ number: Int64) { words.mix(UInt64(bitPattern: number)) }

  mutating func mix(_ bytes: [UInt8]) { bytes.withUnsafeBytes { words.mix($0) } }

  mutating func mix(_ events: [KeyspaceEvent], from first: Int) {
    // In place: a copy of each event would count references to its keys and values.
    events.withUnsafeBufferPointer { events in
      for index in first..<events.count { mix(events[index]) }
    }
  }

  @inline(__always)
  private mutating func mix(_ event: borrowing KeyspaceEvent) {
    mix(event.record.key.array)
    mix(event.record.modRevision)
    guard case .put = event.kind else { return mix(UInt64.max) }
    mix(event.record.version)
    mix(event.record.lease)
    event.record.value.array.withUnsafeBytes { value in
      words.mix(UInt64(value.count))
      guard value.count >= 8 else { return words.mix(value) }
      words.mix(UInt64(littleEndian: value.loadUnaligned(as: UInt64.self)))
      words.mix(UInt64(littleEndian: value.loadUnaligned(fromByteOffset: value.count - 8, as: UInt64.self)))
    }
  }

  mutating func mix(_ member: ClusterMember) {
    mix(member.id)
    mix(Array(member.name.utf8))
    for urls in [member.peerURLs, member.clientURLs] {
      mix(UInt64(urls.count))
      for url in urls { mix(Array(url.utf8)) }
    }
    mix(UInt64(member.isLearner ? 1 : 0))
  }

  mutating func mix(_ version: ClusterVersion) { mix(UInt64(version.major) << 32 | UInt64(version.minor)) }

  mutating func mix(_ action: AlarmAction, _ alarm: Alarm) {
    mix(alarm.memberID)
    mix(UInt64(action.rawValue) << 8 | UInt64(alarm.kind.rawValue))
  }
}

extension StateMachine {
  /// Of all entries up to `appliedIndex`.
  package var rollingHash: UInt64 { hash.value }

  /// The rolling hash as it was at `index`: nil when that was neither the last entry nor one of the latest checkpoints.
  package func hash(at index: UInt64) -> UInt64? {
    if index == appliedIndex { return hash.value }
    return hash.checkpoints.last { $0.index == index }?.hash
  }

  /// The newest one, for others to compare with their own.
  package var latestCheckpoint: StateHash.Checkpoint? { hash.checkpoints.last }

  /// What the cluster begins with, restored keys and leases among it.
  mutating func mixGenesis() {
    hash.mix(cluster.id)
    hash.mix(cluster.version)
    for member in cluster.members { hash.mix(member) }
    hash.mix(cluster.membershipBytes)
    var users = ByteWriter(reserving: 256)
    users.write(auth)
    hash.mix(users.bytes)
    let revision = keyspace.revision
    do throws(KeyspaceError) { hash.mix(UInt64(try keyspace.hash(at: revision))) } catch {
      preconditionFailure("no hash at the current revision: \(error)")
    }
    hash.mix(keyspace.compactRevision)
    hash.mix(leasesHash)
    hash.seal(index: appliedIndex, term: appliedTerm, clock: clock, revision: revision)
  }

  /// In no order, hence a sum.
  private var leasesHash: UInt64 {
    var sum: UInt64 = 0
    leases.forEach { id, ttl, deadline in
      var lease = WordHash(seed: UInt64(bitPattern: id))
      lease.mix(UInt64(bitPattern: ttl))
      lease.mix(UInt64(bitPattern: deadline.milliseconds))
      sum &+= lease.value
    }
    return sum
  }
}
