import LogFormat
import Primitives
import Raft

// Raft's entries as the log's records: the kind tells the payload.

/// A record that no entry can be made of, although its checksum is right.
package enum EntryRecordFailure: Error, Equatable, CustomStringConvertible {
  case unknownKind(index: LogIndex, kind: UInt8)
  case malformedMembership(index: LogIndex, DecodingFailure)

  package var description: String {
    switch self {
    case .unknownKind(let index, let kind): "entry \(index) is of kind \(kind)"
    case .malformedMembership(let index, let failure): "the membership in entry \(index) \(failure)"
    }
  }
}

extension Entry {
  /// Throws for a record that this version cannot have written.
  package init(record: LogRecord) throws(EntryRecordFailure) {
    let payload: Payload
    switch record.kind {
    case LogRecord.emptyKind: payload = .empty
    case LogRecord.commandKind: payload = .command(record.payload)
    case LogRecord.membershipKind:
      do {
        let (membership, command) = try MembershipPayload.decode(record.payload)
        payload = .membership(membership, command: command)
      } catch { throw .malformedMembership(index: record.index, error) }
    default: throw .unknownKind(index: record.index, kind: record.kind)
    }
    self.init(index: record.index, term: record.term, payload: payload)
  }

  /// Of the command.
  package var payloadBytes: Int {
    switch payload {
    case .empty: 0
    case .command(let bytes), .membership(_, let bytes): bytes.count
    }
  }
}

extension LogRecord {
  package static let emptyKind: UInt8 = 0
  package static let commandKind: UInt8 = 1
  package static let membershipKind: UInt8 = 2

  package init(entry: Entry) {
    let kind: UInt8
    let bytes: [UInt8]
    switch entry.payload {
    case .empty: (kind, bytes) = (Self.emptyKind, [])
    case .command(let command): (kind, bytes) = (Self.commandKind, command)
    case .membership(let membership, let command):
      (kind, bytes) = (Self.membershipKind, MembershipPayload.encode(membership, command: command))
    }
    self.init(index: entry.index, term: entry.term, kind: kind, payload: bytes)
  }
}
