import Keyspace
import Leases
import Primitives

/// Writes a state out in pieces. Holds a copy of the state (whose storage it shares), one frame, and 8 bytes a lease.
package struct StateSnapshotWriter: Sendable {
  private enum Part {
    case head, leases, keyspace, end, done
  }

  private let appliedIndex: UInt64
  private let appliedTerm: UInt64
  private let clock: LeaseClock
  private let alarms: [Alarm]
  private let cluster: ClusterState
  private let hash: StateHash
  private let auth: AuthState
  private var leases: LeaseEncoder
  private var keyspace: KeyspaceEncoder

  private var part = Part.head
  /// Of all bytes framed so far.
  private var checksum: UInt32 = 0
  /// Framed bytes that have not been asked for yet: those from `position` on.
  private var framed: [UInt8]
  private var position = 0

  package init(_ machine: StateMachine) {
    appliedIndex = machine.appliedIndex
    appliedTerm = machine.appliedTerm
    clock = machine.clock
    alarms = machine.alarms
    cluster = machine.cluster
    hash = machine.hash
    auth = machine.auth
    leases = LeaseEncoder(machine.leases)
    keyspace = KeyspaceEncoder(machine.keyspace)
    framed = SnapshotFormat.magic + [SnapshotFormat.version]
    checksum = CRC32C.checksum(framed)
  }

  /// The next bytes: `maxBytes` of them until the last ones, nil behind those.
  package mutating func next(maxBytes: Int) -> [UInt8]? {
    precondition(maxBytes > 0, "a piece of no bytes")
    while part != .done, framed.count - position < maxBytes {
      if position > 0 {
        framed.removeFirst(position)
        position = 0
      }
      frame()
    }
    guard position < framed.count else { return nil }
    let end = min(framed.count - position, maxBytes) + position
    defer { position = end }
    return position == 0 && end == framed.count ? framed : Array(framed[position..<end])
  }

  /// Appends one frame, or the end.
  private mutating func frame() {
    var payload = ByteWriter(reserving: SnapshotFormat.frameBytes + SnapshotFormat.frameBytes / 4)
    payload.writeFixed(UInt32(0))
    fill(&payload)
    let length = UInt32(payload.count - SnapshotFormat.lengthBytes).littleEndian
    withUnsafeBytes(of: length) { payload.bytes.replaceSubrange(..<SnapshotFormat.lengthBytes, with: $0) }
    checksum = CRC32C.checksum(payload.bytes, seed: checksum)
    if part == .end, payload.count == SnapshotFormat.lengthBytes {
      payload.writeFixed(checksum)
      part = .done
    }
    framed += payload.bytes
  }

  private mutating func fill(_ payload: inout ByteWriter) {
    if part == .head {
      writeHead(into: &payload)
      part = .leases
    }
    if part == .leases {
      leases.encode(into: &payload, upTo: SnapshotFormat.frameBytes)
      if leases.isFinished { part = .keyspace }
    }
    if part == .keyspace {
      keyspace.encode(into: &payload, upTo: SnapshotFormat.frameBytes)
      if keyspace.isFinished { part = .end }
    }
  }

  private func writeHead(into payload: inout ByteWriter) {
    payload.writeFixed(appliedIndex)
    payload.writeFixed(appliedTerm)
    payload.writeFixed(clock.milliseconds)
    payload.writeCount(alarms.count)
    for alarm in alarms { payload.write(alarm) }
    payload.write(cluster)
    payload.write(hash)
    payload.write(auth)
  }
}
