/// The write-ahead log as bytes.
///
/// # Shape
/// A log is a row of segments, numbered without gaps. Integers are little-endian.
///
///     segment := head · batch* · zeros to the end of the file
///     head    := magic 8 · version 4 · previous chain 4 · number 8 · first index 8 · salt 8 · crc32c 4 · zero 4
///     batch   := mark · record+            what one write put there and one fdatasync made durable
///     record  := length 4 · type 1 · crc32c 4 · payload (length bytes)
///     mark    := a record whose payload is: batch number 8 · body length 4 · check 4
///
/// Each record's checksum covers its length, type and payload and is continued from the checksum of the record before
/// it; the first record of a segment continues from the head's checksum, and a head holds the last checksum of the
/// segment before it. So the whole log is one chain: nothing can be lost, swapped or repeated unnoticed.
///
/// A batch is atomic. Its mark says how long it is and carries a check of its own, seeded with the segment's random
/// salt (so that no client can plant a look-alike in a value), by which a mark is recognised without its predecessors.
/// A batch is written only after the one before it is durable. Therefore a valid mark behind a damaged batch proves
/// that the damaged batch had been durable once: that is corruption, and not a torn write.
///
/// The first batch of each segment repeats the vote, so that no older segment is needed for it.
///
/// The log stands on a base: the entry up to which the state is durable elsewhere, in the storage engine. Segments whose
/// entries all lie at or below it are removed, oldest first; the base is recorded before that.
///
/// Files are filled with zeros and synced before they become segments, so that fdatasync has no metadata to write, and
/// so that a sector which a power cut kept from the disk reads as zeros: a batch is taken for torn only when such a
/// blank sector lies where its damage is.
///
/// # What a crash leaves behind
/// | while                                   | on the disk afterwards                         | recovery              |
/// |-----------------------------------------|------------------------------------------------|-----------------------|
/// | a file is filled with zeros             | a `.tmp` file of any length                    | removes it            |
/// | its head is written and synced          | a `.tmp` file                                  | removes it            |
/// | it is renamed to be the next segment    | either name                                    | an empty segment is a |
/// |                                         |                                                | clean end             |
/// | a batch is written                      | any of its sectors, the others blank           | cuts the whole batch, |
/// |                                         |                                                | writes zeros, syncs   |
/// | a batch is written and not yet synced   | as above, or all of it                         | cuts it, or keeps it: |
/// |                                         |                                                | it was never reported |
/// | a torn batch is being zeroed            | fewer of its sectors                           | cuts again            |
/// | the engine commits                      | its state as before or as after                | replays what is behind|
/// | the base's record is written            | the record or not                              | writes it again when  |
/// |                                         |                                                | the log must restart  |
/// | covered segments are removed            | the newest of them                             | goes on without them  |
///
/// Everything else (a bad checksum with durable data behind it, a damaged head, a missing segment, a segment that does
/// not continue its predecessor) no crash can cause: recovery refuses, and names file and offset.
package enum LogLayout {
  package static let version: UInt32 = 1

  package static let segmentHeadBytes = 48
  package static let recordHeadBytes = 9
  /// A batch mark with its record head.
  package static let batchMarkBytes = recordHeadBytes + markPayloadBytes
  package static let markPayloadBytes = 16
  package static let entryHeadBytes = 17
  package static let votePayloadBytes = 24
  package static let baseMarkPayloadBytes = 17

  /// The unit that a disk writes whole or not at all.
  package static let sectorBytes = 512

  static let segmentMagic: [UInt8] = Array("LHWALSEG".utf8)
}

/// What a record holds. 0 is no type: zeros are never a record.
package enum RecordType: UInt8, Sendable {
  case batchMark = 1
  case entry = 2
  case vote = 3
  case baseMark = 4
}
