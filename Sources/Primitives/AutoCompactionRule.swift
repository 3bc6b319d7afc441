/// What history a leader gives up of its own accord: `--auto-compaction-mode` and `--auto-compaction-retention`.
package enum AutoCompactionRule: Hashable, Sendable {
  case off
  /// Revisions that are older than this.
  case periodic(retentionMilliseconds: Int64)
  /// All but the last `kept` revisions.
  case revision(kept: Int64)
}
