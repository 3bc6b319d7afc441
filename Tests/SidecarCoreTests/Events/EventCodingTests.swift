import Primitives
import SidecarCore
import Testing

@Suite struct EventLineTests {
  private func parse(_ line: String) throws -> SubscriberOp? { try SubscriberOp(parsingLine: line.utf8) }

  @Test func bothFormsMeanTheSame() throws {
    var full = Subscription(name: "blobd-1")
    full.cache = "bazel"
    full.batch = 100
    let pairs: [(String, String, SubscriberOp)] = [
      (
        #"{"op":"sub","name":"blobd-1","cache":"bazel","inflight":256,"batch":100,"ackwait":"60s"}"#,
        "sub blobd-1 cache=bazel inflight=256 batch=100 ackwait=60s", .subscribe(full)
      ),
      (#"{"op":"ack","to":1181}"#, "ack to 1181", .acknowledge(.through(1181), blobIsGone: false)),
      (#"{"op":"ack","seqs":[1185,1190]}"#, "ack 1185 1190", .acknowledge(.only([1185, 1190]), blobIsGone: false)),
      (#"{"op":"ack","seqs":[7],"gone":true}"#, "ack 7 gone", .acknowledge(.only([7]), blobIsGone: true)),
      (#"{"op":"nak","seq":1184,"after":"30s","why":"EBUSY"}"#, "nak 1184 30s", .nak(1184, afterMilliseconds: 30_000)),
      (#"{"op":"nak","seq":1184}"#, "nak 1184", .nak(1184, afterMilliseconds: nil)),
      (#"{"op":"wip","seq":1186}"#, "wip 1186", .working(1186)),
      (#"{"op":"keep","seq":1187,"ttl":"7d"}"#, "keep 1187 7d", .keep(1187, ttlMilliseconds: 604_800_000)),
      (
        #"{"op":"term","seq":1188,"why":"no such disk"}"#, "term 1188 no such disk",
        .terminate(1188, why: "no such disk")
      ),
      (#"{"op":"stat"}"#, "stat", .stat), (#"{"op":"pause"}"#, "pause", .pause),
      (#"{"op":"resume"}"#, "resume", .resume), (#"{"op":"kick"}"#, "kick", .kick),
      (#"{"op":"unsub","forget":true}"#, "unsub forget", .unsubscribe(forget: true)),
      (#"{"op":"unsub"}"#, "unsub", .unsubscribe(forget: false)),
    ]
    for (json, short, op) in pairs {
      #expect(try parse(json) == op)
      #expect(try parse(short) == op)
      #expect(try parse("  " + short + " \r") == op, "blanks and CR around a line do not matter")
    }
  }

  @Test func emptyLinesAreHeartbeatsAndUnknownFieldsAreIgnored() throws {
    #expect(try parse("") == nil)
    #expect(try parse(" \r") == nil)
    #expect(try parse(#"{"op":"stat","colour":["blue",{"deep":null}]}"#) == .stat)
  }

  @Test func whatCannotBeUnderstoodSaysWhy() {
    let cases: [(String, EventErrorCode, String)] = [
      ("{", .badjson, "a member's name"), (#"{"op":"stat"} x"#, .badjson, "behind"),
      (#"{"op":"stat","op":"kick"}"#, .badjson, "twice"), (#"{"seq":1}"#, .badjson, "op"),
      (#"{"op":"fly"}"#, .unknownOp, "fly"), ("fly", .unknownOp, "fly"),
      (#"{"op":"ack"}"#, .badjson, "one of to"), (#"{"op":"ack","to":-1}"#, .badjson, "to"),
      (#"{"op":"ack","to":1,"seqs":[1]}"#, .badjson, "one of to"), (#"{"op":"ack","seqs":["a"]}"#, .badjson, "seqs"),
      ("ack", .unknownOp, "missing"), ("ack to", .unknownOp, "to"), ("ack 1 x", .unknownOp, "x"),
      (#"{"op":"nak","seq":1,"after":"soon"}"#, .badjson, "after"), ("nak 1 soon", .unknownOp, "soon"),
      (#"{"op":"sub"}"#, .badjson, "name"), ("sub a/b", .unknownOp, "name"), ("sub", .unknownOp, "name"),
      (#"{"op":"sub","name":"a","inflight":0}"#, .badjson, "inflight"), ("sub a from=then", .unknownOp, "from"),
      ("sub a color=blue", .unknownOp, "color"), ("stat now", .unknownOp, "no arguments"),
      ("sub \(String(repeating: "a", count: 129))", .unknownOp, "128"),
    ]
    for (line, code, part) in cases {
      #expect(throws: OpFailure.self, "\(line)") {
        do { _ = try parse(line) } catch let failure as OpFailure {
          #expect(failure.code == code, "\(line): \(failure.message)")
          #expect(failure.message.contains(part), "\(line): \(failure.message)")
          throw failure
        }
      }
    }
  }

  @Test func messagesLookExactlyAsDesigned() {
    let event = EvictEvent(
      sequence: 1181, entry: EntryName(cache: "bazel", key: "cas/ab/abcd"), generation: 3, reason: .expired,
      sizeBytes: 81234, idleMilliseconds: 604_911_400, registeredAtMilliseconds: 1_794_760_200_999, attempt: 1)
    let evict =
      #""seq":1181,"cache":"bazel","key":"cas/ab/abcd","gen":3,"why":"expired","size":81234,"idle":604911,"registered":"2026-11-15T16:30:00Z","try":1}"#
    let cancel = EventMessage.cancel(
      sequence: 1282, of: 1181, EntryName(cache: "bazel", key: "cas/ab/abcd"), generation: 4)
    let expected: [(EventMessage, String)] = [
      (
        .hello(EventMessage.Hello(node: "n1", epoch: 0x7f3a, first: 1002, head: 1234, acknowledged: 1180)),
        #"{"t":"hello","v":1,"node":"n1","epoch":"7f3a","first":1002,"head":1234,"acked":1180,"caps":["batch","nak","keep","cancel"]}"#
      ),
      (.evict(event), #"{"t":"evict","# + evict),
      (.evictBatch([event, event]), #"{"t":"evict","items":[{"# + evict + ",{" + evict + "]}"),
      (cancel, #"{"t":"cancel","seq":1282,"of":1181,"cache":"bazel","key":"cas/ab/abcd","gen":4}"#),
      (.heartbeat(head: 1300, acknowledged: 1180), #"{"t":"hb","head":1300,"acked":1180}"#),
      (.gap(first: 2000), #"{"t":"gap","first":2000}"#),
      (.ok(.acknowledged(floor: 5)), #"{"t":"ok","op":"ack","acked":5}"#),
      (
        .failure(.init(.stale, "lives", stale: [.init(sequence: 7, livingGeneration: 4)])),
        #"{"t":"err","code":"stale","msg":"lives","seq":7,"gen":4}"#
      ),
    ]
    for (message, line) in expected { #expect(message.line == line + "\n") }
  }

  @Test func aConsumerReadsWhatTheServerPrints() throws {
    let odd = EntryName(cache: "c", key: Bytes([0xff, 0x00, 0x2f]))
    let event = EvictEvent(
      sequence: 9, entry: odd, generation: 1, reason: .cascade, sizeBytes: -1, idleMilliseconds: 5_000,
      registeredAtMilliseconds: 951_782_400_000, attempt: 2)
    let lines: [(EventMessage, ReceivedMessage)] = [
      (.evict(event), .evict([event])), (.evictBatch([event, event]), .evict([event, event])),
      (.cancel(sequence: 3, of: 2, odd, generation: 5), .cancel(sequence: 3, of: 2, odd, generation: 5)),
      (.heartbeat(head: 0, acknowledged: 0), .heartbeat(head: 0, acknowledged: 0)),
      (.ok(.plain(op: "stat")), .ok(op: "stat")),
    ]
    for (sent, received) in lines { #expect(try ReceivedMessage(parsingLine: sent.line.dropLast().utf8) == received) }
    #expect(
      try ReceivedMessage(parsingLine: #"{"t":"pipeline-cancel","seq":4,"id":"b"}"#.utf8)
        == .other(kind: "pipeline-cancel", sequence: 4))
  }

  @Test func aBatchNeverMakesALineTooLong() {
    let key = Bytes([UInt8](repeating: 1, count: Limits.maxCacheKeyBytes))
    let events = (1...200).map { sequence in
      EvictEvent(
        sequence: UInt64(sequence), entry: EntryName(cache: "c", key: key), generation: 1, reason: .size, sizeBytes: 0,
        idleMilliseconds: 0, registeredAtMilliseconds: 0, attempt: 1)
    }
    var bytes: [UInt8] = []
    EventMessage.evictBatch(events).encodeLines(into: &bytes)
    let lines = bytes.split(separator: UInt8(ascii: "\n"))
    #expect(lines.count > 1)
    #expect(lines.allSatisfy { $0.count < Limits.maxEventLineBytes })
    let read = lines.flatMap { line -> [EvictEvent] in
      guard case .evict(let events)? = try? ReceivedMessage(parsingLine: line) else { return [] }
      return events
    }
    #expect(read == events)
  }

  @Test func timesOfAllCenturiesReadBack() {
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<2_000 {
      let second = Int64.random(in: -62_167_219_200...253_402_300_799, using: &generator)
      #expect(TimestampText.milliseconds(TimestampText.text(milliseconds: second * 1_000)) == second * 1_000)
    }
    #expect(TimestampText.text(milliseconds: 951_782_400_000) == "2000-02-29T00:00:00Z")
    #expect(TimestampText.text(milliseconds: -1) == "1969-12-31T23:59:59Z")
    #expect(TimestampText.milliseconds("2026-11-15T16:30:00.25Z") == 1_794_760_200_250)
    for wrong in ["", "2026-11-15 16:30:00Z", "2026-13-15T16:30:00Z", "2026-11-15T16:30:00", "x026-11-15T16:30:00Z"] {
      #expect(TimestampText.milliseconds(wrong) == nil)
    }
  }
}

@Suite struct EventFuzzTests {
  @Test func noLineCrashesAParser() {
    var generator = SeededGenerator(seed: 7)
    let seeds: [[UInt8]] = [
      #"{"op":"sub","name":"blobd-1","cache":"bazel","inflight":256,"batch":100,"ackwait":"60s"}"#,
      #"{"op":"ack","seqs":[1185,1190],"gone":true}"#, "ack to 1181 gone", "sub me inflight=3 from=now", "nak 1184 30s",
      #"{"t":"evict","items":[{"seq":1,"cache":"b","key":"k\u00e4\ud83d\ude00","gen":3,"why":"expired","size":8,"idle":6,"registered":"2026-11-15T16:30:00Z","try":1}]}"#,
      #"{"t":"hello","v":1,"node":"n1","epoch":"7f3a","first":1002,"head":1234,"acked":1180,"caps":["batch"]}"#,
      #"{"t":"cancel","seq":1282,"of":1181,"cache":"bazel","key64":"_wA","gen":4}"#, "[[[[[[[[[[[[[[[[[[[[1e5,-0.5E-2]",
    ].map { Array($0.utf8) }
    for _ in 0..<30_000 {
      var line = seeds.randomElement(using: &generator)!
      for _ in 0..<Int.random(in: 1...4, using: &generator) { mutate(&line, &generator) }
      _ = try? SubscriberOp(parsingLine: line)
      _ = try? ReceivedMessage(parsingLine: line)
      _ = try? JSONValue(parsing: line)
    }
  }

  @Test func noRecordCrashesItsDecoderAndEveryRecordReadsBack() throws {
    var generator = SeededGenerator(seed: 8)
    for _ in 0..<5_000 {
      var record = SubscriberRecord(
        epoch: generator.next(upperBound: UInt32.max),
        scope: Bool.random(using: &generator) ? .allCaches : .cache("bazel"),
        cursor: SubscriberCursor(floor: generator.next(upperBound: 100)))
      for _ in 0..<Int.random(in: 0...20, using: &generator) {
        record.cursor.insert(UInt64.random(in: 1...400, using: &generator))
        record.parked.insert(UInt64.random(in: 1...400, using: &generator))
      }
      var bytes = record.encoded()
      #expect(try SubscriberRecord(decoding: bytes) == record)
      mutate(&bytes.array, &generator)
      // What decodes has one form only.
      if let other = try? SubscriberRecord(decoding: bytes), other != record { #expect(other.encoded().count > 0) }
    }
  }

  private func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
    guard !bytes.isEmpty else { return }
    let place = Int.random(in: 0..<bytes.count, using: &generator)
    switch Int.random(in: 0...4, using: &generator) {
    case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
    case 1: bytes.remove(at: place)
    case 2: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: place)
    case 3: bytes.removeSubrange(place...)
    default: bytes.insert(contentsOf: bytes[place...].prefix(8), at: place)
    }
  }
}

@Suite struct EventCursorTests {
  @Test func aCursorIsASetOfAcknowledgedNumbers() {
    var generator = SeededGenerator(seed: 2)
    for _ in 0..<300 {
      var cursor = SubscriberCursor(floor: 0)
      var model: Set<UInt64> = [0]
      for _ in 0..<120 {
        let low = UInt64.random(in: 1...150, using: &generator)
        let high = min(low + UInt64.random(in: 0...3, using: &generator), 150)
        if Int.random(in: 0..<40, using: &generator) == 0 {
          cursor.advance(to: low)
          model.formUnion(0...low)
        } else {
          cursor.insert(low...high)
          model.formUnion(low...high)
        }
        #expect((0...151).allSatisfy { cursor.contains($0) == model.contains($0) })
        #expect(cursor.firstMissing(from: low) == (low...152).first { !model.contains($0) })
      }
      #expect(cursor.floor == (0...152).first { !model.contains($0 + 1) })
    }
  }

  @Test func aSequenceSetIsASet() {
    var generator = SeededGenerator(seed: 3)
    var set = SequenceSet()
    var model: Set<UInt64> = []
    for _ in 0..<5_000 {
      let low = UInt64.random(in: 0...80, using: &generator)
      let range = low...(low + UInt64.random(in: 0...6, using: &generator))
      switch Int.random(in: 0...4, using: &generator) {
      case 0...1: (set.insert(range), model.formUnion(range)).0
      case 2...3: (set.remove(range), model.subtract(range)).0
      default:
        if Int.random(in: 0...9, using: &generator) == 0 {
          set.removeAll(through: low)
          model = model.filter { $0 > low }
        }
      }
      #expect(set.sequences.elementsEqual(model.sorted()))
      #expect(set.count == model.count)
    }
  }

  @Test func anEvictionWaitsForPolicyNamesAndForEverybodyWhoEverSubscribed() {
    func record(_ scope: SubscriberScope, floor: UInt64) -> SubscriberRecord {
      SubscriberRecord(epoch: 1, scope: scope, cursor: SubscriberCursor(floor: floor))
    }
    var directory = SubscriberDirectory(policyNames: ["bazel": ["mirror"]])
    #expect(!directory.isAcknowledgedByAll(1, cache: "ccache"), "with nobody to wait for it stays owed")
    directory.put(record(.allCaches, floor: 5), for: "audit")
    directory.put(record(.cache("bazel"), floor: 9), for: "blobd")
    #expect(directory.waiters(for: 1, cache: "bazel") == ["audit", "blobd", "mirror"])
    #expect(directory.waiters(for: 1, cache: "ccache") == ["audit"])
    #expect(directory.isAcknowledgedByAll(5, cache: "ccache"))
    #expect(!directory.isAcknowledgedByAll(5, cache: "bazel"), "mirror has never come")
    #expect(directory.minimumFloor == nil, "and it holds the journal back")
    directory.put(record(.cache("bazel"), floor: 7), for: "mirror")
    #expect(directory.isAcknowledgedByAll(5, cache: "bazel"))
    #expect(directory.minimumFloor == 5)
    directory.put(
      SubscriberRecord(epoch: 1, scope: .allCaches, start: 4, cursor: SubscriberCursor(floor: 5)), for: "audit")
    #expect(directory.waiters(for: 3, cache: "ccache") == [], "from=now waits for nothing older")
    #expect(!directory.isAcknowledgedByAll(3, cache: "ccache"), "but does not acknowledge it")
    directory.forget("audit")
    #expect(directory.isAcknowledgedByAll(7, cache: "bazel"))
    #expect(directory.minimumFloor == 7)
  }
}

extension SeededGenerator {
  fileprivate mutating func next<T: FixedWidthInteger & UnsignedInteger>(upperBound: T) -> T {
    T.random(in: 0..<upperBound, using: &self)
  }
}
