import Keyspace
import Primitives
import StateMachine
import Storage

/// A file as `etcdctl snapshot save` writes it from what a node has sent (`SnapshotBody`). Read in pieces.
package struct SnapshotFile {
  private static let pieceBytes = 1 << 20

  package let path: String
  package let sizeBytes: Int
  /// false for a file whose SHA-256 is known to be wrong or missing; the state's own checksum counts still.
  private let checksHash: Bool

  package init(path: String, checksHash: Bool = true) throws(OfflineFailure) {
    self.path = path
    self.checksHash = checksHash
    sizeBytes = try OfflineFailure.wrap { () throws(DiskFailure) in try FileReader(path).size() }
    guard !checksHash || sizeBytes % SnapshotBody.blockBytes == SHA256.digestBytes else {
      throw OfflineFailure(
        "\(path) is no whole snapshot: \(sizeBytes) bytes cannot be blocks with a SHA-256 behind them")
    }
  }

  /// Reads the file to its end.
  /// - Parameters:
  ///   - recordingChanges: needed by whoever takes cuts in `betweenPieces`.
  ///   - betweenPieces: called with what is built so far, which proves to be right only at the end.
  /// - Returns: the state, checked.
  package func read(
    recordingChanges: Bool = false,
    betweenPieces: (inout StateMachine) throws(OfflineFailure) -> Void = { (_) throws(OfflineFailure) in }
  ) throws(OfflineFailure) -> StateMachine {
    let file = try OfflineFailure.wrap { () throws(DiskFailure) in try FileReader(path) }
    var state = StateSnapshotReader(recordingChanges: recordingChanges)
    var hash = SHA256()
    let hashedBytes = checksHash ? sizeBytes - SHA256.digestBytes : sizeBytes
    var offset = 0
    while offset < hashedBytes {
      let piece = try OfflineFailure.wrap { () throws(DiskFailure) in
        try file.read(min(Self.pieceBytes, hashedBytes - offset))
      }
      guard !piece.isEmpty else { throw OfflineFailure("\(path) became shorter while it was read") }
      if checksHash { hash.update(piece[...]) }
      offset += piece.count
      let rest = try sound { () throws(DecodingFailure) in try state.feedPrefix(piece[...]) }
      if checksHash { try checkPadding(rest) }
      try betweenPieces(&state.machine)
    }
    if checksHash {
      let stored = try OfflineFailure.wrap { () throws(DiskFailure) in try file.read(SHA256.digestBytes) }
      guard stored == hash.finish() else {
        throw OfflineFailure(
          "\(path) is damaged: its SHA-256 is not the one behind it (--skip-hash-check ignores that)")
      }
    }
    let complete = state
    return try sound { () throws(DecodingFailure) in try complete.finish() }
  }

  private func checkPadding(_ rest: ArraySlice<UInt8>) throws(OfflineFailure) {
    guard rest.count < SnapshotBody.blockBytes, rest.allSatisfy({ $0 == 0 }) else {
      throw OfflineFailure("\(path) is damaged: \(rest.count) bytes behind the state's end")
    }
  }

  private func sound<R>(_ body: () throws(DecodingFailure) -> R) throws(OfflineFailure) -> R {
    do throws(DecodingFailure) { return try body() } catch {
      throw OfflineFailure("\(path) is no snapshot of leasehold, or it is damaged: \(error)")
    }
  }
}

/// What `leasehold snapshot status` tells of a file.
package struct SnapshotSummary: Hashable, Sendable {
  /// `HashKV` of the newest revision: equal for equal keyspaces, wherever they were saved.
  package var hash: UInt32
  package var revision: Int64
  package var compactRevision: Int64
  package var keyCount: Int
  package var leaseCount: Int
  package var sizeBytes: Int

  package init(of file: SnapshotFile) throws(OfflineFailure) {
    let machine = try file.read()
    hash = try OfflineFailure.wrap { () throws(KeyspaceError) in
      try machine.keyspace.hash(at: machine.keyspace.revision)
    }
    revision = machine.keyspace.revision
    compactRevision = machine.keyspace.compactRevision
    keyCount = machine.keyspace.keyCount
    leaseCount = machine.leases.count
    sizeBytes = file.sizeBytes
  }
}
