import Keyspace
import Leases
import Primitives

/// Builds a state from what `StateSnapshotWriter` wrote, as it comes in. Between two pieces its driver may take cuts of
/// the half-built state, commit and rebase (`machine`), so that values need not fit into memory; nothing of that may be
/// used before `finish` has found the checksum right.
package struct StateSnapshotReader: Sendable {
  private enum Part {
    case opening
    case length
    case payload(Int)
    case trailer
    case done
  }

  /// What is built so far.
  package var machine = StateMachine()

  private var part = Part.opening
  /// Bytes of the part at hand, which is not complete yet.
  private var pending: [UInt8] = []
  private var checksum: UInt32 = 0
  /// Bytes taken in before `pending`, for messages.
  private var offset = 0

  private var version = SnapshotFormat.version
  private var isHeadRead = false
  private var leases = LeaseDecoder()
  private var keyspace = KeyspaceDecoder()
  /// Keys whose latest version so far names a lease that is gone. The rest of their history must lead them away.
  private var strandedKeys: Set<Bytes> = []

  /// - Parameter recordingChanges: needed by a driver that takes cuts.
  package init(recordingChanges: Bool = false) {
    if recordingChanges { machine.recordChanges() }
  }

  /// Takes in the next bytes, as many as there are. Throws when there are more than the state has.
  package mutating func feed(_ bytes: ArraySlice<UInt8>) throws(DecodingFailure) {
    guard try feedPrefix(bytes).isEmpty else { throw .trailingBytes(offset: offset) }
  }

  /// As `feed`, but bytes may follow the state: answers those.
  package mutating func feedPrefix(_ bytes: ArraySlice<UInt8>) throws(DecodingFailure) -> ArraySlice<UInt8> {
    var rest = bytes
    while true {
      let missing = wanted - pending.count
      if missing > 0 {
        pending += rest.prefix(missing)
        rest = rest.dropFirst(missing)
        if pending.count < wanted { return rest }
      }
      if case .done = part { return rest }
      try take()
    }
  }

  /// How many bytes the part at hand has.
  private var wanted: Int {
    switch part {
    case .opening: SnapshotFormat.headBytes
    case .length: SnapshotFormat.lengthBytes
    case .payload(let length): length
    case .trailer: SnapshotFormat.trailerBytes
    case .done: 0
    }
  }

  /// Reads the part at hand, all of which is in `pending`.
  private mutating func take() throws(DecodingFailure) {
    var reader = ByteReader(pending)
    if case .trailer = part {
      guard try reader.readFixed(UInt32.self) == checksum else {
        throw .malformed(offset: offset, "a checksum that does not match")
      }
      part = .done
    } else {
      checksum = CRC32C.checksum(pending, seed: checksum)
      part = try following(&reader)
    }
    offset += pending.count
    pending.removeAll(keepingCapacity: true)
  }

  private mutating func following(_ reader: inout ByteReader) throws(DecodingFailure) -> Part {
    switch part {
    case .opening:
      for expected in SnapshotFormat.magic {
        guard try reader.readByte() == expected else { throw .malformed(offset: 0, "no state snapshot") }
      }
      version = try reader.readByte()
      guard version == SnapshotFormat.version || version == SnapshotFormat.versionBeforeAuth else {
        throw .unknownVersion(UInt64(version))
      }
      return .length
    case .length:
      let length = Int(try reader.readFixed(UInt32.self))
      guard length <= SnapshotFormat.maxFrameBytes else { throw .malformed(offset: offset, "a frame that is too long") }
      guard length == 0 else { return .payload(length) }
      guard keyspace.isFinished else { throw .truncated(offset: offset) }
      return .trailer
    case .payload:
      try read(&reader)
      return .length
    case .trailer, .done: preconditionFailure("no part follows the trailer")
    }
  }

  // MARK: Payloads

  private mutating func read(_ reader: inout ByteReader) throws(DecodingFailure) {
    if !isHeadRead {
      try readHead(from: &reader)
      isHeadRead = true
    }
    if !leases.isFinished {
      try readLeases(from: &reader)
      guard leases.isFinished else { return }
    }
    if !keyspace.isFinished, !reader.isAtEnd { try readKeyspace(from: &reader) }
    try reader.finish()
  }

  private mutating func readHead(from reader: inout ByteReader) throws(DecodingFailure) {
    machine.appliedIndex = try reader.readFixed()
    machine.appliedTerm = try reader.readFixed()
    machine.clock = LeaseClock(milliseconds: try reader.readFixed())
    for _ in 0..<(try reader.readCount(minimumSize: 9)) {
      let start = reader.offset
      let alarm = try reader.readAlarm()
      if let last = machine.alarms.last, alarm <= last { throw .malformed(offset: start, "alarms out of order") }
      machine.alarms.append(alarm)
    }
    machine.cluster = try reader.readCluster()
    machine.hash = try reader.readHash()
    if version != SnapshotFormat.versionBeforeAuth { machine.auth = try reader.readAuth() }
  }

  private mutating func readLeases(from reader: inout ByteReader) throws(DecodingFailure) {
    var changes = machine.leaseChanges
    machine.leaseChanges = ChunkedArray()
    defer { machine.leaseChanges = changes }
    let recordsChanges = machine.recordsChanges
    try leases.decode(from: &reader, into: &machine.leases, at: machine.clock) { id, ttl, deadline in
      guard recordsChanges else { return }
      changes.append(LeaseChange(id: id, ttlMilliseconds: ttl, deadlineMilliseconds: deadline.milliseconds))
    }
  }

  private mutating func readKeyspace(from reader: inout ByteReader) throws(DecodingFailure) {
    var attachments = machine.attachments
    machine.attachments = LeaseAttachments()
    var stranded = strandedKeys
    strandedKeys = []
    defer { (machine.attachments, strandedKeys) = (attachments, stranded) }
    let leases = machine.leases
    try keyspace.decode(from: &reader, into: &machine.keyspace) { key, before, after in
      if before != 0 {
        if let slot = leases.slot(of: before) { attachments.detach(key, at: slot) } else { stranded.remove(key) }
      }
      if after != 0 {
        if let slot = leases.slot(of: after) { attachments.attach(key, at: slot) } else { stranded.insert(key) }
      }
    }
  }

  // MARK: The end

  /// The state. Throws when bytes are missing.
  package consuming func finish() throws(DecodingFailure) -> StateMachine {
    guard case .done = part else { throw .truncated(offset: offset + pending.count) }
    if let key = strandedKeys.first { throw .malformed(offset: offset, "a key on a lease that is not there: \(key)") }
    return machine
  }
}
