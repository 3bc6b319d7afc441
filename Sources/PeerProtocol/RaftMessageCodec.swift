import Primitives
import Raft

// Payload of a raft frame:
//
//   body u8 · from u64 · to u64 · term varint · the body's fields
//
// An entry ID is index varint · term varint. An append is the previous entry's ID · commit varint · count · table ·
// payloads. The table is length varint · for each entry term varint · kind u8 and, unless it is empty, the payload's
// length varint, so that payloads, which make up nearly all of it, are written and read in one piece each. An entry
// that changes the membership has it there, too, behind its length. Indices are not written: entries follow on the
// previous one without a gap.

private enum BodyTag: UInt8 {
  case voteRequest = 1
  case voteResponse = 2
  case appendRequest = 3
  case matched = 4
  case mismatch = 5
  case heartbeat = 6
  case heartbeatResponse = 7
  case timeoutNow = 8
  case snapshot = 9
  case readRequest = 10
  case readResponse = 11
  case readRefused = 12
}

private enum EntryKind: UInt8 {
  case empty = 0
  case command = 1
  case membership = 2
}

extension EncodedFrame {
  static func raft(_ message: Message) throws(PeerProtocolError) -> EncodedFrame {
    var writer = begin(reserving: 96)
    var bodies: [[UInt8]] = []
    writer.writeByte(tag(message.body).rawValue)
    writer.writeFixed(message.from)
    writer.writeFixed(message.to)
    writer.writeVarint(message.term)
    switch message.body {
    case .voteRequest(let request):
      writer.writeBool(request.isPreVote)
      writer.write(request.last)
      writer.writeBool(request.isTransfer)
    case .voteResponse(let response):
      writer.writeBool(response.isPreVote)
      writer.writeBool(response.isGranted)
    case .appendRequest(let request):
      writer.write(request, bodies: &bodies)
    case .appendResponse(.matched(let index)):
      writer.writeVarint(index)
    case .appendResponse(.mismatch(let rejected, let hint)):
      writer.writeVarint(rejected)
      writer.write(hint)
    case .heartbeat(let heartbeat):
      writer.writeVarint(heartbeat.commit)
      writer.writeVarint(heartbeat.readRound)
    case .heartbeatResponse(let response):
      writer.writeVarint(response.readRound)
    case .timeoutNow: break
    case .snapshot(let mark):
      writer.write(mark.last)
      writer.write(mark.membership)
    case .readRequest(let context), .readRefused(let context):
      writer.writeVarint(context)
    case .readResponse(let context, let index):
      writer.writeVarint(context)
      writer.writeVarint(index)
    }
    return try EncodedFrame(.raft, writer, bodies: bodies)
  }

  private static func tag(_ body: Message.Body) -> BodyTag {
    switch body {
    case .voteRequest: .voteRequest
    case .voteResponse: .voteResponse
    case .appendRequest: .appendRequest
    case .appendResponse(.matched): .matched
    case .appendResponse(.mismatch): .mismatch
    case .heartbeat: .heartbeat
    case .heartbeatResponse: .heartbeatResponse
    case .timeoutNow: .timeoutNow
    case .snapshot: .snapshot
    case .readRequest: .readRequest
    case .readResponse: .readResponse
    case .readRefused: .readRefused
    }
  }
}

extension Message {
  /// The payload of its frame alone: what a snapshot's offer brings as its mark.
  package func encoded() throws(PeerProtocolError) -> [UInt8] {
    let frame = try EncodedFrame.raft(self)
    return frame.bodies.reduce(Array(frame.head.dropFirst(EncodedFrame.headerBytes)), +)
  }

  package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    var reader = ByteReader(bytes)
    self = try reader.readRaftMessage()
    try reader.finish()
  }
}

extension ByteWriter {
  fileprivate mutating func write(_ id: EntryID) {
    writeVarint(id.index)
    writeVarint(id.term)
  }

  fileprivate mutating func write(_ membership: Membership) {
    var inner = ByteWriter()
    membership.encode(into: &inner)
    writeCount(inner.count)
    bytes.append(contentsOf: inner.bytes)
  }

