import Primitives
import Raft
import Testing

struct MembershipTests {
  private let joint = Membership(voters: [3, 4, 9], outgoing: [2, 1, 3], learners: [7], learnersNext: [1])

  @Test func bytesGiveTheSameMembership() throws {
    let empty = Membership.empty
    for membership in [joint, empty, Membership(voters: [.max, 1])] {
      var writer = ByteWriter()
      membership.encode(into: &writer)
      var reader = ByteReader(writer.bytes)
      #expect(try Membership(decoding: &reader) == membership)
      try reader.finish()
    }
    let bytes = MembershipPayload.encode(joint, command: [1, 2, 3])
    let (membership, command) = try MembershipPayload.decode(bytes)
    #expect(membership == joint && command == [1, 2, 3])
  }

  @Test func noPrefixDecodes() {
    let bytes = MembershipPayload.encode(joint, command: [])
    for count in 0..<bytes.count {
      #expect(throws: DecodingFailure.self) { try MembershipPayload.decode(Array(bytes[..<count])) }
    }
  }

  @Test(arguments: [
    ([2, 1, 1, 0, 0, 0], "another version"), ([1, 0, 0, 1, 9, 0], "learners without voters"),
    ([1, 2, 5, 5, 0, 0, 0], "a voter twice"), ([1, 2, 6, 5, 0, 0, 0], "descending"), ([1, 1, 0, 0, 0, 0], "id 0"),
    ([1, 1, 5, 0, 1, 5, 0], "a learner that votes"), ([1, 1, 5, 0, 0, 1, 6], "a coming learner that does not go"),
    ([1, 1, 5, 2, 5, 6, 0, 1, 5], "a coming learner that stays"), ([1, 0, 1, 5, 0, 0], "outgoing voters alone"),
  ])
  func impossibleMembershipsAreRefused(numbers: [UInt64], why: String) {
    var writer = ByteWriter()
    writer.writeByte(UInt8(numbers[0]))
    var rest = numbers.dropFirst()
    while let count = rest.popFirst() {
      writer.writeVarint(count)
      for id in rest.prefix(Int(count)) { writer.writeFixed(id) }
      rest = rest.dropFirst(Int(count))
    }
    #expect(throws: DecodingFailure.self, "\(why)") { try MembershipPayload.decode(writer.bytes) }
  }

  @Test func oneVoterMayComeOrGoAtOnce() {
    let three = Membership(voters: [1, 2, 3], learners: [8])
    for target in [
      Membership(voters: [1, 2]), Membership(voters: [1, 2, 3, 4]), Membership(voters: [1, 2], learners: [3, 9]),
      Membership(voters: [1, 2, 3, 8]), three,
    ] { #expect(three.step(to: target) == target) }
    let step = three.step(to: Membership(voters: [1, 2, 8], learners: [3, 9]))
    #expect(step == Membership(voters: [1, 2, 8], outgoing: [1, 2, 3], learners: [9], learnersNext: [3]))
    #expect(step.fault == nil && step.leftJoint == Membership(voters: [1, 2, 8], learners: [3, 9]))
  }

  /// By counting all subsets: two quorums of one membership, or of two that follow one another, share a member.
  @Test func quorumsOfSuccessiveMembershipsMeet() {
    let targets = [[1], [1, 2], [2, 3], [1, 2, 3], [3, 4, 5], [1, 2, 3, 4], [1, 2, 3, 4, 5]].map {
      Membership(voters: $0)
    }
    for from in targets {
      for to in targets {
        let step = from.step(to: to)
        for (a, b) in [(from, step), (step, step), (step, step.isJoint ? step.leftJoint : step)] {
          for one in 0..<64 where a.hasQuorum({ one >> $0 & 1 == 1 }) {
            for two in 0..<64 where one & two == 0 { #expect(!b.hasQuorum { two >> $0 & 1 == 1 }, "\(a) and \(b)") }
          }
        }
      }
    }
  }

  @Test func countingAgreesWithQuorums() {
    var generator = SeededGenerator(seed: 7)
    for membership in [Membership(voters: [1, 2]), Membership(voters: [1, 2, 3]), joint] {
      for _ in 0..<200 {
        let held = (0..<10).map { _ in LogIndex.random(in: 0...5, using: &generator) }
        let index = membership.quorumIndex { held[Int($0)] }
        #expect(membership.hasQuorum { held[Int($0)] >= index })
        #expect(!membership.hasQuorum { held[Int($0)] > index })
        // Those against leave no quorum if and only if the others are none.
        #expect(membership.isBlocked { held[Int($0)] < 3 } == !membership.hasQuorum { held[Int($0)] >= 3 })
      }
    }
  }
}
