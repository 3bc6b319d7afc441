import ArgumentParser
import ClusterNode
import Foundation
import Primitives
import Settings

/// `leasehold snapshot`: files that `etcdctl snapshot save` has written from a node.
struct SnapshotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot", abstract: "Look at a snapshot file, or make a data directory out of it.",
    discussion: "`etcdctl --endpoints … snapshot save FILE` writes one from a running node.",
    subcommands: [Status.self, Restore.self])

  struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Check a snapshot file and say what is in it.")

    @Argument(help: "The file.")
    var file: String
    @OptionGroup var output: ReportFormat

    func run() throws {
      let summary = try SnapshotSummary(of: SnapshotFile(path: file))
      try output.show([
        ("hash", .text(String(summary.hash, radix: 16))), ("revision", .number(summary.revision)),
        ("compactRevision", .number(summary.compactRevision)), ("totalKey", .number(Int64(summary.keyCount))),
        ("totalLease", .number(Int64(summary.leaseCount))), ("totalSize", .number(Int64(summary.sizeBytes))),
      ])
    }
  }

  struct Restore: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a new member's data directory out of a snapshot file.",
      discussion: """
        The member starts a new cluster with the keys and leases of the old one; leases have the time left that they had.
        Do so for each of its first members, with the same file and --initial-cluster. Start them with the same --name
        and --initial-… flags.
        """)

    @Argument(help: "The file.")
    var file: String
    @Option(help: "The directory to make; it must not exist, or be empty (default: NAME.etcd).")
    var dataDir: String?
    @Option(help: "The member's name.")
    var name: String = "default"
    @Option(help: "The first members: name=peerURL, with commas between them (default: this member alone).")
    var initialCluster: String?
    @Option(help: "The cluster's token.")
    var initialClusterToken: String = "etcd-cluster"
    @Option(help: "The member's peer URLs, with commas between them.")
    var initialAdvertisePeerUrls: String = "http://localhost:2380"
    @Option(
      help: """
        By how much the revision moves on, so that clients that have seen more than the snapshot holds never see a \
        revision twice; history before it counts as compacted. 0: not at all.
        """)
    var bumpRevision: Int64 = SnapshotRestore.defaultRevisionBump
    @Flag(help: "Take a file whose SHA-256 is wrong or missing; its own checksums still count.")
    var skipHashCheck = false

    func validate() throws {
      if name.isEmpty { throw ValidationError("--name must not be empty") }
      if bumpRevision < 0 { throw ValidationError("--bump-revision must not be negative: revisions never go back") }
    }

    func run() throws {
      let urls = try initialAdvertisePeerUrls.split(separator: ",").map {
        try InitialCluster.peerURL(String($0), setting: "--initial-advertise-peer-urls")
      }
      var configuration = NodeConfiguration(
        name: name, dataDirectory: dataDir ?? "\(name).etcd", clusterToken: initialClusterToken, peerURLs: urls)
      if let initialCluster {
        configuration.initialCluster = try InitialCluster.parse(initialCluster, token: initialClusterToken)
        try configuration.initialCluster.check(name: name, advertisedPeerURLs: urls)
      }
      let snapshot = try SnapshotFile(path: file, checksHash: !skipHashCheck)
      let outcome = try SnapshotRestore(snapshot, configuration: configuration, revisionBump: bumpRevision).run()
      print(
        "restored \(outcome.keyCount) keys and \(outcome.leaseCount) leases at revision \(outcome.revision) into "
          + "\(configuration.dataDirectory) as member \(String(outcome.identity.memberID, radix: 16)) of cluster "
          + String(outcome.identity.clusterID, radix: 16))
    }
  }
}

/// `leasehold verify`: everything a stopped member has on its disk.
struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Check a stopped member's data directory: state, log, every checksum.",
    discussion: "Nothing is changed. The exit code is 1 when something is damaged.")

  @Option(help: "The member's data directory.")
  var dataDir: String
  @OptionGroup var output: ReportFormat

  func run() throws {
    let found = try MemberVerification.run(dataDirectory: dataDir)
    let state = found.state
    var report: [(String, ReportFormat.Value)] = []
    if let identity = found.identity {
      report += [
        ("member", .text(String(identity.memberID, radix: 16))),
        ("cluster", .text(String(identity.clusterID, radix: 16))), ("name", .text(identity.name)),
      ]
    }
    report += state.cluster.members.map { member in
      let urls = member.peerURLs.joined(separator: ",")
      let text = "\(String(member.id, radix: 16)) \(member.name.isEmpty ? "unstarted" : member.name) \(urls)"
      return ("clusterMember", .text(member.isLearner ? text + " learner" : text))
    }
    report += [
      ("revision", .number(state.revision)), ("totalKey", .number(Int64(state.keyCount))),
      ("totalVersion", .number(Int64(state.versionCount))), ("totalLease", .number(Int64(state.leaseCount))),
      ("storedIndex", .number(Int64(state.appliedIndex))), ("fileSize", .number(state.sizes.fileBytes)),
      ("fileSizeInUse", .number(state.sizes.inUseBytes)),
    ]
    if let log = found.log {
      report.append(("logSegments", .number(Int64(log.segmentCount))))
      report.append(("logEntries", .text(log.entries.map { "\($0.lowerBound)…\($0.upperBound)" } ?? "none")))
      report += log.warnings.map { ("warning", .text($0)) }
    }
    report += found.problems.map { ("problem", .text($0)) }
    report.append(("verdict", .text(found.problems.isEmpty ? "sound" : "damaged")))
    try output.show(report)
    if !found.problems.isEmpty { throw ExitCode.failure }
  }
}

/// How an offline command shows its findings.
struct ReportFormat: ParsableArguments {
  enum Format: String, ExpressibleByArgument, CaseIterable { case fields, json }

  enum Value {
    case number(Int64)
    case text(String)
  }

  @Option(name: [.customShort("w"), .long], help: "fields or json.")
  var writeOut = Format.fields

  /// Names may repeat; JSON then has a list.
  func show(_ report: [(name: String, value: Value)]) throws {
    switch writeOut {
    case .fields:
      for (name, value) in report {
        switch value {
        case .number(let number): print("\(name): \(number)")
        case .text(let text): print("\(name): \(text)")
        }
      }
    case .json:
      let values = Dictionary(grouping: report, by: \.name).mapValues { entries -> Any in
        let values = entries.map { entry -> Any in
          switch entry.value {
          case .number(let number): number
          case .text(let text): text
          }
        }
        return Self.lists.contains(entries[0].name) ? values : values[0]
      }
      let data = try JSONSerialization.data(withJSONObject: values, options: [.sortedKeys, .withoutEscapingSlashes])
      print(String(decoding: data, as: UTF8.self))
    }
  }

  private static let lists: Set<String> = ["warning", "problem", "clusterMember"]
}
