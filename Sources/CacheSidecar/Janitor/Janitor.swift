import Primitives
import SidecarCore

/// What a janitor does with each message of the event stream. The connection is `JanitorConnection`'s.
///
/// For an eviction it moves the file into the trash, answers `ack`, and unlinks the file after the grace; a `cancel`
/// within the grace puts it back. A crash between the move and the `ack` brings the event again: the file is absent
/// then, and absent is done.
///
/// A file that was modified after the registration that the event names (plus `clockTolerance`) is another one:
/// somebody has uploaded the key again and nobody has reported it. It is left alone, counted and said. The event is
/// acknowledged all the same: the blob that it speaks of is absent, and an entry without record gets a new one with
/// its next hit. Ordinary uploads end before their registration, so they are never newer.
package struct Janitor {
  package struct Options: Sendable {
    package var cache: String
    package var layout = JanitorLayout.plain
    package var graceMilliseconds: Int64 = 120_000
    package var isDryRun = false
    package var isVerbose = false

    package init(cache: String) { self.cache = cache }
  }

  package struct Totals: Hashable, Sendable {
    package var moved = 0
    package var movedBytes: Int64 = 0
    package var freed = 0
    package var freedBytes: Int64 = 0
    package var absent = 0
    package var newer = 0
    package var restored = 0
    package var refused = 0
    package var failed = 0
  }

  /// How much later than its registration a file's time may be: the event shows whole seconds, and file systems and
  /// nodes round and drift.
  package static let clockToleranceMilliseconds: Int64 = 2_000

  package let options: Options
  package private(set) var totals = Totals()
  private let directory: CacheDirectory
  private let report: (String) -> Void
  /// Of the journal; a part of the names in the trash.
  private var epoch: UInt32 = 0
  private var trash: [CacheDirectory.TrashedFile] = []

  /// Takes over what earlier runs have left in the trash. `report` prints one line.
  package init(_ options: Options, directory: CacheDirectory, report: @escaping (String) -> Void) throws(JanitorError) {
    self.options = options
    self.directory = directory
    self.report = report
    trash = try directory.trashedFiles()
  }

  /// The answers to one message, lines to send with their LF.
  package mutating func take(_ messages: [ReceivedMessage]) -> [UInt8] {
    var acknowledged: [UInt64] = []
    var answers: [UInt8] = []
    for message in messages {
      switch message {
      case .hello(let hello): epoch = hello.epoch
      case .evict(let events):
        for event in events { remove(event, &acknowledged, &answers) }
      case .cancel(let sequence, let of, let entry, _):
        if restore(entry, of: of, &answers, sequence: sequence) { acknowledged.append(sequence) }
      case .other(_, let sequence): if let sequence { acknowledged.append(sequence) }
      case .gap(let first): report("the journal starts at \(first): older evictions are not told any more")
      case .failure(let code, let message, let sequences):
        // A stale acknowledgement: its cancel comes, or has come, and puts the file back.
        if code != EventErrorCode.stale.rawValue || options.isVerbose {
          report(
            "\(code): \(message)"
              + (sequences.isEmpty ? "" : " (\(sequences.map(String.init).joined(separator: ", ")))"))
        }
      case .heartbeat, .ok: break
      }
    }
    guard !options.isDryRun else { return [] }
    acknowledge(acknowledged, &answers)
    return answers
  }

  /// So many sequence numbers of up to 20 digits stay far below the longest line.
  private static let maxAcknowledgementsPerLine = 1_000

  private func acknowledge(_ sequences: [UInt64], _ answers: inout [UInt8]) {
    var rest = sequences[...]
    while !rest.isEmpty {
      let part = rest.prefix(Self.maxAcknowledgementsPerLine)
      rest = rest.dropFirst(part.count)
      answer(&answers) { writer in
        writer.member("op", "ack")
        writer.member("seqs", integers: part)
      }
    }
  }

  private func answer(_ answers: inout [UInt8], _ body: (inout JSONWriter) -> Void) {
    var writer = JSONWriter()
    writer.object(body)
    writer.endLine()
    answers += writer.bytes
  }

  private func trashName(_ sequence: UInt64) -> String { "\(String(epoch, radix: 16))-\(sequence)" }

  private mutating func remove(_ event: EvictEvent, _ acknowledged: inout [UInt64], _ answers: inout [UInt8]) {
    // Another cache's event has nothing to do here; the subscription asks for one cache only.
    guard event.entry.cache == options.cache else { return acknowledged.append(event.sequence) }
    let components: [[UInt8]]
    do throws(JanitorLayout.Refusal) {
      components = try options.layout.components(of: event.entry.key)
    } catch {
      return refuse(event, error.description, &answers)
    }
    let newest = event.registeredAtMilliseconds.addingReportingOverflow(Self.clockToleranceMilliseconds).partialValue
    let name = trashName(event.sequence)
    switch directory.remove(components, as: name, newest: newest, dryRun: options.isDryRun) {
    case .moved(let bytes):
      totals.moved += 1
      totals.movedBytes += bytes
      if !options.isDryRun {
        trash.append(
          CacheDirectory.TrashedFile(name: name, bytes: bytes, movedAtMilliseconds: wallMilliseconds()))
      }
      say("\(options.isDryRun ? "would delete" : "deleted") \(event.entry.key) (\(bytes) bytes, \(event.reason.text))")
      acknowledged.append(event.sequence)
    case .absent:
      totals.absent += 1
      say("absent \(event.entry.key)")
      acknowledged.append(event.sequence)
    case .newer:
      totals.newer += 1
      report("left alone, newer than its registration: \(event.entry.key)")
      acknowledged.append(event.sequence)
    case .refused(let why): refuse(event, why, &answers)
    case .failed(let why):
      totals.failed += 1
      report("not deleted, will be tried again: \(event.entry.key): \(why)")
      answer(&answers) { writer in
        writer.member("op", "nak")
        writer.member("seq", event.sequence)
        writer.member("why", why)
      }
    }
  }

  private mutating func refuse(_ event: EvictEvent, _ why: String, _ answers: inout [UInt8]) {
    totals.refused += 1
    report("refused: \(event.entry.key): \(why)")
    answer(&answers) { writer in
      writer.member("op", "term")
      writer.member("seq", event.sequence)
      writer.member("why", why)
    }
  }

  private func say(_ line: String) {
    if options.isVerbose || options.isDryRun { report(line) }
  }

  /// Whether the cancel is done with.
  private mutating func restore(
    _ entry: EntryName, of: UInt64, _ answers: inout [UInt8], sequence: UInt64
  ) -> Bool {
    guard !options.isDryRun, entry.cache == options.cache,
      let components = try? options.layout.components(of: entry.key)
    else { return true }
    let name = trashName(of)
    switch directory.restore(components, from: name) {
    case .restored:
      totals.restored += 1
      trash.removeAll { $0.name == name }
      say("restored \(entry.key)")
      return true
    case .notInTrash:
      if !directory.hasFile(components) { sayGone(entry, of, &answers) }
      return true
    case .replaced:
      say("not restored, a newer file is there: \(entry.key)")
      return true
    case .failed(let why):
      totals.failed += 1
      report("not restored, will be tried again: \(entry.key): \(why)")
      answer(&answers) { writer in
        writer.member("op", "nak")
        writer.member("seq", sequence)
        writer.member("why", why)
      }
      return false
    }
  }

  /// The entry lives again, but its blob was unlinked already (the cancel came after the grace): the entry must not
  /// promise what the cache does not have.
  private func sayGone(_ entry: EntryName, _ sequence: UInt64, _ answers: inout [UInt8]) {
    report("cancelled too late, the file is gone: \(entry.key)")
    answer(&answers) { writer in
      writer.member("op", "ack")
      writer.member("seqs", integers: [sequence])
      writer.member("gone", true)
    }
  }

  /// Unlinks what has lain in the trash for the grace. `now`: milliseconds since 1970.
  package mutating func emptyTrash(now: Int64) {
    guard !options.isDryRun else { return }
    var kept: [CacheDirectory.TrashedFile] = []
    for file in trash {
      // A time ahead of ours (the clock was set back) counts from now on.
      guard now - file.movedAtMilliseconds >= options.graceMilliseconds else {
        kept.append(file)
        continue
      }
      do {
        if let bytes = try directory.discard(file.name) {
          totals.freed += 1
          totals.freedBytes += bytes
        }
      } catch {
        report("\(error)")
        kept.append(
          CacheDirectory.TrashedFile(name: file.name, bytes: file.bytes, movedAtMilliseconds: now))
      }
    }
    trash = kept
  }

  package var filesInTrash: Int { trash.count }

  /// One line of what has been done so far.
  package var summary: String {
    let waiting = trash.reduce(Int64(0)) { $0 + $1.bytes }
    var parts =
      options.isDryRun
      ? ["would delete \(totals.moved) files, \(totals.movedBytes) bytes"]
      : ["freed \(totals.freedBytes) bytes in \(totals.freed) files"]
    if !trash.isEmpty { parts.append("\(waiting) bytes in \(trash.count) files wait in the trash") }
    for (count, what) in [
      (totals.absent, "absent"), (totals.newer, "left alone (newer)"), (totals.restored, "restored"),
      (totals.refused, "refused"), (totals.failed, "failed"),
    ] where count > 0 {
      parts.append("\(count) \(what)")
    }
    return parts.joined(separator: ", ")
  }
}
