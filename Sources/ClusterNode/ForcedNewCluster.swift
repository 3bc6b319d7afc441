import Keyspace
import Member
import Raft
import StateMachine
import Storage

/// etcd's `--force-new-cluster`: the way out when a quorum is lost for good. Everything in this member's log becomes part
/// of its state, committed or not (nobody else is left to say otherwise), and the member becomes the only one.
///
/// A crash before the state is stored leaves everything as it was; after that the member is alone.
enum ForcedNewCluster {
  static func make(
    of machine: inout StateMachine, _ entries: [Entry], memberID: UInt64, store: any StateStore
  ) throws(StorageError) {
    for entry in entries { apply(entry, to: &machine) }
    machine.becomeSoleMember(memberID, membershipBytes: Membership(voters: [memberID]).encodedBytes)
    let commit = try store.commit(machine.cut())
    _ = machine.rebase(onto: commit.archive, below: commit.belowOrdinal, archivedBytes: commit.archivedBytes)
  }

  private static func apply(_ entry: Entry, to machine: inout StateMachine) {
    var results: [CommandResult] = []
    var events: [KeyspaceEvent] = []
    if case .membership(let membership, _) = entry.payload { machine.applyMembership(membership.encodedBytes) }
    guard let batch = MemberCore.batch(of: entry) else { return machine.skip(index: entry.index, term: entry.term) }
    machine.apply(batch, index: entry.index, term: entry.term, results: &results, events: &events)
  }
}
