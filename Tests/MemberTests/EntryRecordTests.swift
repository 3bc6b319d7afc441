import LogFormat
import Member
import Raft
import Testing

struct EntryRecordTests {
  private let change = Membership(voters: [1, 2], outgoing: [1, 3], learnersNext: [3])

  @Test func recordsGiveTheSameEntries() throws {
    for payload in [Entry.Payload.empty, .command([1, 2]), .membership(change, command: [3]), .command([])] {
      let entry = Entry(index: 7, term: 3, payload: payload)
      #expect(try Entry(record: LogRecord(entry: entry)) == entry)
    }
  }

  @Test func whatThisVersionCannotHaveWrittenIsRefused() {
    #expect(throws: EntryRecordFailure.unknownKind(index: 7, kind: 3)) {
      try Entry(record: LogRecord(index: 7, term: 3, kind: 3, payload: []))
    }
    let whole = LogRecord(entry: Entry(index: 7, term: 3, payload: .membership(change, command: [])))
    let cut = LogRecord(index: 7, term: 3, kind: whole.kind, payload: Array(whole.payload.dropLast()))
    #expect {
      try Entry(record: cut)
    } throws: { error in
      guard case EntryRecordFailure.malformedMembership(index: 7, _) = error else { return false }
      return true
    }
  }
}
