import Keyspace
import NIOCore
import Primitives
import StateMachine

/// The applied state with its watches, without log and threads: what is applied is published at once. For tests and
/// benchmarks of watches, which then decide when an event loop runs.
package final class AppliedWatches {
  private let applied = AppliedState(StateMachine())

  package init() {}

  package var counters: WatchCounters { applied.withLock { $0.watches.counters } }
  package var revision: Int64 { applied.withLock { $0.machine.keyspace.revision } }

  package func openWatchSession(on eventLoop: any EventLoop, sink: any WatchSink) -> any WatchSession {
    NodeWatchSession(eventLoop: eventLoop, applied: applied, sink: sink)
  }

  /// Applies commands as one batch and publishes its events. Answers the revision.
  @discardableResult
  package func apply(_ commands: [Command]) -> Int64 {
    applied.withLock { contents in
      let events = Self.apply(commands, to: &contents)
      contents.watches.publish(
        events, revision: contents.machine.keyspace.revision,
        compactRevision: contents.machine.keyspace.compactRevision)
      return contents.machine.keyspace.revision
    }
  }

  /// As a snapshot from another member does: the state has moved on, and nobody was told how.
  package func applyUnpublished(_ commands: [Command]) {
    applied.withLock { contents in
      let revision = contents.machine.keyspace.revision
      _ = Self.apply(commands, to: &contents)
      contents.watches.skipped(after: revision)
    }
  }

  private static func apply(_ commands: [Command], to contents: inout AppliedState.Contents) -> [KeyspaceEvent] {
    var results: [CommandResult] = []
    var events: [KeyspaceEvent] = []
    contents.machine.apply(
      CommandBatch(clock: contents.machine.clock, commands: commands), index: contents.machine.appliedIndex + 1,
      term: 1, results: &results, events: &events)
    return events
  }
}
