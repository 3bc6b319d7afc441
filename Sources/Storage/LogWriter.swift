import LogFormat
import Primitives

/// The batch logic of the log, without its thread: whoever owns the writer calls it, one call at a time.
/// Every method that throws leaves the writer unusable: the disk's state is unknown then, and the process must stop.
final class LogWriter {
  /// Where a log stands, as recovery hands it over.
  struct Position {
    /// Oldest first; the last one is written to. Empty on a fresh directory.
    var segments: [SegmentHead] = []
    /// The newest segment's open file, with the place, chain and number of the next batch.
    var current: (file: any DiskFile, bytes: Int)?
    var offset = 0
    var chain: UInt32 = 0
    var nextBatch: UInt64 = 1
    var vote = PersistentVote.none
    var lastIndex: UInt64 = 0
    var base = LogBase.none
    var terms = TermRuns()
  }

  private let disk: any Disk
  private let directory: String
  private let options: LogOptions
  private let supply: SegmentSupply
  private let gauges: LogGauges
  private var position: Position
  private var encoder = BatchEncoder()
  private var randomness = SystemRandomNumberGenerator()
  /// The requests whose records are in the encoder.
  private var waiting: [LogAppend] = []
  private var waitingRecords = 0

  init(
    disk: any Disk, directory: String, options: LogOptions, supply: SegmentSupply, gauges: LogGauges, position: Position
  ) throws(DiskFailure) {
    self.disk = disk
    self.directory = directory
    self.options = options
    self.supply = supply
    self.gauges = gauges
    self.position = position
    if position.current == nil {
      try roll(batchBytes: 0)
    } else {
      encoder.begin(number: position.nextBatch, chain: position.chain)
      // A crash may have come between a segment and its first batch.
      if position.nextBatch == 1 { appendVote() }
      gauges.noteSegments(position.segments.count)
      try supply.prepareAhead()
    }
  }

  var lastIndex: UInt64 { position.lastIndex }

  /// Writes all requests, in order, in as few batches as fit, and calls each completion when it is durable.
  func commit(_ requests: [LogAppend]) throws(DiskFailure) {
    for request in requests {
      try add(request)
    }
    try flush()
  }

  /// Takes note that the state up to this entry is durable elsewhere. Writes only when a segment can go, or when the log
  /// does not contain that entry: then it restarts behind it (thesis §5.3).
  /// - Returns: files of segments that nobody needs any more, oldest first.
  func noteBase(_ base: LogBase) throws(DiskFailure) -> [String] {
    guard base.index > position.base.index else { return [] }
    let agrees = base.index <= position.lastIndex && position.terms.term(at: base.index) == base.term
    guard agrees else { return try noteRestart(behind: base) }
    position.base = base
    position.terms.removeBelow(base.index)
    guard coversOldestSegment(base) else { return [] }
    try writeMark(base, restartsLog: false)
    return forgetCoveredSegments()
  }

  /// As above, for a base that recovery found to contradict the log.
  func noteRestart(behind base: LogBase) throws(DiskFailure) -> [String] {
    try writeMark(base, restartsLog: true)
    position.base = base
    position.lastIndex = base.index
    position.terms = TermRuns(startingWith: base)
    return forgetCoveredSegments()
  }

  private func writeMark(_ base: LogBase, restartsLog: Bool) throws(DiskFailure) {
    try flush()
    try makeRoom(LogLayout.recordHeadBytes + LogLayout.baseMarkPayloadBytes)
    encoder.append(base, restartsLog: restartsLog)
    waitingRecords += 1
    try flush()
  }

  func close() {
    position.current?.file.close()
    position.current = nil
  }

  private func add(_ request: LogAppend) throws(DiskFailure) {
    check(request)
    var bytes = request.vote == nil ? 0 : LogLayout.recordHeadBytes + LogLayout.votePayloadBytes
    for record in request.records { bytes += record.encodedBytes }
    if bytes > 0 {
      if !encoder.isEmpty, encoder.bytes.count + bytes > LogOptions.maxBatchBytes { try flush() }
      try makeRoom(bytes)
    }
    // Vote first: a term that is too high is safe, an entry of a term above the vote's would need care.
    if let vote = request.vote {
      encoder.append(vote)
      position.vote = vote
    }
    for record in request.records {
      encoder.append(record)
      position.terms.append(index: record.index, term: record.term)
    }
    if let last = request.records.last { position.lastIndex = last.index }
    waiting.append(request)
    waitingRecords += request.records.count + (request.vote == nil ? 0 : 1)
  }

