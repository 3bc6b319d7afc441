import Testing

/// The dependency rule: a pure target takes an event and the time and appends to an output. The package manifest keeps
/// other modules out; this keeps the rest of the world out.
@Suite("Purity")
struct PurityTests {
  static let allowedImports: [String: Set<String>] = [
    "Primitives": [],
    "Raft": ["Primitives", "DequeModule"],
    "Keyspace": ["Primitives", "DequeModule"],
    "Leases": ["Primitives", "DequeModule"],
    "LogFormat": ["Primitives"],
    "StateMachine": ["Primitives", "Keyspace", "Leases"],
    "SidecarCore": ["Primitives", "Keyspace", "DequeModule"],
    "PeerProtocol": ["Primitives", "Raft", "StateMachine", "Leases"],
  ]

  /// Files that may see the C library, for comparing and copying memory, and nothing else of it.
  static let memoryFiles: Set<String> = [
    "Sources/Primitives/Bytes.swift", "Sources/Keyspace/KeyColumn.swift", "Sources/Keyspace/KeyspaceLoader.swift",
    "Sources/LogFormat/SegmentScanner.swift",
  ]

  private static var files: [SourceTree.File] {
    SourceTree.swift.filter { $0.isSource && allowedImports[$0.target] != nil }
  }

  @Test("A pure target imports the standard library, Collections and other pure targets")
  func imports() {
    for file in Self.files {
      var allowed = Self.allowedImports[file.target] ?? []
      if Self.memoryFiles.contains(file.path) { allowed.formUnion(["Glibc", "Musl"]) }
      for line in SwiftText(file.text).lines {
        guard let match = line.firstMatch(of: /^\s*(?:@\w+ )?(?:package |private |public )?import (?:\w+ )?([\w.]+)/)
        else { continue }
        #expect(allowed.contains(String(match.output.1)), "\(file.path): \(line)")
      }
    }
    for path in Self.memoryFiles { #expect(Self.files.contains { $0.path == path }, "\(path) is gone") }
  }

  @Test("A pure target has no clock, no output, no environment, no thread and no unseeded randomness")
  func noWorld() {
    let names = [
      "ContinuousClock", "SuspendingClock", "clock_gettime", "gettimeofday", "Date(", "print(", "debugPrint(",
      "readLine", "getenv", "CommandLine", "Task", "DispatchQueue", "SystemRandomNumberGenerator", "Mutex", "Atomic",
      "fopen", "stderr", "stdout",
    ]
    let random = /\.random\(|\.randomElement\(|\.shuffle\(|\.shuffled\(/
    for file in Self.files {
      for (number, line) in SwiftText(file.text).lines.enumerated() {
        for name in names where line.containsWord(name) {
          Issue.record("\(file.path):\(number + 1): \(line)")
        }
        if line.contains(random) { #expect(line.contains("using:"), "\(file.path):\(number + 1): \(line)") }
      }
    }
  }

  @Test("Only memory is touched through the C library")
  func onlyMemory() {
    let calls = /\b(open|close|read|write|time|clock|rand|random|socket|stat|malloc|printf|exit|abort|getpid)\(/
    for file in Self.files where Self.memoryFiles.contains(file.path) {
      for (number, line) in SwiftText(file.text).lines.enumerated() where !line.contains("func ") {
        #expect(!line.contains(calls), "\(file.path):\(number + 1): \(line)")
      }
    }
  }

  @Test("Every pure target is looked at")
  func everyTargetIsThere() {
    let found = Set(Self.files.map(\.target))
    #expect(found == Set(Self.allowedImports.keys))
  }

  @Test("No target imports another target's insides, and no test needs a testable build")
  func noTestable() {
    for file in SourceTree.swift {
      for line in file.lines where line.hasPrefix("@") && line.contains("import ") {
        #expect(!line.contains(/@(testable|_spi|_implementationOnly)/), "\(file.path): \(line)")
      }
    }
  }
}
