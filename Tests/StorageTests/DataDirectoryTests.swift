import Storage
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

private let identity = MemberIdentity(clusterID: 0xcafe, memberID: 0xbeef, name: "node one")

@Suite("Data directory")
struct DataDirectoryTests {
  @Test("Is created with its parents, private, and remembers whose it is")
  func create() throws {
    let place = TemporaryDirectory()
    let path = "\(place.path)/a/b/data"
    let first = try DataDirectory.open(path: path)
    #expect(first.recordedIdentity == nil)
    try first.establish(identity)
    #expect(TemporaryDirectory.mode(of: path) == 0o700)
    #expect(TemporaryDirectory.mode(of: first.memberPath) == 0o700)
    #expect(TemporaryDirectory.mode(of: "\(first.memberPath)/VERSION") == 0o600)
    first.close()
    let second = try DataDirectory.open(path: path)
    #expect(second.recordedIdentity == identity)
    try second.establish(identity)
    second.close()
  }

  @Test("Refuses another cluster, member or name, and says which")
  func mismatch() throws {
    let place = TemporaryDirectory()
    let first = try DataDirectory.open(path: place.path)
    try first.establish(identity)
    first.close()
    let second = try DataDirectory.open(path: place.path)
    defer { second.close() }
    let other = MemberIdentity(clusterID: 0xcafe, memberID: 0xbeef, name: "node two")
    #expect(
      throws: StorageError.identityMismatch(
        path: place.path, field: "member name", found: "node one", expected: "node two")
    ) { try second.establish(other) }
  }

  @Test("Is held by one at a time; the error names the process")
  func lock() throws {
    let place = TemporaryDirectory()
    let first = try DataDirectory.open(path: place.path)
    let error = #expect(throws: StorageError.locked(path: place.path, process: getpid())) {
      try DataDirectory.open(path: place.path)
    }
    #expect("\(error!)" == "data directory \(place.path) is in use by process \(getpid())")
    first.close()
    try DataDirectory.open(path: place.path).close()
  }

  @Test("Refuses another version and a directory of etcd")
  func foreign() throws {
    let place = TemporaryDirectory()
    try DataDirectory.open(path: place.path).close()
    try TemporaryDirectory.write(Array("leasehold 7\n".utf8), to: "\(place.path)/member/VERSION")
    let error = #expect(throws: StorageError.self) { try DataDirectory.open(path: place.path) }
    #expect("\(error!)".contains("\"leasehold 7\""))

    let etcd = TemporaryDirectory()
    for path in ["member", "member/snap", "member/wal"] { try POSIXDisk().createDirectory("\(etcd.path)/\(path)") }
    try TemporaryDirectory.write([1], to: "\(etcd.path)/member/snap/db")
    let foreign = #expect(throws: StorageError.self) { try DataDirectory.open(path: etcd.path) }
    guard case .foreignDirectory = foreign else {
      Issue.record("\(String(describing: foreign))")
      return
    }
  }

  @Test("A path that is a file, and one that may not be written, are one-line errors")
  func unusable() throws {
    let place = TemporaryDirectory()
    try TemporaryDirectory.write([1], to: "\(place.path)/file")
    let error = #expect(throws: StorageError.self) { try DataDirectory.open(path: "\(place.path)/file") }
    #expect("\(error!)" == "cannot use \(place.path)/file: Not a directory")
  }

  @Test("A damaged identity is refused")
  func damagedIdentity() throws {
    let place = TemporaryDirectory()
    let first = try DataDirectory.open(path: place.path)
    try first.establish(identity)
    first.close()
    try TemporaryDirectory.write(Array("cluster zz\n".utf8), to: "\(place.path)/member/IDENTITY")
    #expect(throws: StorageError.self) { try DataDirectory.open(path: place.path) }
  }
}
