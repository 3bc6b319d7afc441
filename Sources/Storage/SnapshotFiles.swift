import LogFormat
import Primitives

/// The snapshots of a member, as files `snap-<index>-<term>`: the newest and one spare.
struct SnapshotFiles: Sendable {
  let disk: any Disk
  let directory: String
  let options: LogOptions

  struct Loaded {
    var head: SnapshotHead
    var body: [UInt8]
    /// Newer files that could not be used, newest first.
    var damaged: [(file: String, reason: DecodingFailure)]
  }

  /// Writes a snapshot so that after a crash it is there as a whole or not at all.
  func save(index: UInt64, term: UInt64, body: [UInt8]) throws(DiskFailure) {
    let head = SnapshotHead(index: index, term: term, bodyBytes: UInt64(body.count))
    let path = "\(directory)/\(head.fileName)"
    let file = try disk.open(path + temporarySuffix, create: true)
    try file.write(head.encoded(body: body), at: 0)
    try file.write(body, at: LogLayout.snapshotHeadBytes)
    if !options.unsafeNoFsync { try file.sync() }
    file.close()
    try disk.rename(path + temporarySuffix, to: path)
    if !options.unsafeNoFsync { try disk.syncDirectory(directory) }
  }

  /// Names of complete snapshot files, newest first.
  func list() throws(DiskFailure) -> [String] {
    try disk.list(directory).filter { SnapshotHead.parse(fileName: $0) != nil }.sorted(by: >)
  }

  /// The newest readable snapshot; nil when there is no file at all.
  func loadNewest() throws(StorageError) -> Loaded? {
    var damaged: [(file: String, reason: DecodingFailure)] = []
    do throws(DiskFailure) {
      for name in try list() {
        let file = try disk.open("\(directory)/\(name)", create: false)
        defer { file.close() }
        var bytes = try file.readAll()
        do throws(DecodingFailure) {
          let head = try SnapshotHead.decode(file: bytes)
          guard head.fileName == name else {
            throw .malformed(offset: 16, "a snapshot of another index than its name states")
          }
          bytes.removeFirst(LogLayout.snapshotHeadBytes)
          return Loaded(head: head, body: bytes, damaged: damaged)
        } catch {
          damaged.append((name, error))
        }
      }
    } catch {
      throw .io(error)
    }
    guard let newest = damaged.first else { return nil }
    let path = "\(directory)/\(newest.file)"
    if case .unknownVersion(let version) = newest.reason {
      throw .otherVersion(path: path, found: "\(version)", supported: "\(LogLayout.version)")
    }
    throw .corruptSnapshot(file: path, reason: "\(newest.reason)")
  }

  /// Removes all but the newest `kept` files.
  func removeOld(keeping kept: Int = 2) throws(DiskFailure) {
    let old = try list().dropFirst(kept)
    for name in old { try disk.remove("\(directory)/\(name)") }
    if !old.isEmpty, !options.unsafeNoFsync { try disk.syncDirectory(directory) }
  }
}
