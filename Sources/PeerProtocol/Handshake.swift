import Primitives
import Raft

// The first words of a connection:
//
//   hello    oldest version varint · newest version varint · purpose u8 · cluster u64 · sender u64 · addressee u64 ·
//            count · the sender's peer URLs
//   welcome  version varint · cluster u64 · member u64
//   refusal  code u8 · two numbers u64 · text
//
// These three keep their layout in every version; a later one may append to them. What follows is of the version that
// the welcome names.

/// Versions of everything behind the handshake that this build speaks.
package enum PeerVersion {
  package static let oldest: UInt64 = 1
  package static let newest: UInt64 = 1

  /// The newest version that both sides speak; nil when there is none.
  package static func common(with hello: PeerHello) -> UInt64? {
    let version = min(newest, hello.newestVersion)
    return version >= max(oldest, hello.oldestVersion) ? version : nil
  }
}

/// What a connection is for.
package enum PeerPurpose: UInt8, Hashable, Sendable, CaseIterable {
  /// `PeerLane.urgent`
  case urgent = 1
  /// `PeerLane.bulk`
  case bulk = 2
  /// One transfer of a snapshot.
  case snapshot = 3
  /// "Who are you?", by someone who does not know the cluster yet: IDs in the hello do not count.
  case describe = 4
}

package struct PeerHello: Hashable, Sendable {
  package var oldestVersion: UInt64
  package var newestVersion: UInt64
  package var purpose: PeerPurpose
  package var clusterID: UInt64
  package var senderID: NodeID
  /// Whom the sender believes to have dialled.
  package var addresseeID: NodeID
  /// Where the sender can be reached, for a receiver that has not heard of it yet.
  package var senderURLs: [String]

  package init(
    purpose: PeerPurpose, clusterID: UInt64, senderID: NodeID, addresseeID: NodeID, senderURLs: [String],
    oldestVersion: UInt64 = PeerVersion.oldest, newestVersion: UInt64 = PeerVersion.newest
  ) {
    self.purpose = purpose
    self.clusterID = clusterID
    self.senderID = senderID
    self.addresseeID = addresseeID
    self.senderURLs = senderURLs
    self.oldestVersion = oldestVersion
    self.newestVersion = newestVersion
  }
}

package struct PeerWelcome: Hashable, Sendable {
  package var version: UInt64
  package var clusterID: UInt64
  package var memberID: NodeID

  package init(version: UInt64, clusterID: UInt64, memberID: NodeID) {
    self.version = version
    self.clusterID = clusterID
    self.memberID = memberID
  }
}

/// Why a connection was not let in. Each reads as one line on both sides.
package enum PeerRefusal: Error, Hashable, Sendable, CustomStringConvertible {
  case unknownVersion(oldest: UInt64, newest: UInt64)
  /// `actual`: that of the member which refuses.
  case wrongCluster(actual: UInt64)
  /// The member reached is `actual`, not the addressee.
  case wrongMember(actual: NodeID)
  /// The sender does not belong to the cluster, or no longer.
  case notAMember(NodeID)
  case stopping
  /// The sender has been removed from the cluster, for good.
  case removed(NodeID)
  /// A reason of a later version.
  case other(code: UInt8, text: String)

  package var description: String {
    switch self {
    case .unknownVersion(let oldest, let newest): "speaks only versions \(oldest) to \(newest) of the peer protocol"
    case .wrongCluster(let actual): "belongs to the cluster \(hexadecimal(actual))"
    case .wrongMember(let actual): "is the member \(hexadecimal(actual)), not the one that was meant"
    case .notAMember(let id): "does not have \(hexadecimal(id)) among its members"
    case .stopping: "is stopping"
    case .removed(let id): "knows that \(hexadecimal(id)) has been removed from the cluster"
    case .other(let code, let text): "refused for reason \(code): \(text)"
    }
  }
}

/// IDs as etcd shows them.
package func hexadecimal(_ id: UInt64) -> String { String(id, radix: 16) }

extension ByteWriter {
  mutating func write(_ hello: PeerHello) {
    writeVarint(hello.oldestVersion)
    writeVarint(hello.newestVersion)
    writeByte(hello.purpose.rawValue)
    writeFixed(hello.clusterID)
    writeFixed(hello.senderID)
    writeFixed(hello.addresseeID)
    writeCount(hello.senderURLs.count)
    for url in hello.senderURLs { writeText(url) }
  }

  mutating func write(_ welcome: PeerWelcome) {
    writeVarint(welcome.version)
    writeFixed(welcome.clusterID)
    writeFixed(welcome.memberID)
  }

  mutating func write(_ refusal: PeerRefusal) {
    let (code, first, second): (UInt8, UInt64, UInt64) =
      switch refusal {
      case .unknownVersion(let oldest, let newest): (1, oldest, newest)
      case .wrongCluster(let actual): (2, actual, 0)
      case .wrongMember(let actual): (3, actual, 0)
      case .notAMember(let id): (4, id, 0)
      case .stopping: (5, 0, 0)
      case .removed(let id): (6, id, 0)
      case .other(let code, _): (code, 0, 0)
      }
    writeByte(code)
    writeFixed(first)
    writeFixed(second)
    if case .other(_, let text) = refusal { writeText(text) } else { writeText(refusal.description) }
  }
}

extension ByteReader {
  mutating func readHello() throws(DecodingFailure) -> PeerHello {
    let oldest = try readVarint()
    let newest = try readVarint()
    let offset = offset
    guard let purpose = PeerPurpose(rawValue: try readByte()) else {
      throw .malformed(offset: offset, "an unknown purpose")
    }
    let clusterID = try readFixed(UInt64.self)
    let senderID = try readFixed(NodeID.self)
    let addresseeID = try readFixed(NodeID.self)
    var urls: [String] = []
    for _ in 0..<(try readCount()) { urls.append(try readText()) }
    return PeerHello(
      purpose: purpose, clusterID: clusterID, senderID: senderID, addresseeID: addresseeID, senderURLs: urls,
      oldestVersion: oldest, newestVersion: newest)
  }

  mutating func readWelcome() throws(DecodingFailure) -> PeerWelcome {
    let version = try readVarint()
    let clusterID = try readFixed(UInt64.self)
    return PeerWelcome(version: version, clusterID: clusterID, memberID: try readFixed())
  }

  mutating func readRefusal() throws(DecodingFailure) -> PeerRefusal {
    let code = try readByte()
    let first = try readFixed(UInt64.self)
    let second = try readFixed(UInt64.self)
    let text = try readText()
    switch code {
    case 1: return .unknownVersion(oldest: first, newest: second)
    case 2: return .wrongCluster(actual: first)
    case 3: return .wrongMember(actual: first)
    case 4: return .notAMember(first)
    case 5: return .stopping
    case 6: return .removed(first)
    default: return .other(code: code, text: text)
    }
  }
}
