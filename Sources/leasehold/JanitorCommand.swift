import ArgumentParser
import CacheSidecar
import Glibc
import Primitives
import Synchronization

/// Set by the signal handlers of `JanitorCommand`.
private let stopRequested = Atomic<Bool>(false)

struct JanitorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "janitor", abstract: "Delete the files of evicted entries, safely, and acknowledge.")

  @Option(help: "The cache's name.")
  var cache: String
  @Option(help: "The cache's directory. Nothing outside of it is ever touched.")
  var root: String
  @Option(help: "The sidecar's event socket.")
  var events: String
  @Option(help: "The subscriber's name (default: janitor-CACHE).")
  var name: String?
  @Option(help: "Where a key's file is: '{key}', '{key:0:2}/{key}', nginx, bazel-disk.")
  var layout: String = "{key}"
  @Option(help: "How long a file stays in the trash, to be brought back by a cancel.")
  var grace: String = "2m"
  @Flag(help: "Say what would be deleted, delete nothing.")
  var dryRun = false
  @Flag(help: "Say each file.")
  var verbose = false

  func run() throws {
    guard let graceMilliseconds = DurationText.milliseconds(grace) else {
      throw CommandFailure("--grace '\(grace)' is no duration: write 30s, 2m or 1h")
    }
    var program = JanitorProgram(cache: cache, root: root, eventSocketPath: events, name: name)
    program.layout = try JanitorLayout(layout)
    program.graceMilliseconds = graceMilliseconds
    program.isDryRun = dryRun
    program.isVerbose = verbose
    signal(SIGPIPE, SIG_IGN)
    for number in [SIGTERM, SIGINT] { signal(number) { _ in stopRequested.store(true, ordering: .relaxed) } }
    _ = try program.run(isStopped: { stopRequested.load(ordering: .relaxed) }, report: Self.report)
  }

  /// A line at once, also into a file or a pipe.
  private static func report(_ line: String) {
    print(line)
    fflush(nil)
  }
}
