import Engine
import Keyspace
import Primitives
import StateMachine
import Storage
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// LMDB has no checksums of its own. Whatever bit of the file turns over, the outcome is a refusal at the start, a clear
/// stop at the first read of what is damaged, or nothing: never a wrong answer.
@Suite(.serialized) struct DamageTests {
  /// Flips one bit after another, each in a fresh copy of the file. What ends the process (LMDB on damaged pages, a
  /// damaged version when it is read) ends a child process, and the next child goes on behind it.
  @Test(arguments: Array(UInt64(1)...40))
  func aFlippedBitIsNeverServed(seed: UInt64) async throws {
    let trial = try FlipTrial.prepare(seed: seed)
    let path = trial.place.path
    var stops = 0
    while true {
      let result = await #expect(
        processExitsWith: .failure, observing: [\.standardErrorContent]
      ) { [path = path as String] in
        FlipTrial.run(in: path)
      }
      guard let result else { return }
      if result.exitStatus == .exitCode(FlipTrial.finished) { break }
      let message = String(decoding: result.standardErrorContent, as: UTF8.self)
      #expect(message.contains("leasehold stops: state file"), "\(result.exitStatus) \(message)")
      stops += 1
      try #require(stops <= FlipTrial.flipCount)
      try trial.noteStop()
    }
    let outcomes = try TemporaryDirectory.read("\(path)/outcomes")
    #expect(outcomes.count == FlipTrial.flipCount)
    #expect(outcomes.contains(UInt8(ascii: "r")), "some flip is refused at the start")
    for (number, outcome) in outcomes.enumerated() where outcome == UInt8(ascii: "w") {
      Issue.record("bit \(try trial.flip(number)) was served")
    }
  }

  @Test(arguments: [0, 1, 100, 4_096, 8_191, 8_192, 20_000])
  func aFileThatWasCutIsRefused(length: Int) throws {
    var world = try EngineWorld(seed: 4)
    world.live(entries: 100)
    try world.commit()
    let copy = try world.copiedDirectory()
    let bytes = try TemporaryDirectory.read("\(copy.path)/data.mdb")
    try TemporaryDirectory.write(Array(bytes.prefix(length)), to: "\(copy.path)/data.mdb")
    let error = #expect(throws: StorageError.self) {
      try StateEngine.open(directory: copy.path, options: EngineOptions(unsafeNoSync: true))
    }
    guard case .corruptState(let file, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(file == "\(copy.path)/data.mdb")
    #expect("\(error!)".contains("restore this member from a snapshot"))
    #expect(try StateVerification.verify(directory: copy.path).problem != nil)
  }

  @Test func aFileOfZerosIsRefused() throws {
    let place = TemporaryDirectory()
    try TemporaryDirectory.write([UInt8](repeating: 0, count: 40_960), to: "\(place.path)/data.mdb")
    #expect(throws: StorageError.self) {
      try StateEngine.open(directory: place.path, options: EngineOptions(unsafeNoSync: true))
    }
  }

  /// A head page of an older transaction leads to an older state, sound in itself. It is found out.
  @Test func aHeadOfAnotherTimeIsRefused() throws {
    var world = try EngineWorld(seed: 4)
    var heads: [[UInt8]] = []
    for _ in 0..<4 {
      world.live(entries: 10)
      try world.commit()
      heads.append(Array(try TemporaryDirectory.read(world.file).prefix(8_192)))
    }
    for head in heads.dropLast() {
      let copy = try world.copiedDirectory()
      var bytes = try TemporaryDirectory.read("\(copy.path)/data.mdb")
      // The newer of the two head pages gets the older one's roots, and keeps its transaction.
      let newer = heads.last!.loadWord(at: 144) > heads.last!.loadWord(at: 4_096 + 144) ? 0 : 4_096
      for offset in newer + 40..<newer + 144 { bytes[offset] = head[offset] }
      if Array(bytes.prefix(8_192)) == heads.last! { continue }
      try TemporaryDirectory.write(bytes, to: "\(copy.path)/data.mdb")
      #expect(throws: StorageError.self) {
        try StateEngine.open(directory: copy.path, options: EngineOptions(unsafeNoSync: true))
      }
    }
  }
}

