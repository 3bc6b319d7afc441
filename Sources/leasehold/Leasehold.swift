import ArgumentParser

@main
struct Leasehold: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "leasehold",
    abstract: "Leases for build caches: a sidecar that evicts what nobody uses, on an etcd-style node of its own.",
    version: "leasehold \(Version.own) (etcd API \(Version.etcdServer))",
    subcommands: [
      NodeCommand.self, JanitorCommand.self, HitCommand.self, ListCommand.self, ShowCommand.self, EvictCommand.self,
      SnapshotCommand.self, VerifyCommand.self, PKICommand.self, FreePortCommand.self,
    ])
}

/// What stops a command: one line on standard error and a non-zero exit.
struct CommandFailure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
