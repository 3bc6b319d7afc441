import Primitives
import SidecarCore
import Synchronization

package typealias EntryResult = Result<EntryOutcome, SidecarStoreError>
package typealias EntryCompletion = @Sendable (EntryResult) -> Void

/// One configured cache in memory: its policy, what is known of recent renewals, and who waits for one.
///
/// Hits come from any thread; a coalesced one costs one short lock of one shard and no hop.
package final class SidecarCache: Sendable {
  package let name: String
  package let policy: CachePolicy
  let planner: EntryPlanner
  private let shards: [Shard]

  private static let shardCount = 16

  /// How a hit goes on.
  enum Admission {
    case coalesced
    /// The completion waits for the renewal that is under way.
    case joined
    /// The caller must bring the hit to the pipeline, which calls `finishHit`.
    case mustRenew(RenewedLease?)
  }

  private struct Waiter {
    var hitAtMilliseconds: Int64
    var completion: EntryCompletion
  }

  private final class Shard: Sendable {
    struct State {
      var coalescer: HitCoalescer
      var waiters: [Bytes: [Waiter]] = [:]
      var coalescedCount: UInt64 = 0
    }
    let state: Mutex<State>

    init(windowMilliseconds: Int64, now: Int64) {
      state = Mutex(State(coalescer: HitCoalescer(windowMilliseconds: windowMilliseconds, now: now)))
    }
  }

  init(policy: CachePolicy, layout: StoreLayout, now: Int64) {
    name = policy.name
    self.policy = policy
    planner = EntryPlanner(layout: layout, policy: policy)
    shards = (0..<Self.shardCount).map { _ in Shard(windowMilliseconds: policy.windowMilliseconds, now: now) }
  }

  func entry(_ key: Bytes) -> EntryName { EntryName(cache: name, key: key) }

  /// The last bytes of a key vary most: digests, file names.
  private func shard(_ key: Bytes) -> Shard {
    var hash: UInt32 = 2_166_136_261
    for byte in key.array.suffix(8) { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    return shards[Int(hash >> 16) % Self.shardCount]
  }

  func admitHit(_ key: Bytes, at now: Int64, completion: () -> EntryCompletion) -> Admission {
    shard(key).state.withLock { state in
      switch state.coalescer.hit(key, at: now) {
      case .coalesced:
        state.coalescedCount += 1
        return .coalesced
      case .join:
        state.waiters[key, default: []].append(Waiter(hitAtMilliseconds: now, completion: completion()))
        return .joined
      case .renew(let known):
        state.waiters[key] = [Waiter(hitAtMilliseconds: now, completion: completion())]
        return .mustRenew(known)
      }
    }
  }

  /// The renewal of this key is over: tells everybody who waited. Returns those whose hits came so late after the
  /// renewal was issued that it does not cover them: they are hits anew.
  func finishHit(_ key: Bytes, _ result: EntryResult, remembering lease: RenewedLease?, at now: Int64)
    -> [EntryCompletion]
  {
    let waiters = shard(key).state.withLock { state in
      if let lease { state.coalescer.remember(key, lease, at: now) }
      state.coalescer.finish(key)
      return state.waiters.removeValue(forKey: key) ?? []
    }
    var uncovered: [EntryCompletion] = []
    for waiter in waiters {
      if let lease, !lease.covers(hitAtMilliseconds: waiter.hitAtMilliseconds) {
        uncovered.append(waiter.completion)
      } else {
        waiter.completion(result)
      }
    }
    return uncovered
  }

  func remember(_ key: Bytes, _ lease: RenewedLease, at now: Int64) {
    shard(key).state.withLock { $0.coalescer.remember(key, lease, at: now) }
  }

  func forget(_ key: Bytes, revision: Int64, at now: Int64) {
    shard(key).state.withLock { $0.coalescer.forget(key, revision: revision, at: now) }
  }

  func isFresh(_ key: Bytes, lease: LeaseID, at now: Int64) -> Bool {
    shard(key).state.withLock { $0.coalescer.isFresh(key, lease: lease, at: now) }
  }

  /// Hits that were coalesced since the start, by all hooks.
  package var coalescedCount: UInt64 {
    shards.reduce(0) { $0 + $1.state.withLock { $0.coalescedCount } }
  }

  /// Keys in memory.
  package var knownCount: Int {
    shards.reduce(0) { $0 + $1.state.withLock { $0.coalescer.knownCount } }
  }
}
