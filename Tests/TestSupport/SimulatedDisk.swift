import Primitives
import Storage
import Synchronization

/// A disk that forgets what was not synced. Each operation that changes something has a number; the disk can be told to
/// lose power at one of them. After `losePower` it holds what a real disk might: synced content for certain, of the
/// rest nothing, or (with tearing) any choice of sectors and any choice of directory changes.
package final class SimulatedDisk: Disk {
  private final class File {
    var durable: [UInt8] = []
    var content: [UInt8] = []
    /// Changes since the last sync.
    var writes: [(offset: Int, bytes: [UInt8])] = []
  }

  /// A directory's names; a change is a name with what it stands for afterwards.
  private struct Directory {
    var durable: [String: File] = [:]
    var content: [String: File] = [:]
    var changes: [[(name: String, file: File?)]] = []
  }

  private struct State {
    var directories: [String: Directory] = [:]
    var operations = 0
    var crashAt = Int.max
    var failure: (atOperation: Int, code: Int32)?
    var isDown = false
  }

  package static let powerIsOff: Int32 = 5

  private nonisolated(unsafe) var state = State()
  private let lock = Mutex(())

  package init() {}

  /// Operations so far.
  package var operations: Int { withState { $0.operations } }

  package func crash(atOperation number: Int) { withState { $0.crashAt = number } }

  /// Lets one operation fail with an error of the operating system.
  package func fail(atOperation number: Int, code: Int32) { withState { $0.failure = (number, code) } }

  /// The process ends where it stands and another one begins: everything written can be read, nothing more is durable.
  package func endProcess() {
    withState { state in
      state.isDown = false
      state.crashAt = .max
      state.operations = 0
    }
  }

  /// Power is cut and comes back.
  package func losePower(tearing: Bool, generator: inout SeededGenerator) {
    lock.withLock { _ in
      for (path, var directory) in state.directories {
        for change in directory.changes where tearing && Bool.random(using: &generator) {
          for step in change { directory.durable[step.name] = step.file }
        }
        directory.content = directory.durable
        directory.changes = []
        for file in directory.durable.values { Self.settle(file, tearing, &generator) }
        state.directories[path] = directory
      }
      state.isDown = false
      state.crashAt = .max
      state.operations = 0
    }
  }

  private static func settle(_ file: File, _ tearing: Bool, _ generator: inout SeededGenerator) {
    for write in file.writes where tearing {
      var start = write.offset
      let end = write.offset + write.bytes.count
      while start < end {
        let stop = min((start / 512 + 1) * 512, end)
        if Bool.random(using: &generator) {
          if file.durable.count < stop { file.durable += [UInt8](repeating: 0, count: stop - file.durable.count) }
          file.durable.replaceSubrange(start..<stop, with: write.bytes[start - write.offset..<stop - write.offset])
        }
        start = stop
      }
    }
    file.writes = []
    file.content = file.durable
  }

  /// Changes one durable byte, as failing hardware would.
  package func flip(_ path: String, at offset: Int, mask: UInt8 = 1) {
    withState { state in
      let (directory, name) = Self.split(path)
      let file = state.directories[directory]!.content[name]!
      file.content[offset] ^= mask
      file.durable[offset] ^= mask
    }
  }

  package func bytes(_ path: String) -> [UInt8] {
    withState { state in
      let (directory, name) = Self.split(path)
      return state.directories[directory]?.content[name]?.content ?? []
    }
  }

  package func list(_ directory: String) throws(DiskFailure) -> [String] {
    withState { Array($0.directories[directory]?.content.keys ?? [:].keys) }
  }

  package func createDirectory(_ path: String) throws(DiskFailure) {
    withState { if $0.directories[path] == nil { $0.directories[path] = Directory() } }
  }

  package func open(_ path: String, create: Bool) throws(DiskFailure) -> any DiskFile {
    let (directory, name) = Self.split(path)
    if create {
      try step("create", path) { state in
        let file = File()
        state.directories[directory]!.content[name] = file
        state.directories[directory]!.changes.append([(name, file)])
      }
    }
    guard let file = withState({ $0.directories[directory]?.content[name] }) else {
      throw DiskFailure(operation: "open", path: path, code: 2)
    }
    return Handle(disk: self, file: file, path: path)
  }

  package func rename(_ path: String, to newPath: String) throws(DiskFailure) {
    let (directory, name) = Self.split(path)
    let (_, newName) = Self.split(newPath)
    try step("rename", path) { state in
      let file = state.directories[directory]!.content.removeValue(forKey: name)!
      state.directories[directory]!.content[newName] = file
      state.directories[directory]!.changes.append([(name, nil), (newName, file)])
    }
  }

  package func remove(_ path: String) throws(DiskFailure) {
    let (directory, name) = Self.split(path)
    try step("remove", path) { state in
      state.directories[directory]!.content[name] = nil
      state.directories[directory]!.changes.append([(name, nil)])
    }
  }

  package func syncDirectory(_ path: String) throws(DiskFailure) {
    try step("sync directory", path) { state in
      guard var directory = state.directories[path] else { return }
      directory.durable = directory.content
      directory.changes = []
      state.directories[path] = directory
    }
  }

  private func withState<R>(_ body: (inout State) -> R) -> R { lock.withLock { _ in body(&state) } }

  /// One numbered operation. The one at which power is lost has happened, but is not synced, unless it is a sync.
  private func step(
    _ operation: String, _ path: String, _ body: (inout State) -> Void
  ) throws(DiskFailure) {
    let code: Int32? = withState { state in
      if state.isDown { return Self.powerIsOff }
      state.operations += 1
      if let failure = state.failure, failure.atOperation == state.operations { return failure.code }
      if state.operations >= state.crashAt {
        state.isDown = true
        if !operation.hasPrefix("sync") { body(&state) }
        return Self.powerIsOff
      }
      body(&state)
      return nil
    }
    if let code { throw DiskFailure(operation: operation, path: path, code: code) }
  }

  private static func split(_ path: String) -> (directory: String, name: String) {
    let slash = path.lastIndex(of: "/")!
    return (String(path[..<slash]), String(path[path.index(after: slash)...]))
  }

  private struct Handle: DiskFile {
    let disk: SimulatedDisk
    nonisolated(unsafe) let file: File
    let path: String

    func size() throws(DiskFailure) -> Int { file.content.count }
    func readAll() throws(DiskFailure) -> [UInt8] { file.content }
    func close() {}

    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskFailure) {
      try disk.step("write", path) { _ in put(Array(bytes), at: offset) }
    }

    func fillWithZeros(_ range: Range<Int>) throws(DiskFailure) {
      try disk.step("fill", path) { _ in put([UInt8](repeating: 0, count: range.count), at: range.lowerBound) }
    }

    func sync() throws(DiskFailure) {
      try disk.step("sync", path) { _ in
        file.durable = file.content
        file.writes = []
      }
    }

    private func put(_ bytes: [UInt8], at offset: Int) {
      let end = offset + bytes.count
      if file.content.count < end { file.content += [UInt8](repeating: 0, count: end - file.content.count) }
      file.content.replaceSubrange(offset..<end, with: bytes)
      file.writes.append((offset, bytes))
    }
  }
}
