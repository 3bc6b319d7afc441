import Keyspace
import Leases
import Primitives

/// Builds a state from what an engine holds: first all leases, then all references, then `finish`. Built for speed:
/// ten million of each in a few seconds.
package struct StateLoader: Sendable {
  /// Attachments whose leases are looked up together.
  private static let attachmentsPerBatch = 256

  private let head: StateHead
  private var leaseLoader: LeaseTableLoader
  private var keyspaceLoader: KeyspaceLoader
  /// Set when the last lease is there.
  private var leases: LeaseTable?
  private var attachments = LeaseAttachments()
  private var slots: [Int] = []
  private var ids: [LeaseID] = []

  package init(head: StateHead) {
    self.head = head
    leaseLoader = LeaseTableLoader(at: head.clock)
    keyspaceLoader = KeyspaceLoader(
      revision: head.revision, compactedRevision: head.compactedRevision, nextOrdinal: head.nextOrdinal)
  }

  /// In rising order of IDs.
  package mutating func addLease(
    id: LeaseID, ttlMilliseconds: Int64, deadlineMilliseconds: Int64
  ) throws(DecodingFailure) {
    guard leases == nil else { throw .malformed(offset: 0, "a lease behind the versions") }
    try leaseLoader.add(id, ttlMilliseconds: ttlMilliseconds, deadlineMilliseconds: deadlineMilliseconds)
  }

  /// A kept version: keys rise, the references of one key rise. A key out of order (a long one) is accepted too, at
  /// the cost of a search; all versions of a key come in order or none.
  /// - Parameter lease: of the version; 0 for none and for tombstones.
  package mutating func addVersion(
    key: UnsafeRawBufferPointer, _ reference: VersionReference, lease: LeaseID
  ) throws(DecodingFailure) {
    if leases == nil { completeLeases() }
    try keyspaceLoader.add(key: key, reference, lease: lease)
    if keyspaceLoader.attachments.count >= Self.attachmentsPerBatch { try attach() }
  }

  private mutating func completeLeases() {
    // Taken out, so that nothing is shared and copied.
    var loader = LeaseTableLoader(at: head.clock)
    swap(&loader, &leaseLoader)
    attachments = LeaseAttachments(slotCount: loader.count)
    leases = loader.finish()
  }

  private mutating func attach() throws(DecodingFailure) {
    ids.removeAll(keepingCapacity: true)
    for attachment in keyspaceLoader.attachments { ids.append(attachment.lease) }
    leases?.slots(of: ids, into: &slots)
    for (position, attachment) in keyspaceLoader.attachments.enumerated() {
      guard slots[position] >= 0 else {
        throw .malformed(offset: 0, "a key on lease \(attachment.lease), which is not there")
      }
      attachments.attach(attachment.key, at: slots[position])
    }
    keyspaceLoader.attachments.removeAll(keepingCapacity: true)
  }

  /// Checks that counts agree with the head and that every key's lease is there. The state notes its changes.
  package consuming func finish(
    archive: any VersionArchive, archivedBytes: Int
  ) throws(DecodingFailure) -> StateMachine {
    guard head.revision >= 1, (-1...head.revision).contains(head.compactedRevision) else {
      throw .malformed(offset: 0, "revisions that cannot be")
    }
    guard zip(head.alarms, head.alarms.dropFirst()).allSatisfy({ $0 < $1 }) else {
      throw .malformed(offset: 0, "alarms out of order")
    }
    if leases == nil { completeLeases() }
    var machine = StateMachine()
    machine.keyspace = try keyspaceLoader.finish(archive: archive, archivedBytes: archivedBytes)
    try attach()
    machine.leases = leases ?? LeaseTable()
    machine.attachments = attachments
    guard machine.leases.count == head.leaseCount else {
      throw .malformed(offset: 0, "\(machine.leases.count) leases instead of \(head.leaseCount)")
    }
    guard machine.keyspace.keyCount == head.keyCount else {
      throw .malformed(offset: 0, "\(machine.keyspace.keyCount) keys instead of \(head.keyCount)")
    }
    machine.clock = head.clock
    machine.appliedIndex = head.appliedIndex
    machine.appliedTerm = head.appliedTerm
    machine.alarms = head.alarms
    machine.cluster = head.cluster
    machine.hash = head.hash
    machine.auth = head.auth
    machine.recordsChanges = true
    return machine
  }
}
