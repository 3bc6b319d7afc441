import Keyspace
import Primitives
import StateMachine
import Testing

private func member(_ id: UInt64, isLearner: Bool = false) -> ClusterMember {
  ClusterMember(id: id, peerURLs: ["http://host\(id):2380"], isLearner: isLearner)
}

@Suite("The members as replicated state")
struct ClusterStateTests {
  private static func cluster() -> Log {
    var log = Log()
    log.machine = StateMachine.genesis(
      clusterID: 99, members: [member(3), member(1), member(2)], membershipBytes: [7])
    return log
  }

  @Test("begin with those of the genesis, in the order of their IDs, at index 1 of term 1")
  func genesis() {
    let machine = Self.cluster().machine
    #expect((machine.appliedIndex, machine.appliedTerm, machine.keyspace.revision) == (1, 1, 1))
    #expect(machine.cluster.id == 99 && machine.cluster.members.map(\.id) == [1, 2, 3])
    #expect(machine.cluster.membershipBytes == [7])
    #expect(machine.encoded() == Self.cluster().machine.encoded())
  }

  @Test("are added, promoted, changed, told of and removed; every answer lists all")
  func life() throws {
    var log = Self.cluster()
    var added = member(4, isLearner: true)
    #expect(log.at(0, .member(.add(added))) == [.members(log.machine.cluster.members, revision: 1)])
    #expect(log.machine.cluster.member(4) == added)
    added.isLearner = false
    added.name = "new"
    added.clientURLs = ["http://host4:2379"]
    log.at(0, .member(.promote(id: 4)), .member(.publish(id: 4, name: "new", clientURLs: added.clientURLs)))
    #expect(log.machine.cluster.member(4) == added && added.hasStarted)
    added.peerURLs = ["http://moved:2380", "http://host4:2380"]
    log.at(0, .member(.update(id: 4, peerURLs: added.peerURLs)))
    #expect(log.machine.cluster.member(4) == added)
    let answer = log.at(0, .member(.remove(id: 2)))
    #expect(answer == [.members([member(1), member(3), added], revision: 1)])
    #expect(log.events.isEmpty, "membership is not of the keyspace")
  }

  @Test("of a new member only what its adder knows counts")
  func addedNameless() {
    var log = Self.cluster()
    log.at(0, .member(.add(ClusterMember(id: 4, name: "x", peerURLs: ["http://y:1"], clientURLs: ["http://z:1"]))))
    #expect(log.machine.cluster.member(4) == ClusterMember(id: 4, peerURLs: ["http://y:1"]))
  }

  @Test("are refused what etcd refuses, and nothing changes")
  func refusals() {
    var log = Self.cluster()
    log.at(0, .member(.add(member(4, isLearner: true))), .member(.remove(id: 2)))
    let taken = ClusterMember(id: 5, peerURLs: ["http://new:1", "http://host3:2380"])
    let cases: [(MemberChange, MemberRefusal)] = [
      (.add(member(1)), .memberExists), (.add(member(0)), .memberExists), (.add(member(2)), .memberRemoved),
      (.add(taken), .peerURLExists), (.add(member(5, isLearner: true)), .tooManyLearners),
      (.remove(id: 9), .memberNotFound), (.remove(id: 2), .memberRemoved),
      (.update(id: 9, peerURLs: []), .memberNotFound),
      (.update(id: 1, peerURLs: ["http://host3:2380"]), .peerURLExists),
      (.promote(id: 9), .memberNotFound), (.promote(id: 1), .notLearner), (.promote(id: 2), .memberRemoved),
      (.publish(id: 9, name: "n", clientURLs: []), .memberNotFound),
    ]
    let before = log.machine.cluster
    for (change, refusal) in cases {
      #expect(log.machine.cluster.refusal(of: change) == refusal)
      #expect(log.at(0, .member(change)) == [.refused(.member(refusal))])
      #expect(log.machine.cluster == before)
    }
    #expect(before.refusal(of: .update(id: 1, peerURLs: ["http://host1:2380"])) == nil, "its own")
    #expect(before.refusal(of: .add(ClusterMember(id: 5, peerURLs: ["http://host2:2380"]))) == nil, "a removed one's")
  }

  @Test("come and go under a full disk's alarm, and a corrupt member's")
  func alarms() {
    var log = Self.cluster()
    log.at(
      0, .alarm(.activate, Alarm(memberID: 1, kind: .noSpace)), .alarm(.activate, Alarm(memberID: 2, kind: .corrupt)))
    #expect(log.at(0, .member(.remove(id: 2)))[0].refusal == nil)
  }

  @Test("that are removed stay barred, the latest of them")
  func bound() {
    var log = Log()
    for id in 1...UInt64(Limits.maxRemovedMembers + 1) {
      log.at(0, .member(.add(member(id))), .member(.remove(id: id)))
    }
    #expect(log.machine.cluster.removedMembers.count == Limits.maxRemovedMembers)
    #expect(log.machine.cluster.refusal(of: .add(member(2))) == .memberRemoved)
    #expect(log.machine.cluster.refusal(of: .add(member(1))) == nil)
  }

  @Test("speak a version that never falls")
  func version() {
    var log = Self.cluster()
    log.at(0, .clusterVersion(ClusterVersion(major: 3, minor: 6)), .clusterVersion(ClusterVersion(major: 3, minor: 4)))
    #expect(log.machine.cluster.version == ClusterVersion(major: 3, minor: 6))
  }

  @Test("begin anew from a restored state, with its keys and the time its leases have left")
  func restored() throws {
    var log = Log()
    log.at(500, .grant(1, 10_000), .put("a", lease: 1), .alarm(.activate, Alarm(memberID: 1, kind: .noSpace)))
    var (first, second) = (log.machine, try StateMachine(decoding: log.machine.encoded()))
    let cluster = ClusterState(id: 4, members: [member(1)], membershipBytes: [])
    first.beginCluster(cluster)
    second.beginCluster(cluster)
    #expect(first.encoded() == second.encoded())
    #expect((first.appliedIndex, first.appliedTerm) == (1, 1))
    #expect(first.remainingMilliseconds(of: 1, at: first.clock) == 10_000 && first.alarms.isEmpty)
    log.at(501, .put("b"))
    log.machine.beginCluster(cluster)
    #expect(log.machine.rollingHash != first.rollingHash, "another snapshot")
  }
}
