import Primitives
import StateMachine
import Storage

/// Why an offline command did not do its work: one line for the operator.
package struct OfflineFailure: Error, Hashable, Sendable, CustomStringConvertible {
  package let description: String

  package init(_ description: String) { self.description = description }
}

/// A file as `etcdctl snapshot save` writes it from what a node sent (`SnapshotBody`). Read in pieces.
package struct SnapshotFile {
  private static let pieceBytes = 1 << 20

  package let path: String
  package let sizeBytes: Int
  private let checksHash: Bool

  /// - Parameter checksHash: false for a file whose SHA-256 is known to be wrong; the state's own checksum counts still.
  package init(path: String, checksHash: Bool = true) throws(OfflineFailure) {
    self.path = path
    self.checksHash = checksHash
    do throws(DiskFailure) { sizeBytes = try FileReader.size(of: path) } catch { throw OfflineFailure("\(error)") }
    guard sizeBytes > SHA256.digestBytes, sizeBytes % SnapshotBody.blockBytes == SHA256.digestBytes else {
      throw OfflineFailure("\(path) is no whole snapshot: \(sizeBytes) bytes cannot be blocks and a SHA-256 behind them")
    }
  }

  /// Reads the file to its end.
  /// - Parameter betweenPieces: called with what is built so far, which proves to be right only at the end.
  /// - Returns: the state, checked.
  package func read(
    recordingChanges: Bool = false,
    betweenPieces: (inout StateSnapshotReader) throws(OfflineFailure) -> Void = { (_) throws(OfflineFailure) in }
  ) throws(OfflineFailure) -> StateMachine {
    var state = StateSnapshotReader(recordingChanges: recordingChanges)
    var hash = SHA256()
    let bodyEnd = sizeBytes - SHA256.digestBytes
    // Where the state ends and the padding begins the reader tells, byte by byte within the last blocks.
    let tailStart = max(0, bodyEnd - 2 * SnapshotBody.blockBytes)
    var offset = 0
    var stored: [UInt8] = []
    do throws(DiskFailure) {
      let file = try FileReader(path)
      while offset < tailStart {
        let piece = try file.read(min(Self.pieceBytes, tailStart - offset))
        offset += piece.count
        hash.update(piece[...])
        do throws(DecodingFailure) { try state.feed(piece[...]) } catch { throw damage(error) }
        try betweenPieces(&state)
      }
    } catch let error as DiskFailure {
      throw OfflineFailure("\(error)")
    }
    return try state.finish()
  }
}
