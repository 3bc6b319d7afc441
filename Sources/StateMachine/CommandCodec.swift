import Keyspace
import Primitives

// A command batch as the log, the peers and forwarded proposals carry it:
//
//   version u8 · lease clock (signed varint, ms) · count · forwarded parts · count · commands
//
// A part is described in `ProposalOrigin`. A command is one tag byte and its fields (`RequestCodec` for those of the
// keyspace, `ClusterCodec` for those of members, `AuthCodec` for those of users). Tags are never reused; a change of any layout raises the version, and
// members write the version that the whole cluster can read.

extension CommandBatch {
  /// The format written by this build, and the newest that it can read.
  package static let formatVersion: UInt8 = 2

  package func encoded() -> [UInt8] {
    var writer = ByteWriter(reserving: 16 + commands.count * 32)
    writer.writeByte(Self.formatVersion)
    writer.writeSigned(clock.milliseconds)
    writer.write(origins)
    writer.write(commands)
    return writer.bytes
  }

  package init(decoding bytes: ArraySlice<UInt8>) throws(DecodingFailure) {
    var reader = ByteReader(bytes)
    let version = try reader.readByte()
    guard version == Self.formatVersion else { throw .unknownVersion(UInt64(version)) }
    let clock = LeaseClock(milliseconds: try reader.readSigned())
    let offset = reader.offset
    let origins = try reader.readForwardedParts()
    let commands = try reader.readCommands()
    try reader.finish()
    guard origins.fit(commands.count) else { throw .malformed(offset: offset, "more forwarded commands than commands") }
    self.init(clock: clock, commands: commands, origins: origins)
  }
}

extension [ForwardedPart] {
  fileprivate func fit(_ commandCount: Int) -> Bool {
    var rest = commandCount
    for part in self {
      guard part.commandCount <= rest else { return false }
      rest -= part.commandCount
    }
    return true
  }
}

private enum CommandTag: UInt8 {
  case put = 1
  case delete = 2
  case transaction = 3
  case compact = 4
  case leaseGrant = 5
  case leaseRevoke = 6
  case leaseRenew = 7
  case leaseExpire = 8
  case grantAndTransact = 9
  case tick = 10
  case alarm = 11
  case member = 12
  case clusterVersion = 13
  case grantTransactAndRevoke = 14
  case auth = 15
  case authored = 16
}

extension ByteWriter {
  private mutating func writeTag(_ tag: CommandTag) { writeByte(tag.rawValue) }

  /// A count and the commands, as in a batch.
  package mutating func write(_ commands: [Command]) {
    writeCount(commands.count)
    for command in commands { write(command) }
  }

  package mutating func write(_ command: Command) {
    switch command {
    case .put(let request):
      writeTag(.put)
      write(request)
    case .delete(let request):
      writeTag(.delete)
      write(request)
    case .transaction(let request):
      writeTag(.transaction)
      write(request)
    case .compact(let revision):
      writeTag(.compact)
      writeSigned(revision)
    case .leaseGrant(let id, let ttl):
      writeTag(.leaseGrant)
      write(LeaseGrant(id: id, ttlMilliseconds: ttl))
    case .leaseRevoke(let id):
      writeTag(.leaseRevoke)
      writeFixed(id)
    case .leaseRenew(let ids):
      writeTag(.leaseRenew)
      write(ids)
    case .leaseExpire(let ids):
      writeTag(.leaseExpire)
      write(ids)
    case .grantAndTransact(let grants, let request, let revokes):
      writeTag(revokes.isEmpty ? .grantAndTransact : .grantTransactAndRevoke)
      writeCount(grants.count)
      for grant in grants { write(grant) }
      write(request)
      if !revokes.isEmpty { write(revokes) }
    case .tick:
      writeTag(.tick)
    case .alarm(let action, let alarm):
      writeTag(.alarm)
      writeByte(action.rawValue)
      write(alarm)
    case .member(let change):
      writeTag(.member)
      write(change)
    case .clusterVersion(let version):
      writeTag(.clusterVersion)
      write(version)
    case .auth(let command):
      writeTag(.auth)
      write(command)
    case .authored(let author, let inner):
      writeTag(.authored)
      write(author)
      write(inner)
    }
  }