extension [UInt8] {
  fileprivate func loadWord(at offset: Int) -> UInt64 {
    withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
  }
}

/// One file, the state that it holds, and the flips that are left to try; all on disk, so that child processes can go on
/// with it.
struct FlipTrial {
  /// A child's exit code when no flip is left.
  static let finished: Int32 = 7
  static let flipCount = 400

  let place: TemporaryDirectory

  static func prepare(seed: UInt64) throws -> FlipTrial {
    let place = TemporaryDirectory()
    var world = try EngineWorld(seed: seed)
    for _ in 0..<6 {
      world.live(entries: 60)
      try world.commit()
    }
    let bytes = try TemporaryDirectory.read(world.file)
    try TemporaryDirectory.write(bytes, to: "\(place.path)/sound")
    try TemporaryDirectory.write(world.machine.encoded(), to: "\(place.path)/state")
    var random = SeededGenerator(seed: seed &+ 100)
    var writer = ByteWriter()
    for _ in 0..<flipCount {
      // Page headers and nodes' heads are where a flip leads furthest.
      let page = UInt64.random(in: 0..<UInt64(bytes.count / 4_096), using: &random)
      let offset = UInt64.random(in: 0..<(Bool.random(using: &random) ? 64 : 4_096), using: &random)
      writer.writeFixed((page * 4_096 + offset) * 8 + UInt64.random(in: 0..<8, using: &random))
    }
    try TemporaryDirectory.write(writer.bytes, to: "\(place.path)/flips")
    try TemporaryDirectory.write([], to: "\(place.path)/outcomes")
    return FlipTrial(place: place)
  }

  /// The bit's place in the file.
  func flip(_ number: Int) throws -> UInt64 {
    try TemporaryDirectory.read("\(place.path)/flips").withUnsafeBytes {
      $0.loadUnaligned(fromByteOffset: number * 8, as: UInt64.self)
    }
  }

  /// Notes that the flip which was being tried has ended the process.
  func noteStop() throws {
    let outcomes = try TemporaryDirectory.read("\(place.path)/outcomes")
    try TemporaryDirectory.write(outcomes + [UInt8(ascii: "s")], to: "\(place.path)/outcomes")
  }

  /// Tries the flips that are left: `r` refused, `n` nothing to be seen, `w` wrong.
  static func run(in path: String) -> Never {
    do {
      let sound = try TemporaryDirectory.read("\(path)/sound")
      let state = try TemporaryDirectory.read("\(path)/state")
      let flips = try TemporaryDirectory.read("\(path)/flips")
      var outcomes = try TemporaryDirectory.read("\(path)/outcomes")
      while outcomes.count < flips.count / 8 {
        let place = flips.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: outcomes.count * 8, as: UInt64.self) }
        var bytes = sound
        bytes[Int(place / 8)] ^= 1 << UInt8(place % 8)
        outcomes.append(try outcome(of: bytes, state, "\(path)/flip"))
        try TemporaryDirectory.write(outcomes, to: "\(path)/outcomes")
      }
      exit(finished)
    } catch {
      print("the trial itself failed: \(error)")
      exit(1)
    }
  }

  private static func outcome(of bytes: [UInt8], _ state: [UInt8], _ directory: String) throws -> UInt8 {
    try POSIXDisk().createDirectory(directory)
    try TemporaryDirectory.write(bytes, to: "\(directory)/data.mdb")
    alarm(60)
    do throws(StorageError) {
      let (engine, machine) = try StateEngine.open(
        directory: directory, options: EngineOptions(unsafeNoSync: true))
      defer { engine.close() }
      return machine.encoded() == state ? UInt8(ascii: "n") : UInt8(ascii: "w")
    } catch {
      return UInt8(ascii: "r")
    }
  }
}
