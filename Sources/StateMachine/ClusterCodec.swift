import Primitives

// The cluster's part of the state, as snapshots and the engine's head carry it, and changes of it, as commands do:
//
//   cluster: id u64 · version · members · removed: count · id u64 each · raft configuration: length · bytes
//   version: major varint · minor varint
//   members: count · member each, rising by ID
//   member:  id u64 · name · peer URLs · client URLs · is learner u8
//   URLs:    count · text each
//   hash:    value u64 · checkpoints: count · (index u64 · hash u64) each, rising
//   change:  tag u8 · add: member | remove, promote: id u64 | update: id u64 · URLs | publish: id u64 · name · URLs

private enum ChangeTag: UInt8 {
  case add = 1
  case remove = 2
  case update = 3
  case promote = 4
  case publish = 5
}

extension ByteWriter {
  package mutating func write(_ cluster: ClusterState) {
    writeFixed(cluster.id)
    write(cluster.version)
    writeCount(cluster.members.count)
    for member in cluster.members { write(member) }
    writeCount(cluster.removedMembers.count)
    for id in cluster.removedMembers { writeFixed(id) }
    writeBytes(Bytes(cluster.membershipBytes))
  }

  package mutating func write(_ hash: StateHash) {
    writeFixed(hash.value)
    writeCount(hash.checkpoints.count)
    for checkpoint in hash.checkpoints {
      writeFixed(checkpoint.index)
      writeFixed(checkpoint.hash)
    }
  }

  package mutating func write(_ change: MemberChange) {
    switch change {
    case .add(let member):
      writeByte(ChangeTag.add.rawValue)
      write(member)
    case .remove(let id):
      writeByte(ChangeTag.remove.rawValue)
      writeFixed(id)
    case .update(let id, let peerURLs):
      writeByte(ChangeTag.update.rawValue)
      writeFixed(id)
      write(peerURLs)
    case .promote(let id):
      writeByte(ChangeTag.promote.rawValue)
      writeFixed(id)
    case .publish(let id, let name, let clientURLs):
      writeByte(ChangeTag.publish.rawValue)
      writeFixed(id)
      writeText(name)
      write(clientURLs)
    }
  }

  mutating func write(_ version: ClusterVersion) {
    writeVarint(UInt64(version.major))
    writeVarint(UInt64(version.minor))
  }

  private mutating func write(_ member: ClusterMember) {
    writeFixed(member.id)
    writeText(member.name)
    write(member.peerURLs)
    write(member.clientURLs)
    writeBool(member.isLearner)
  }

  private mutating func write(_ texts: [String]) {
    writeCount(texts.count)
    for text in texts { writeText(text) }
  }
}

extension ByteReader {
  package mutating func readCluster() throws(DecodingFailure) -> ClusterState {
    var cluster = ClusterState()
    cluster.id = try readFixed()
    cluster.version = try readVersion()
    for _ in 0..<(try readCount(minimumSize: 12)) {
      let offset = offset
      let member = try readMember()
      guard member.id > cluster.members.last?.id ?? 0 else { throw .malformed(offset: offset, "members out of order") }
      cluster.members.append(member)
    }
    let offset = offset
    let removedCount = try readCount(minimumSize: 8)
    guard removedCount <= Limits.maxRemovedMembers else {
      throw .malformed(offset: offset, "\(removedCount) removed members")
    }
    for _ in 0..<removedCount { cluster.removedMembers.append(try readFixed()) }
    cluster.membershipBytes = try readBytes().array
    return cluster
  }

  package mutating func readHash() throws(DecodingFailure) -> StateHash {
    let value = try readFixed(UInt64.self)
    let offset = offset
    let count = try readCount(minimumSize: 16)
    guard count <= StateHash.maxCheckpoints else { throw .malformed(offset: offset, "\(count) checkpoints") }
    var checkpoints: [StateHash.Checkpoint] = []
    for _ in 0..<count {
      let checkpoint = StateHash.Checkpoint(index: try readFixed(), hash: try readFixed())
      guard checkpoint.index > checkpoints.last?.index ?? 0 else {
        throw .malformed(offset: offset, "checkpoints out of order")
      }
      checkpoints.append(checkpoint)
    }
    return StateHash(value: value, checkpoints: checkpoints)
  }

  package mutating func readMemberChange() throws(DecodingFailure) -> MemberChange {
    let offset = offset
    guard let tag = ChangeTag(rawValue: try readByte()) else {
      throw .malformed(offset: offset, "an unknown change of a member")
    }
    switch tag {
    case .add: return .add(try readMember())
    case .remove: return .remove(id: try readFixed())
    case .update:
      let id = try readFixed(UInt64.self)
      return .update(id: id, peerURLs: try readTexts())
    case .promote: return .promote(id: try readFixed())
    case .publish:
      let id = try readFixed(UInt64.self)
      let name = try readText()
      return .publish(id: id, name: name, clientURLs: try readTexts())
    }
  }

  mutating func readVersion() throws(DecodingFailure) -> ClusterVersion {
    let offset = offset
    guard let major = UInt32(exactly: try readVarint()), let minor = UInt32(exactly: try readVarint()) else {
      throw .malformed(offset: offset, "a version over 32 bits")
    }
    return ClusterVersion(major: major, minor: minor)
  }

  private mutating func readMember() throws(DecodingFailure) -> ClusterMember {
    let id = try readFixed(UInt64.self)
    let name = try readText()
    let peerURLs = try readTexts()
    let clientURLs = try readTexts()
    return ClusterMember(
      id: id, name: name, peerURLs: peerURLs, clientURLs: clientURLs, isLearner: try readBool())
  }

  private mutating func readTexts() throws(DecodingFailure) -> [String] {
    var texts: [String] = []
    for _ in 0..<(try readCount()) { texts.append(try readText()) }
    return texts
  }
}
