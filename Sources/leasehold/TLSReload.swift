import Logging
import NIOPosix
import PKI

/// Looks at the files of all ports' TLS about twice a second. What has changed is in force within two looks.
struct TLSReload {
  private static let interval = Duration.milliseconds(500)

  private var followed: [FollowedFiles]
  private let logger: Logger

  init(_ materials: [TLSMaterial], logger: Logger) {
    followed = materials.flatMap(\.followed)
    self.logger = logger
  }

  /// Until it is cancelled.
  func run(threadPool: NIOThreadPool = .singleton) async {
    var followed = followed
    guard !followed.isEmpty else { return }
    while true {
      do {
        try await Task.sleep(for: Self.interval)
        followed = try await threadPool.runIfActive { [followed] in
          var followed = followed
          for index in followed.indices { report(followed[index].look(), followed[index].paths) }
          return followed
        }
      } catch {
        // Cancelled, or the pool has been shut down: the process ends.
        return
      }
    }
  }

  private func report(_ outcome: FollowedFiles.Outcome, _ paths: [String]) {
    let files = paths.joined(separator: ", ")
    switch outcome {
    case .unchanged: break
    case .used: logger.info("changed TLS files are in use", metadata: ["files": "\(files)"])
    case .refused(let reason):
      logger.error(
        "changed TLS files cannot be used; what was loaded before stays in force",
        metadata: ["files": "\(files)", "reason": "\(reason)"])
    }
  }
}
