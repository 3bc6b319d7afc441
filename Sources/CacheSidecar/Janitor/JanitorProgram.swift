import Primitives

/// The whole of `leasehold janitor`, but for the parsing of flags and signals.
package struct JanitorProgram: Sendable {
  package var cache: String
  package var root: String
  package var eventSocketPath: String
  /// The subscriber's name; `janitor-CACHE` unless given.
  package var name: String
  package var layout = JanitorLayout.plain
  package var graceMilliseconds: Int64 = 120_000
  package var isDryRun = false
  package var isVerbose = false

  package init(cache: String, root: String, eventSocketPath: String, name: String? = nil) {
    self.cache = cache
    self.root = root
    self.eventSocketPath = eventSocketPath
    self.name = name ?? "janitor-\(cache)"
  }

  /// Runs until `isStopped`, on the calling thread, which must be the only one when root is to become the directory's
  /// owner. `report` prints one line. Throws, with one line to show, what makes a janitor impossible.
  ///
  /// A dry run subscribes under the same name (from then on evictions wait for it), acknowledges nothing, and ends when
  /// it has shown what is owed.
  package func run(isStopped: () -> Bool, report: @escaping (String) -> Void) throws(JanitorError) -> Janitor.Totals {
    try JanitorUser.assume(ownerOf: root)
    var options = Janitor.Options(cache: cache)
    options.layout = layout
    options.graceMilliseconds = graceMilliseconds
    options.isDryRun = isDryRun
    options.isVerbose = isVerbose
    let janitor = try Janitor(options, directory: CacheDirectory(path: root), report: report)
    var connection = JanitorConnection(
      JanitorConnection.Options(socketPath: eventSocketPath, name: name), janitor: janitor, report: report)
    return try connection.run(isStopped: isStopped)
  }
}