  package mutating func write(_ alarm: Alarm) {
    writeFixed(alarm.memberID)
    writeByte(alarm.kind.rawValue)
  }

  private mutating func write(_ grant: LeaseGrant) {
    writeFixed(grant.id)
    writeSigned(grant.ttlMilliseconds)
  }

  private mutating func write(_ ids: [LeaseID]) {
    writeCount(ids.count)
    for id in ids { writeFixed(id) }
  }
}

extension ByteReader {
  package mutating func readCommands() throws(DecodingFailure) -> [Command] {
    let count = try readCount()
    var commands: [Command] = []
    commands.reserveCapacity(count)
    for _ in 0..<count { commands.append(try readCommand()) }
    return commands
  }

  package mutating func readCommand() throws(DecodingFailure) -> Command {
    let start = offset
    guard let tag = CommandTag(rawValue: try readByte()) else { throw .malformed(offset: start, "an unknown command") }
    switch tag {
    case .put: return .put(try readPut())
    case .delete: return .delete(try readDelete())
    case .transaction: return .transaction(try readTransaction())
    case .compact: return .compact(revision: try readSigned())
    case .leaseGrant:
      let grant = try readGrant()
      return .leaseGrant(id: grant.id, ttlMilliseconds: grant.ttlMilliseconds)
    case .leaseRevoke: return .leaseRevoke(id: try readFixed())
    case .leaseRenew: return .leaseRenew(ids: try readLeaseIDs())
    case .leaseExpire: return .leaseExpire(ids: try readLeaseIDs())
    case .grantAndTransact:
      return .grantAndTransact(grants: try readGrants(), request: try readTransaction())
    case .grantTransactAndRevoke:
      let (grants, request) = (try readGrants(), try readTransaction())
      return .grantAndTransact(grants: grants, request: request, revokes: try readLeaseIDs())
    case .tick: return .tick
    case .alarm:
      let offset = offset
      guard let action = AlarmAction(rawValue: try readByte()) else {
        throw .malformed(offset: offset, "an unknown action on an alarm")
      }
      return .alarm(action, try readAlarm())
    case .member: return .member(try readMemberChange())
    case .clusterVersion: return .clusterVersion(try readVersion())
    case .auth: return .auth(try readAuthCommand())
    case .authored: return try readAuthored()
    }
  }

  private mutating func readAuthored() throws(DecodingFailure) -> Command {
    let author = try readAuthor()
    let offset = offset
    guard isAtEnd || bytes[position] != CommandTag.authored.rawValue else {
      throw .malformed(offset: offset, "an author inside another")
    }
    return .authored(author, try readCommand())
  }

  package mutating func readAlarm() throws(DecodingFailure) -> Alarm {
    let memberID = try readFixed(UInt64.self)
    let offset = offset
    guard let kind = Alarm.Kind(rawValue: try readByte()) else {
      throw .malformed(offset: offset, "an unknown kind of alarm")
    }
    return Alarm(memberID: memberID, kind: kind)
  }

  private mutating func readGrants() throws(DecodingFailure) -> [LeaseGrant] {
    var grants: [LeaseGrant] = []
    for _ in 0..<(try readCount(minimumSize: 9)) { grants.append(try readGrant()) }
    return grants
  }

  private mutating func readGrant() throws(DecodingFailure) -> LeaseGrant {
    let id = try readFixed(LeaseID.self)
    return LeaseGrant(id: id, ttlMilliseconds: try readSigned())
  }

  private mutating func readLeaseIDs() throws(DecodingFailure) -> [LeaseID] {
    let count = try readCount(minimumSize: 8)
    var ids: [LeaseID] = []
    ids.reserveCapacity(count)
    for _ in 0..<count { ids.append(try readFixed()) }
    return ids
  }
}
