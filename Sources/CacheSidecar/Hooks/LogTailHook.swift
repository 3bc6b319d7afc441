import Logging
import NIOPosix
import Primitives
import SidecarCore

/// Follows a cache's access log. Loses nothing while the file lives: the position is saved once the store has everything
/// up to it, and a store that does not answer is waited for.
package struct LogTailHook: Sendable {
  private let tail: LogTail
  private let mapping: HookMapping
  private let sidecar: Sidecar
  private let threads: NIOThreadPool
  private let path: String
  private let logger: Logger

  private static let pollInterval = Duration.milliseconds(250)
  private static let maxRetryDelay = Duration.seconds(10)

  /// `statePath`: where the position is kept; its folder must exist. `threads` read the file.
  package init(
    path: String, statePath: String, mapping: HookMapping, startsAtBeginning: Bool = false, sidecar: Sidecar,
    threads: NIOThreadPool = .singleton, logger: Logger
  ) {
    tail = LogTail(path: path, statePath: statePath, startsAtBeginning: startsAtBeginning)
    self.mapping = mapping
    self.sidecar = sidecar
    self.threads = threads
    self.path = path
    self.logger = logger
  }

  /// Settles where reading begins, so that no line is missed that is written after this. Before the node says that it
  /// is ready. A log that cannot be followed yet is no reason not to start: `run` tries again.
  package func begin() {
    do { try tail.begin() } catch { report(error) }
  }

  private func report(_ error: any Error) {
    logger.error("log tail: cannot follow the log", metadata: ["path": "\(path)", "error": "\(error)"])
  }

  /// Until the task is cancelled.
  package func run() async {
    while !Task.isCancelled {
      do {
        if let chunk = try await threads.runIfActive({ try tail.next() }) {
          await perform(chunk)
          // Cancelled in the middle: the same lines are read again next time.
          if Task.isCancelled { return }
          try await threads.runIfActive { try tail.save(chunk.positions) }
        } else {
          try await Task.sleep(for: Self.pollInterval)
        }
      } catch is CancellationError {
        return
      } catch {
        report(error)
        do { try await Task.sleep(for: Self.maxRetryDelay) } catch { return }
      }
    }
  }

  private func perform(_ chunk: LogTail.Chunk) async {
    guard let cache = sidecar.caches[mapping.cache] else {
      preconditionFailure("a log tail for the cache \(mapping.cache), which has no policy")
    }
    var unparsable = chunk.tooLong
    var batch = HookBatch()
    for line in chunk.lines {
      switch mapping.meaning(of: line.last == UInt8(ascii: "\r") ? line.dropLast() : line) {
      case .request(let key, let request):
        if batch.add(key, request) { continue }
        await perform(batch, in: cache)
        batch = HookBatch()
        guard batch.add(key, request) else { preconditionFailure("an empty batch takes any line") }
      case .ignored: break
      case .unparsable: unparsable += 1
      }
    }
    if !batch.isEmpty { await perform(batch, in: cache) }
    if unparsable > 0 { sidecar.metrics.countUnparsable(.tail, unparsable) }
  }

  /// Until the store has taken all of it, or the task is cancelled. Every request may be repeated.
  private func perform(_ batch: HookBatch, in cache: SidecarCache) async {
    var open = batch.requests
    var delay = Self.pollInterval
    while !open.isEmpty, !Task.isCancelled {
      let results = await sidecar.perform(open, in: cache, hook: .tail)
      var failed: [(key: Bytes, request: EntryRequest)] = []
      var reason: SidecarStoreError?
      for (request, result) in zip(open, results) {
        guard case .failure(let error) = result else { continue }
        if case .refused(let why) = error {
          // Waiting will not help: this line is lost, the others go on.
          logger.error("log tail: a line was refused", metadata: ["path": "\(path)", "error": "\(why)"])
          sidecar.metrics.countLost(.tail, 1)
          continue
        }
        failed.append(request)
        reason = error
      }
      open = failed
      guard let reason else { return }
      logger.warning("log tail: the store does not take hits", metadata: ["path": "\(path)", "error": "\(reason)"])
      do { try await Task.sleep(for: delay) } catch { return }
      delay = min(delay * 2, Self.maxRetryDelay)
    }
  }
}
