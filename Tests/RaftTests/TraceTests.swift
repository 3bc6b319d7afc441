import Foundation
import Testing

/// Each file in `Traces` is a script with its expected trace. After a wanted change of behaviour:
/// `RAFT_TRACES=rewrite swift test --filter TraceTests`, and review the difference.
struct TraceTests {
  static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Traces")

  static let files: [String] = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    return names.filter { $0.hasSuffix(".txt") }.sorted()
  }()

  @Test func thereAreTraces() { #expect(Self.files.count >= 8) }

  @Test(arguments: files) func trace(_ name: String) throws {
    let file = Self.directory.appending(path: name)
    let expected = try String(contentsOf: file, encoding: .utf8)
    let (actual, problems) = TraceScript.rerun(expected)
    #expect(problems.isEmpty)
    if ProcessInfo.processInfo.environment["RAFT_TRACES"] == "rewrite" {
      try actual.write(to: file, atomically: true, encoding: .utf8)
      return
    }
    let wanted = expected.split(separator: "\n", omittingEmptySubsequences: false)
    let got = actual.split(separator: "\n", omittingEmptySubsequences: false)
    for (number, (want, get)) in zip(wanted, got).enumerated() where want != get {
      Issue.record("\(name):\(number + 1): expected “\(want)”, got “\(get)”")
      return
    }
    #expect(wanted.count == got.count, "\(name) differs in length")
  }
}
