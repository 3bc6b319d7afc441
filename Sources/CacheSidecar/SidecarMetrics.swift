import SidecarCore
import Synchronization

/// By which way a request came in.
package enum HookKind: String, Hashable, Sendable, CaseIterable {
  case http
  case batch
  case syslog
  case tail
}

/// The entry half's counters. One short lock; the coalesced hits of the HTTP call are counted where they
/// are decided (`SidecarCache.coalescedCount`).
package final class SidecarMetrics: Sendable {
  package struct HitLabels: Hashable, Comparable, Sendable {
    package var cache: String
    package var hook: HookKind
    package var outcome: String

    package static func < (left: HitLabels, right: HitLabels) -> Bool {
      (left.cache, left.hook.rawValue, left.outcome) < (right.cache, right.hook.rawValue, right.outcome)
    }
  }

  package struct Values: Sendable {
    package var hits: [HitLabels: UInt64] = [:]
    package var lostByHook: [HookKind: UInt64] = [:]
    package var unparsableByHook: [HookKind: UInt64] = [:]
    package var renewals: UInt64 = 0
    package var evictions: [String: [EvictionReason: UInt64]] = [:]
    package var scans: UInt64 = 0
    package var unreadableKeys: UInt64 = 0
    package var isEvictor = false
  }

  private let values = Mutex(Values())

  package init() {}

  package var snapshot: Values { values.withLock { $0 } }

  package func countHit(cache: String, hook: HookKind, outcome: String, _ count: UInt64 = 1) {
    values.withLock { $0.hits[HitLabels(cache: cache, hook: hook, outcome: outcome), default: 0] += count }
  }

  package func countLost(_ hook: HookKind, _ count: UInt64) {
    values.withLock { $0.lostByHook[hook, default: 0] += count }
  }

  package func countUnparsable(_ hook: HookKind, _ count: UInt64) {
    values.withLock { $0.unparsableByHook[hook, default: 0] += count }
  }

  func countRenewals(_ count: Int) { values.withLock { $0.renewals += UInt64(count) } }

  func countEviction(cache: String, reason: EvictionReason) {
    values.withLock { $0.evictions[cache, default: [:]][reason, default: 0] += 1 }
  }

  func countScan(unreadable: Int) {
    values.withLock {
      $0.scans += 1
      $0.unreadableKeys = UInt64(unreadable)
    }
  }

  func setEvictor(_ isEvictor: Bool) { values.withLock { $0.isEvictor = isEvictor } }
}

extension EntryOutcome {
  /// The label `outcome` of `leasehold_hits_total`.
  package var label: String {
    switch self {
    case .coalesced: "coalesced"
    case .renewed: "renewed"
    case .registered: "registered"
    case .updated: "updated"
    case .revived: "revived"
    case .unknown: "unknown"
    case .evicting: "evicting"
    case .evictionStarted: "evicted"
    }
  }
}

extension EvictionReason {
  /// `why` on the event stream and the label `reason`.
  package var label: String {
    switch self {
    case .expired: "expired"
    case .deleted: "deleted"
    case .size: "size"
    case .cascade: "cascade"
    }
  }
}
