import Foundation
import Testing

/// What a reader may rely on, everywhere in the tree.
@Suite("Style")
struct StyleTests {
  static let maxFileLines = 400
  static let maxExceptionalFileLines = 500
  static let maxFunctionLines = 60

  /// Files that are one idea and longer than others, and why.
  static let exceptionalFiles: [String: String] = [:]

  @Test("A file is one idea of at most 400 lines")
  func fileLength() {
    for file in SourceTree.swift {
      let limit = Self.exceptionalFiles[file.path] == nil ? Self.maxFileLines : Self.maxExceptionalFileLines
      #expect(file.lineCount <= limit, "\(file.path)")
    }
    for path in Self.exceptionalFiles.keys {
      #expect(
        SourceTree.swift.contains { $0.path == path && $0.lineCount > Self.maxFileLines }, "\(path) needs no exception")
    }
  }

  @Test("A function fits a screen: at most 60 lines")
  func functionLength() {
    var count = 0
    for file in SourceTree.swift {
      for function in FunctionSpan.all(in: file) {
        count += 1
        #expect(function.lineCount <= Self.maxFunctionLines, "\(file.path):\(function.firstLine) \(function.name)")
      }
    }
    #expect(count > 1_000, "functions are found at all")
  }

  @Test("The measure itself: literals, comments, nested functions and requirements")
  func measure() {
    let text = """
      protocol P {
        func requirement(_ a: Int)
        func another() -> Int
      }
      func outer(
        _ f: () -> Void = { }
      ) throws -> String
      where P: Q {
        // a brace in a comment {
        let s = "a brace \\(map { "}" }) {" + #"\"{"#
        func inner() {
          { }()
        }
        return s
      }
      """
    let functions = FunctionSpan.all(in: SourceTree.File(path: "x", text: text))
    #expect(functions.map(\.name) == ["func outer", "func inner"])
    #expect(functions.map(\.firstLine) == [5, 11])
    #expect(functions.map(\.lineCount) == [11, 3])
  }

  @Test("No work is left behind as a remark")
  func noRemarks() throws {
    // Written so that this file does not find itself.
    let words = try Regex("\\b(" + ["TO" + "DO", "FIX" + "ME", "XX" + "X"].joined(separator: "|") + ")\\b")
    for file in SourceTree.texts where !file.path.contains("/Generated/") {
      for (number, line) in file.lines.enumerated() where line.contains(words) {
        Issue.record("\(file.path):\(number + 1): \(line)")
      }
    }
  }

  @Test("No file names a folder of the machine that it was written on")
  func noMachinePaths() throws {
    let paths = try Regex("(^|[^A-Za-z0-9_.}~-])/(wo" + "rk|ro" + "ot|ho" + "me)/[A-Za-z0-9_.]")
    for file in SourceTree.texts {
      for (number, line) in file.lines.enumerated() where line.contains(paths) {
        Issue.record("\(file.path):\(number + 1): \(line)")
      }
    }
  }

  @Test("A test's name stands for one test")
  func uniqueTestNames() {
    var places: [String: String] = [:]
    for file in SourceTree.swift where file.path.hasPrefix("Tests/") {
      for match in file.text.matches(of: /@Test\(\s*"((?:[^"\\]|\\.)*)"/) {
        let name = "\(file.target): \(match.output.1)"
        if let other = places[name] { Issue.record("\(name): in \(other) and \(file.path)") }
        places[name] = file.path
      }
    }
    #expect(places.count > 200)
  }

  @Test("The sources sleep nowhere for a fixed time")
  func noThreadSleep() {
    for file in SourceTree.swift where file.isSource {
      let code = SwiftText(file.text).lines
      for (number, line) in code.enumerated() where line.contains(/\b(Thread\.sleep|sleep\(\d)/) {
        Issue.record("\(file.path):\(number + 1): \(line)")
      }
    }
  }
}

/// The two commands of the README and everything else that it tells a reader to type or to open.
@Suite("README")
struct ReadmeTests {
  @Test("Every path that the README names exists, and its commands can be executed")
  func paths() throws {
    let readme = try #require(SourceTree.texts.first { $0.path == "README.md" }, "there is a README.md")
    var commands: Set<String> = []
    let paths = /(?:Examples|Tests|Config|Benchmarks|Sources)\/[A-Za-z0-9_.\/-]*[A-Za-z0-9_]/
    for match in readme.text.matches(of: paths) {
      let path = String(match.output)
      let url = SourceTree.root.appending(path: path)
      var isDirectory: ObjCBool = false
      #expect(FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory), "\(path)")
      if !isDirectory.boolValue, !path.contains(".") {
        commands.insert(path)
        #expect(FileManager.default.isExecutableFile(atPath: url.path), "\(path)")
      }
    }
    #expect(commands.isSuperset(of: ["Examples/quickstart", "Tests/run"]))
  }

  @Test("Every script has the rights and the first line of a script")
  func scripts() {
    for file in SourceTree.texts where file.text.hasPrefix("#!") {
      let path = SourceTree.root.appending(path: file.path).path
      #expect(FileManager.default.isExecutableFile(atPath: path), "\(file.path)")
    }
    for path in ["Examples/quickstart", "Tests/run", "Config/install-packages", ".ci/run", "Tests/EndToEnd/run"] {
      #expect(SourceTree.texts.contains { $0.path == path && $0.text.hasPrefix("#!/usr/bin/") }, "\(path)")
    }
  }
}
