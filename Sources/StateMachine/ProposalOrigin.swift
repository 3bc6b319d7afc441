import Primitives

/// Who proposed, when it was not the leader: a member sends its proposals to the leader, the leader's entry names them,
/// and whoever applies the entry and finds its own name there answers its own caller from its own results.
package struct ProposalOrigin: Hashable, Sendable {
  package var memberID: UInt64
  /// Drawn at random when the member's process starts, so that no proposal of a former life is taken for one of this.
  package var session: UInt64
  /// Rises with every proposal of the session.
  package var sequence: UInt64

  package init(memberID: UInt64, session: UInt64, sequence: UInt64) {
    self.memberID = memberID
    self.session = session
    self.sequence = sequence
  }
}

/// One forwarded proposal inside a batch: its next `commandCount` commands.
package struct ForwardedPart: Hashable, Sendable {
  package var origin: ProposalOrigin
  /// At least 1.
  package var commandCount: Int

  package init(origin: ProposalOrigin, commandCount: Int) {
    self.origin = origin
    self.commandCount = commandCount
  }
}

// An origin is member ID u64 · session u64 · sequence varint; a part is an origin and its count.

extension ByteWriter {
  package mutating func write(_ origin: ProposalOrigin) {
    writeFixed(origin.memberID)
    writeFixed(origin.session)
    writeVarint(origin.sequence)
  }

  mutating func write(_ parts: [ForwardedPart]) {
    writeCount(parts.count)
    for part in parts {
      write(part.origin)
      writeCount(part.commandCount)
    }
  }
}

extension ByteReader {
  package mutating func readOrigin() throws(DecodingFailure) -> ProposalOrigin {
    let memberID = try readFixed(UInt64.self)
    let session = try readFixed(UInt64.self)
    return ProposalOrigin(memberID: memberID, session: session, sequence: try readVarint())
  }

  /// Each part has at least one command; whether there are as many commands, the reader of the commands checks.
  mutating func readForwardedParts() throws(DecodingFailure) -> [ForwardedPart] {
    let count = try readCount(minimumSize: 18)
    var parts: [ForwardedPart] = []
    parts.reserveCapacity(count)
    for _ in 0..<count {
      let origin = try readOrigin()
      let offset = offset
      let commandCount = try readCount()
      guard commandCount > 0 else { throw .malformed(offset: offset, "a forwarded proposal without commands") }
      parts.append(ForwardedPart(origin: origin, commandCount: commandCount))
    }
    return parts
  }
}
