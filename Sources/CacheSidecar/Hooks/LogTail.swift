import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Reads a log that grows, through rotation by rename or by copytruncate, from a saved position on. Synchronous and
/// without any sidecar: `LogTailHook` drives it.
///
/// A rotated file is read on until it has been silent for a while: several writers reopen at different times.
final class LogTail: Sendable {
  struct Chunk: Sendable {
    var lines: [ArraySlice<UInt8>]
    var tooLong: UInt64
    /// To be saved once the lines have been dealt with.
    var positions: [LogPosition]
  }

  private struct State {
    /// Oldest first.
    var files: [OpenLog] = []
    var hasOpened = false
  }

  private let path: String
  private let statePath: String
  private let startsAtBeginning: Bool
  private let state = Mutex(State())

  /// Rounds without news after which a rotated file is done with: at four a second, half a minute.
  private static let maxIdleRoundsOfRotated = 120

  /// `startsAtBeginning`: where a log is begun that has no saved position; otherwise at its end.
  init(path: String, statePath: String, startsAtBeginning: Bool) {
    self.path = path
    self.statePath = statePath
    self.startsAtBeginning = startsAtBeginning
  }

  deinit {
    state.withLock { state in
      for file in state.files { close(file.descriptor) }
    }
  }

  /// Settles where reading begins; what is written from now on is read. `next` does it when nobody has before.
  func begin() throws(LogPositionFile.Failure) {
    try state.withLock { state throws(LogPositionFile.Failure) in try openOnce(&state) }
  }

  /// The next lines of any of the files, nil when there are none now.
  func next() throws(LogPositionFile.Failure) -> Chunk? {
    try state.withLock { state throws(LogPositionFile.Failure) in
      try openOnce(&state)
      followRotation(&state)
      for index in state.files.indices {
        let (lines, tooLong) = state.files[index].readLines()
        guard lines.isEmpty, tooLong == 0 else {
          state.files[index].idleRounds = 0
          return Chunk(lines: lines, tooLong: tooLong, positions: state.files.map(\.position))
        }
        state.files[index].idleRounds += 1
      }
      return nil
    }
  }

  /// Remembers that everything up to these positions has been dealt with.
  func save(_ positions: [LogPosition]) throws(LogPositionFile.Failure) {
    try LogPositionFile.save(positions, to: statePath)
  }

  // MARK: Opening

  private func openOnce(_ state: inout State) throws(LogPositionFile.Failure) {
    guard !state.hasOpened else { return }
    try open(&state)
    state.hasOpened = true
  }

  private func open(_ state: inout State) throws(LogPositionFile.Failure) {
    switch try LogPositionFile.load(statePath) {
    case .absent: state.files = OpenLog(path: path, start: startsAtBeginning ? .beginning : .end).map { [$0] } ?? []
    // The file was being written when the machine died: reading twice is harmless, missing hits is not.
    case .unreadable: state.files = OpenLog(path: path, start: .beginning).map { [$0] } ?? []
    case .positions(let positions): state.files = resume(positions)
    }
    // A position from the start on, so that a log that is created later is read from its beginning.
    try LogPositionFile.save(state.files.map(\.position), to: statePath)
  }

  /// The files of the saved positions under whatever name they have now, and rotated ones that have been written since.
  private func resume(_ positions: [LogPosition]) -> [OpenLog] {
    let siblings = siblings()
    let known = siblings.filter { sibling in positions.contains { $0.inode == sibling.inode } }
    let oldest = known.map(\.modified).min()
    var files: [OpenLog] = []
    for sibling in siblings.sorted(by: { $0.modified < $1.modified }) {
      if let position = positions.first(where: { $0.inode == sibling.inode }) {
        if let file = OpenLog(path: sibling.path, start: .position(position)) { files.append(file) }
      } else if sibling.path == path || oldest.map({ sibling.modified >= $0 }) ?? false {
        if let file = OpenLog(path: sibling.path, start: .beginning) { files.append(file) }
      }
    }
    return files
  }

  private struct Sibling {
    var path: String
    var inode: UInt64
    var modified: Int64
  }

  /// The log and what rotation has made of earlier ones: files whose names begin with the log's, not compressed.
  private func siblings() -> [Sibling] {
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let name = slash.map { String(path[path.index(after: $0)...]) } ?? path
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var siblings: [Sibling] = []
    while let entry = readdir(directory) {
      let found = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      guard found.hasPrefix(name), ![".gz", ".xz", ".zst", ".bz2"].contains(where: found.hasSuffix) else { continue }
      let full = found == name ? path : folder + "/" + found
      var status = stat()
      guard full != statePath, stat(full, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { continue }
      siblings.append(
        Sibling(path: full, inode: UInt64(status.st_ino), modified: Self.nanoseconds(status.st_mtim)))
    }
    return siblings
  }

  private static func nanoseconds(_ time: timespec) -> Int64 {
    Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }

  /// Opens the log when another file has taken its name; closes rotated files that have gone silent.
  private func followRotation(_ state: inout State) {
    var status = stat()
    if stat(path, &status) == 0, !state.files.contains(where: { $0.inode == UInt64(status.st_ino) }),
      let file = OpenLog(path: path, start: .beginning)
    {
      state.files.append(file)
    }
    let last = state.files.count - 1
    for (index, file) in state.files.enumerated().reversed()
    where index != last && file.idleRounds > Self.maxIdleRoundsOfRotated {
      close(file.descriptor)
      state.files.remove(at: index)
    }
  }
}
