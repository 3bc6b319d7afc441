import Primitives
import Raft

// Raft's configuration as the state keeps it; none in the state of a member that has yet to join.

extension Membership {
  package var encodedBytes: [UInt8] {
    var writer = ByteWriter(reserving: 64)
    encode(into: &writer)
    return writer.bytes
  }

  package init(decodingState bytes: [UInt8]) throws(DecodingFailure) {
    if bytes.isEmpty {
      self = .empty
      return
    }
    var reader = ByteReader(bytes[...])
    self = try Membership(decoding: &reader)
    try reader.finish()
  }
}
