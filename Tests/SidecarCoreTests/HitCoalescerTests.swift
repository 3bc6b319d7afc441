import Primitives
import SidecarCore
import Testing

private func lease(_ id: LeaseID = 1, revision: Int64 = 1, issuedAt: Int64, window: Int64 = 100) -> RenewedLease {
  RenewedLease(
    lease: id, generation: 1, markerRevision: revision, issuedAtMilliseconds: issuedAt, windowMilliseconds: window)
}

@Suite struct HitCoalescerTests {
  @Test func aHitWithinTheWindowOfARenewalWritesNothing() {
    var coalescer = HitCoalescer(windowMilliseconds: 100, now: 0)
    #expect(coalescer.hit("k", at: 0) == .renew(nil))
    coalescer.remember("k", lease(issuedAt: 0), at: 1)
    coalescer.finish("k")
    #expect(coalescer.hit("k", at: 100) == .coalesced)
    #expect(coalescer.hit("k", at: 101) == .renew(lease(issuedAt: 0)))
  }

  @Test func hitsDuringARenewalJoinIt() {
    var coalescer = HitCoalescer(windowMilliseconds: 100, now: 0)
    #expect(coalescer.hit("k", at: 0) == .renew(nil))
    #expect(coalescer.hit("k", at: 5) == .join)
    coalescer.finish("k")
    #expect(coalescer.hit("k", at: 6) == .renew(nil), "a renewal that failed is not remembered")
  }

  @Test func onlyKeysOfTheLastTwoWindowsAreHeld() {
    var coalescer = HitCoalescer(windowMilliseconds: 100, now: 0)
    for number in 0..<50 { coalescer.remember(Bytes("k\(number)"), lease(issuedAt: 0), at: 0) }
    #expect(coalescer.knownCount == 50)
    _ = coalescer.hit("other", at: 150)
    #expect(coalescer.knownCount == 50)
    _ = coalescer.hit("other2", at: 260)
    #expect(coalescer.knownCount == 0)
  }

  @Test func newsOfAnOlderRevisionDoesNotBringALostEntryBack() {
    var coalescer = HitCoalescer(windowMilliseconds: 100, now: 0)
    coalescer.forget("k", revision: 11, at: 5)
    coalescer.remember("k", lease(revision: 10, issuedAt: 4), at: 6)
    #expect(coalescer.hit("k", at: 7) == .renew(nil))
    coalescer.finish("k")
    coalescer.remember("k", lease(revision: 12, issuedAt: 8), at: 9)
    #expect(coalescer.hit("k", at: 10) == .coalesced)
    coalescer.forget("k", revision: 11, at: 11)
    #expect(coalescer.hit("k", at: 12) == .coalesced, "and older news of a loss does not remove a newer life")
  }

  /// G1 and G9 over random hit sequences: the lease never ends before the last accepted hit plus the TTL, and writes per
  /// TTL stay within ⌈TTL/w⌉ + 1 whatever the hit rate.
  @Test(arguments: 0..<60) func leasesOutliveHitsAndWritesAreBounded(seed: Int) throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let ttl = Int64.random(in: 1_000...20_000, using: &random)
    let window = Int64.random(in: 0...ttl / 2, using: &random)
    let policy = try CachePolicy(
      name: "c", settings: [(key: "ttl", value: "\(ttl)ms"), (key: "window", value: "\(window)ms")])
    let terms = policy.terms(for: "k")
    #expect(terms.jitterMilliseconds >= 0 && terms.jitterMilliseconds <= ttl / 4)
    var coalescer = HitCoalescer(windowMilliseconds: window, now: 0)
    var now: Int64 = 0
    var leaseEnd: Int64 = 0
    var writes: [Int64] = []
    for step in 0..<2_000 {
      now += Int64.random(in: 0...max(1, window / 3), using: &random)
      switch coalescer.hit("k", at: now) {
      case .coalesced: break
      case .join: Issue.record("nothing is in flight at step \(step)")
      case .renew:
        // The renewal is stamped some time after the hit, and known later still.
        let issuedAt = now
        now += Int64.random(in: 0...3, using: &random)
        leaseEnd = now + terms.grantedMilliseconds
        writes.append(now)
        now += Int64.random(in: 0...3, using: &random)
        coalescer.remember(
          "k", lease(revision: Int64(step), issuedAt: issuedAt, window: terms.windowMilliseconds), at: now)
        coalescer.finish("k")
        continue
      }
      #expect(leaseEnd >= now + ttl)
    }
    let bound = Int((ttl + max(1, window) - 1) / max(1, window)) + 1
    for (index, first) in writes.enumerated() where window > 0 {
      let inOneTTL = writes[index...].prefix { $0 < first + ttl }.count
      #expect(inOneTTL <= bound)
    }
  }
}