  fileprivate mutating func write(_ request: AppendRequest, bodies: inout [[UInt8]]) {
    write(request.previous)
    writeVarint(request.commit)
    writeCount(request.entries.count)
    bodies.reserveCapacity(request.entries.count)
    var table = ByteWriter(reserving: request.entries.count * 8)
    var index = request.previous.index
    for entry in request.entries {
      index += 1
      precondition(entry.index == index, "an append with a gap between its entries")
      table.writeVarint(entry.term)
      switch entry.payload {
      case .empty:
        table.writeByte(EntryKind.empty.rawValue)
      case .command(let bytes):
        table.writeByte(EntryKind.command.rawValue)
        table.writeCount(bytes.count)
        bodies.append(bytes)
      case .membership(let membership, let command):
        table.writeByte(EntryKind.membership.rawValue)
        table.write(membership)
        table.writeCount(command.count)
        bodies.append(command)
      }
    }
    writeCount(table.count)
    bytes.append(contentsOf: table.bytes)
  }
}

extension ByteReader {
  mutating func readRaftMessage() throws(DecodingFailure) -> Message {
    guard let tag = BodyTag(rawValue: try readByte()) else { throw .malformed(offset: 0, "an unknown raft message") }
    let from = try readFixed(NodeID.self)
    let to = try readFixed(NodeID.self)
    let term = try readVarint()
    return Message(from: from, to: to, term: term, body: try readBody(tag))
  }

  private mutating func readBody(_ tag: BodyTag) throws(DecodingFailure) -> Message.Body {
    switch tag {
    case .voteRequest:
      let isPreVote = try readBool()
      let last = try readEntryID()
      return .voteRequest(VoteRequest(isPreVote: isPreVote, last: last, isTransfer: try readBool()))
    case .voteResponse:
      let isPreVote = try readBool()
      return .voteResponse(VoteResponse(isPreVote: isPreVote, isGranted: try readBool()))
    case .appendRequest:
      return .appendRequest(try readAppendRequest())
    case .matched:
      return .appendResponse(.matched(try readVarint()))
    case .mismatch:
      let rejected = try readVarint()
      return .appendResponse(.mismatch(rejected: rejected, hint: try readEntryID()))
    case .heartbeat:
      let commit = try readVarint()
      return .heartbeat(Heartbeat(commit: commit, readRound: try readVarint()))
    case .heartbeatResponse:
      return .heartbeatResponse(HeartbeatResponse(readRound: try readVarint()))
    case .timeoutNow:
      return .timeoutNow
    case .snapshot:
      let last = try readEntryID()
      return .snapshot(SnapshotMark(last: last, membership: try readMembership()))
    case .readRequest:
      return .readRequest(context: try readVarint())
    case .readResponse:
      let context = try readVarint()
      return .readResponse(context: context, index: try readVarint())
    case .readRefused:
      return .readRefused(context: try readVarint())
    }
  }

  /// Bounded, since the rules of a membership take time to check.
  private mutating func readMembership() throws(DecodingFailure) -> Membership {
    let offset = offset
    var inner = ByteReader(try readSlice())
    guard inner.remaining <= Limits.maxMembershipBytes else {
      throw .malformed(offset: offset, "a membership of \(inner.remaining) bytes")
    }
    let membership = try Membership(decoding: &inner)
    try inner.finish()
    return membership
  }

  private mutating func readEntryID() throws(DecodingFailure) -> EntryID {
    let index = try readVarint()
    return EntryID(index: index, term: try readVarint())
  }

  private mutating func readAppendRequest() throws(DecodingFailure) -> AppendRequest {
    let previous = try readEntryID()
    let commit = try readVarint()
    let offset = offset
    let count = try readCount(minimumSize: 2)
    guard count <= Limits.maxPeerMessageEntries else { throw .malformed(offset: offset, "\(count) entries") }
    guard previous.index <= .max - UInt64(count) else { throw .malformed(offset: offset, "an index over 64 bits") }
    var table = ByteReader(try readSlice())
    var entries: [Entry] = []
    entries.reserveCapacity(count)
    for order in 0..<UInt64(count) {
      let term = try table.readVarint()
      let payload = try readPayload(&table)
      entries.append(Entry(index: previous.index + 1 + order, term: term, payload: payload))
    }
    try table.finish()
    return AppendRequest(previous: previous, entries: entries, commit: commit)
  }

  private mutating func readPayload(_ table: inout ByteReader) throws(DecodingFailure) -> Entry.Payload {
    let offset = table.offset
    switch EntryKind(rawValue: try table.readByte()) {
    case .empty:
      return .empty
    case .command:
      return .command(Array(try readSlice(count: try table.readVarint())))
    case .membership:
      let membership = try table.readMembership()
      return .membership(membership, command: Array(try readSlice(count: try table.readVarint())))
    case nil:
      throw .malformed(offset: offset, "an unknown kind of entry")
    }
  }
}
