import Primitives
import Raft
import StateMachine

// Payloads of the message frames:
//
//   beat            applied index varint · state hash u64 · term varint · has a clock u8 · clock (signed varint, ms)
//   forward         origin · count · commands, as in a command batch
//   forwardRefused  sequence varint · reason u8
//   raft            see RaftMessageCodec

extension PeerMessage {
  package func encoded() throws(PeerProtocolError) -> EncodedFrame {
    var writer = EncodedFrame.begin()
    switch self {
    case .raft(let message):
      return try EncodedFrame.raft(message)
    case .beat(let beat):
      writer.write(beat)
      return try EncodedFrame(.beat, writer)
    case .forward(let proposal):
      writer.write(proposal.origin)
      writer.writeVarint(proposal.term)
      writer.write(proposal.commands)
      return try EncodedFrame(.forward, writer)
    case .forwardRefused(let sequence, let reason):
      writer.writeVarint(sequence)
      writer.writeByte(reason.rawValue)
      return try EncodedFrame(.forwardRefused, writer)
    }
  }
}

extension ByteWriter {
  fileprivate mutating func write(_ beat: PeerBeat) {
    writeVarint(beat.appliedIndex)
    writeFixed(beat.stateHash)
    writeVarint(beat.term)
    writeBool(beat.clock != nil)
    if let clock = beat.clock { writeSigned(clock.milliseconds) }
  }
}

extension ByteReader {
  mutating func readBeat() throws(DecodingFailure) -> PeerBeat {
    let appliedIndex = try readVarint()
    let stateHash = try readFixed(UInt64.self)
    let term = try readVarint()
    let clock = try readBool() ? LeaseClock(milliseconds: try readSigned()) : nil
    return PeerBeat(clock: clock, appliedIndex: appliedIndex, stateHash: stateHash, term: term)
  }

  mutating func readForwardedProposal() throws(DecodingFailure) -> ForwardedProposal {
    let origin = try readOrigin()
    let term = try readVarint()
    return ForwardedProposal(origin: origin, term: term, commands: try readCommands())
  }

  mutating func readForwardRefused() throws(DecodingFailure) -> PeerMessage {
    let sequence = try readVarint()
    let offset = offset
    guard let reason = ForwardRefusal(rawValue: try readByte()) else {
      throw .malformed(offset: offset, "an unknown reason of refusal")
    }
    return .forwardRefused(sequence: sequence, reason: reason)
  }
}
