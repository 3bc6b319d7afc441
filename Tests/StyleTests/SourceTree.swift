import Foundation

/// The repository as the style tests see it: what git would hold, without what a build has made.
struct SourceTree {
  struct File: Sendable {
    /// From the repository's root.
    var path: String
    var text: String

    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }
    /// Lines as `wc` counts them.
    var lineCount: Int { text.utf8.count { $0 == UInt8(ascii: "\n") } }
    /// `Sources/NAME/…` and `Tests/NAME/…`.
    var target: String { path.split(separator: "/").dropFirst().first.map(String.init) ?? "" }
    var isSource: Bool { path.hasPrefix("Sources/") }
  }

  static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  /// Every text file: paths with a part that begins with `.build` or `.git`, and what Python caches, are not ours.
  static let texts: [File] = {
    var files: [File] = []
    let enumerator = FileManager.default.enumerator(at: root, includingPropertiesForKeys: [.isRegularFileKey])
    while let url = enumerator?.nextObject() as? URL {
      let path = String(url.path.dropFirst(root.path.count).drop { $0 == "/" })
      if path.hasPrefix(".build") || path == ".git" || url.lastPathComponent == "__pycache__" {
        enumerator?.skipDescendants()
        continue
      }
      guard let data = FileManager.default.contents(atPath: url.path), let text = String(bytes: data, encoding: .utf8)
      else { continue }
      files.append(File(path: path, text: text))
    }
    return files.sorted { $0.path < $1.path }
  }()

  /// Swift that people write.
  static let swift = texts.filter {
    ($0.path.hasPrefix("Sources/") || $0.path.hasPrefix("Tests/")) && $0.path.hasSuffix(".swift")
      && !$0.path.contains("/Generated/")
  }
}

extension StringProtocol {
  /// Whether `name` stands here and is not the tail or the head of a longer name. `name` may end in a parenthesis.
  func containsWord(_ name: String) -> Bool {
    var rest = self[...]
    while let range = rest.firstRange(of: name) {
      let before = range.lowerBound == startIndex ? " " : self[index(before: range.lowerBound)]
      let after = range.upperBound == endIndex || name.hasSuffix("(") ? " " : self[range.upperBound]
      let isPart = { (character: Character) in character.isLetter || character.isNumber || character == "_" }
      if !isPart(before), !isPart(after) { return true }
      rest = self[range.upperBound...]
    }
    return false
  }
}
