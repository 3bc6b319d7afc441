import Foundation
import PKI
import Testing

/// What is noticed of changed files, and when; each look is one call, so nothing here waits.
@Suite("Followed files")
struct FollowedFilesTests {
  /// Counts how often the files were used, and refuses them on demand.
  private final class User: @unchecked Sendable {
    var uses = 0
    var failure: PKIError?

    func use() throws(PKIError) {
      if let failure { throw failure }
      uses += 1
    }
  }

  private func follow(_ paths: [String], _ user: User, patientLooks: Int = 5) -> FollowedFiles {
    FollowedFiles(paths, patientLooks: patientLooks) { () throws(PKIError) in try user.use() }
  }

  @Test("A change is used once, and not before the files have come to rest")
  func settles() throws {
    let shop = try Workshop()
    let user = User()
    let path = try shop.write("a", "1")
    var files = follow([path], user)
    #expect(files.look() == .unchanged && files.look() == .unchanged)
    try shop.write("a", "22")
    #expect(files.look() == .unchanged)
    try shop.write("a", "333")
    #expect(files.look() == .unchanged, "it was still being written")
    #expect(files.look() == .used)
    #expect(files.look() == .unchanged && files.look() == .unchanged)
    #expect(user.uses == 1)
  }

  @Test("Renames over the file and links that lead elsewhere are changes, also with the same size")
  func renamesAndLinks() throws {
    let shop = try Workshop()
    let user = User()
    // Kubernetes: file → ..data/file, ..data → a folder, and ..data is swapped by a rename.
    let manager = FileManager.default
    for folder in ["one", "two"] {
      try manager.createDirectory(atPath: shop.file(folder), withIntermediateDirectories: false)
      try shop.write("\(folder)/crt", folder)
    }
    try manager.createSymbolicLink(atPath: shop.file("..data"), withDestinationPath: "one")
    try manager.createSymbolicLink(atPath: shop.file("crt"), withDestinationPath: "..data/crt")
    var files = follow([shop.file("crt")], user)
    #expect(files.look() == .unchanged)
    try manager.createSymbolicLink(atPath: shop.file("..tmp"), withDestinationPath: "two")
    #expect(rename(shop.file("..tmp"), shop.file("..data")) == 0)
    #expect(files.look() == .unchanged)
    #expect(files.look() == .used)
    try shop.write("new", "six")
    #expect(rename(shop.file("new"), shop.file("two/crt")) == 0)
    #expect(files.look() == .unchanged)
    #expect(files.look() == .used)
    #expect(user.uses == 2)
  }

  @Test("What cannot be used is said once, and tried again when the files change")
  func refusals() throws {
    let shop = try Workshop()
    let user = User()
    let path = try shop.write("a", "1")
    var files = follow([path], user)
    user.failure = .malformed(source: "a", reason: "nonsense")
    try shop.write("a", "22")
    #expect(files.look() == .unchanged)
    #expect(files.look() == .refused("a: nonsense"))
    for _ in 0..<20 { #expect(files.look() == .unchanged) }
    user.failure = nil
    #expect(files.look() == .unchanged, "nothing has changed")
    try shop.write("a", "333")
    #expect(files.look() == .unchanged)
    #expect(files.look() == .used)
  }

  @Test("A certificate whose key has not come yet is waited for, and after a while reported once")
  func halfReplaced() throws {
    let shop = try Workshop()
    let user = User()
    let paths = [try shop.write("crt", "1"), try shop.write("key", "1")]
    var files = follow(paths, user, patientLooks: 3)
    user.failure = .keyMismatch(certificate: "crt", key: "key")
    try shop.write("crt", "22")
    #expect(files.look() == .unchanged && files.look() == .unchanged, "the key may be on its way")
    user.failure = nil
    try shop.write("key", "22")
    #expect(files.look() == .unchanged)
    #expect(files.look() == .used)

    user.failure = .missingFile("key")
    try manager.removeItem(atPath: paths[1])
    let outcomes = (0..<10).map { _ in files.look() }
    #expect(outcomes.filter { $0 != .unchanged } == [.refused("file key does not exist")])
  }

  private var manager: FileManager { .default }
}