  /// A caller's mistake that would make the log unreadable traps here, before it is written.
  private func check(_ request: LogAppend) {
    guard let first = request.records.first else { return }
    precondition(
      first.index <= position.lastIndex + 1,
      "append of entry \(first.index) leaves a gap behind entry \(position.lastIndex)")
    precondition(
      first.index > position.base.index,
      "append of entry \(first.index) would change the base, entry \(position.base.index)")
    var expected = first.index
    for record in request.records {
      precondition(record.index == expected, "append with a gap before entry \(record.index)")
      precondition(record.payload.count <= Limits.maxWALRecordBytes, "entry \(record.index) is too large for the log")
      expected += 1
    }
  }

  /// Sees to it that `bytes` more fit into the batch's segment.
  private func makeRoom(_ bytes: Int) throws(DiskFailure) {
    if position.offset + encoder.bytes.count + bytes <= position.current!.bytes { return }
    try flush()
    if position.offset + encoder.bytes.count + bytes <= position.current!.bytes { return }
    try roll(batchBytes: bytes)
  }

  /// One write, one fdatasync, then the completions.
  private func flush() throws(DiskFailure) {
    if !encoder.isEmpty {
      let file = position.current!.file
      encoder.seal(in: position.segments.last!)
      try file.write(encoder.bytes, at: position.offset)
      let sync = options.unsafeNoFsync ? nil : try timedSync(file)
      gauges.noteBatch(bytes: encoder.bytes.count, records: waitingRecords, sync: sync)
      position.offset += encoder.bytes.count
      position.chain = encoder.chain
      position.nextBatch += 1
      encoder.shrink(above: LogOptions.keptBufferBytes)
      encoder.begin(number: position.nextBatch, chain: position.chain)
    }
    waitingRecords = 0
    for request in waiting { request.completion() }
    waiting.removeAll(keepingCapacity: true)
  }

  private func timedSync(_ file: any DiskFile) throws(DiskFailure) -> Duration {
    let clock = ContinuousClock()
    let start = clock.now
    try file.sync()
    return clock.now - start
  }

  /// Begins the next segment. All batches are durable. Its first batch repeats the vote, so that older segments can go.
  private func roll(batchBytes: Int) throws(DiskFailure) {
    let voteBytes = LogLayout.recordHeadBytes + LogLayout.votePayloadBytes
    let prepared = try supply.take(
      minimumBytes: LogLayout.segmentHeadBytes + LogLayout.batchMarkBytes + voteBytes + batchBytes)
    let head = SegmentHead(
      number: (position.segments.last?.number ?? 0) + 1, firstIndex: position.lastIndex + 1,
      previousChain: position.chain, salt: randomness.next())
    let bytes = head.encoded()
    try prepared.file.write(bytes, at: 0)
    if !options.unsafeNoFsync { try prepared.file.sync() }
    try disk.rename(prepared.path, to: "\(directory)/\(head.fileName)")
    if !options.unsafeNoFsync { try disk.syncDirectory(directory) }
    position.current?.file.close()
    position.current = (prepared.file, prepared.bytes)
    position.segments.append(head)
    position.offset = bytes.count
    position.chain = head.chain
    position.nextBatch = 1
    encoder.begin(number: 1, chain: head.chain)
    appendVote()
    gauges.noteSegments(position.segments.count)
    try supply.prepareAhead()
  }

  private func appendVote() {
    if position.vote == .none { return }
    encoder.append(position.vote)
    waitingRecords += 1
  }

  /// A segment is covered when its successor starts at or below the first entry behind the base.
  private func coversOldestSegment(_ base: LogBase) -> Bool {
    position.segments.count > 1 && position.segments[1].firstIndex <= base.index + 1
  }

  private func forgetCoveredSegments() -> [String] {
    var files: [String] = []
    while coversOldestSegment(position.base) { files.append(position.segments.removeFirst().fileName) }
    gauges.noteSegments(position.segments.count)
    return files
  }
}
