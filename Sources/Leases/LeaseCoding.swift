import Primitives

// A lease table as bytes: the count, then the leases in the order of their IDs, each the ID (the first as it is, each
// further one as its distance to the one before), the TTL and the deadline in milliseconds, all variable integers.
// Equal tables have equal bytes, whatever happened to them before.

extension LeaseTable {
  package func encode(into writer: inout ByteWriter) {
    var encoder = LeaseEncoder(self)
    encoder.encode(into: &writer, upTo: .max)
  }

  /// `clock` is the lease clock of the snapshot: deadlines are absolute, it only tells the wheel where to stand.
  package init(decoding reader: inout ByteReader, at clock: LeaseClock) throws(DecodingFailure) {
    self.init()
    var decoder = LeaseDecoder()
    try decoder.decode(from: &reader, into: &self, at: clock) { _, _, _ in }
    guard decoder.isFinished else { throw .truncated(offset: reader.offset) }
  }
}

/// Writes a lease table in pieces. Holds a copy of it.
package struct LeaseEncoder: Sendable {
  private let table: LeaseTable
  /// All of them in order: 8 bytes a lease.
  private var ids: [LeaseID]?
  private var position = 0

  package init(_ table: LeaseTable) { self.table = table }

  package var isFinished: Bool { ids.map { position == $0.count } ?? false }

  /// Goes on until `writer` holds `byteCount` bytes or a little more, or all leases are written.
  package mutating func encode(into writer: inout ByteWriter, upTo byteCount: Int) {
    let ids = sortedIDs(into: &writer)
    while position < ids.count, writer.count < byteCount {
      let id = ids[position]
      guard let slot = table.slot(of: id) else { preconditionFailure("lease \(id) has left a table at rest") }
      if position > 0 {
        writer.writeVarint(UInt64(bitPattern: id &- ids[position - 1]))
      } else {
        writer.writeSigned(id)
      }
      writer.writeVarint(UInt64(table.grantedTTLMilliseconds(at: slot)))
      writer.writeSigned(table.deadline(at: slot).milliseconds)
      position += 1
    }
  }

  /// The first time it writes the count, too.
  private mutating func sortedIDs(into writer: inout ByteWriter) -> [LeaseID] {
    if let ids { return ids }
    var all: [LeaseID] = []
    all.reserveCapacity(table.count)
    table.forEach { id, _, _ in all.append(id) }
    all.sort()
    ids = all
    writer.writeCount(all.count)
    return all
  }
}

/// Reads what `LeaseEncoder` wrote, in pieces that end between leases.
package struct LeaseDecoder: Sendable {
  private var countLeft: UInt64?
  private var previous: LeaseID?

  package init() {}

  package var isFinished: Bool { countLeft == 0 }

  /// Reads on until all leases are there or `reader` is at its end.
  /// - Parameter didRestore: told of each lease: its ID, TTL and deadline.
  package mutating func decode(
    from reader: inout ByteReader, into table: inout LeaseTable, at clock: LeaseClock,
    didRestore: (LeaseID, Int64, LeaseClock) -> Void
  ) throws(DecodingFailure) {
    var left: UInt64
    if let countLeft { left = countLeft } else { left = try reader.readVarint() }
    while left > 0, !reader.isAtEnd {
      let offset = reader.offset
      let id = try readID(from: &reader)
      let ttl = try reader.readVarint()
      guard ttl > 0, ttl <= UInt64(Int64.max) else {
        throw .malformed(offset: offset, "a lease with a TTL out of range")
      }
      let deadline = LeaseClock(milliseconds: try reader.readSigned())
      guard table.restore(id, ttlMilliseconds: Int64(ttl), deadline: deadline, at: clock) else {
        throw .malformed(offset: offset, "a lease with ID 0 or that of another one")
      }
      didRestore(id, Int64(ttl), deadline)
      previous = id
      left -= 1
    }
    countLeft = left
  }

  private func readID(from reader: inout ByteReader) throws(DecodingFailure) -> LeaseID {
    guard let previous else { return try reader.readSigned() }
    let offset = reader.offset
    let (sum, overflow) = previous.addingReportingOverflow(unsigned: try reader.readVarint())
    guard !overflow, sum > previous else { throw .malformed(offset: offset, "lease IDs that do not rise") }
    return sum
  }
}

extension Int64 {
  /// As `addingReportingOverflow`, for a distance that may exceed `Int64.max`.
  fileprivate func addingReportingOverflow(unsigned distance: UInt64) -> (sum: Int64, overflow: Bool) {
    let (sum, overflow) = (UInt64(bitPattern: self) ^ (1 << 63)).addingReportingOverflow(distance)
    return (Int64(bitPattern: sum ^ (1 << 63)), overflow)
  }
}
