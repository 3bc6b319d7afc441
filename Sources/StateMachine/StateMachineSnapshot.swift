import Keyspace
import Leases
import Primitives

// The whole state as bytes:
//
//   magic "LHSM" · version u8 · frames · end u32 0 · crc32c u32
//   frame: length u32 · payload
//
// The payloads, one behind the other:
//
//   applied index u64 · applied term u64 · lease clock i64 (ms) · alarms · cluster · hash · auth · leases ·
//   keyspace
//   alarms: count · (member u64 · kind u8) each, rising
//   cluster, hash: see `ClusterCodec`; auth: see `AuthCodec`, absent in version 3
//
// Fixed integers are little-endian; the checksum covers everything before it. Which key hangs on which lease is not
// written: every key names its lease. A frame ends between two leases or versions, so a reader holds one frame and no
// more. Frames are cut by their own size alone: equal states have equal bytes, in whichever pieces they are asked for.

enum SnapshotFormat {
  static let magic: [UInt8] = Array("LHSM".utf8)
  static let version: UInt8 = 4
  /// Without users and roles.
  static let versionBeforeAuth: UInt8 = 3
  static let headBytes = magic.count + 1
  /// A frame is complete when it has reached this size.
  static let frameBytes = 64 * 1024
  /// Above any frame that is written: a key and a value are bounded by a log entry.
  static let maxFrameBytes = 2 * Limits.maxWALRecordBytes
  static let lengthBytes = 4
  static let trailerBytes = 4
}

extension StateMachine {
  package func encoded() -> [UInt8] {
    var writer = StateSnapshotWriter(self)
    var bytes: [UInt8] = []
    while let chunk = writer.next(maxBytes: .max) { bytes += chunk }
    return bytes
  }

  /// Throws on anything but what `encoded` wrote.
  package init(decoding bytes: [UInt8]) throws(DecodingFailure) {
    var reader = StateSnapshotReader()
    try reader.feed(bytes[...])
    self = try reader.finish()
  }
}
