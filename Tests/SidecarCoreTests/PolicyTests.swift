import Primitives
import SidecarCore
import Testing

@Suite struct PolicyTests {
  private func problem(_ flag: String) -> String {
    do {
      _ = try CachePolicy(flag: flag)
      return ""
    } catch { return error.description }
  }

  @Test func defaultsFollowTheTTL() throws {
    let long = try CachePolicy(flag: "bazel")
    #expect(long.ttlMilliseconds == 7 * 86_400_000)
    #expect(long.windowMilliseconds == 3_600_000)
    #expect(long.registration == .onHit)
    let short = try CachePolicy(flag: "c:ttl=10s")
    #expect(short.windowMilliseconds == 1_250)
    #expect(short.subscribers.isEmpty)
  }

  @Test func aFlagSaysItAll() throws {
    let policy = try CachePolicy(
      flag: "bazel:ttl=7d,window=2h,jitter=0,register=explicit,subscribers=blobd-1+blobd-2")
    #expect(policy.windowMilliseconds == 7_200_000)
    #expect(policy.registration == .explicit)
    #expect(policy.subscribers == ["blobd-1", "blobd-2"])
    #expect(policy.terms(for: "x").grantedMilliseconds == 7 * 86_400_000 + 7_200_000)
    let again = try CachePolicy(name: policy.name, settings: policy.settings)
    #expect(again == policy)
  }

  @Test(arguments: ["0..25%", "25%", "25"]) func jitterIsWrittenInThreeWays(text: String) throws {
    #expect(try CachePolicy(flag: "c:jitter=\(text)").jitterPercent == 25)
  }

  @Test func jitterIsTheSameForAKeyEverywhereAndNeverShortens() throws {
    let policy = try CachePolicy(flag: "c:ttl=1h")
    var seen: Set<Int64> = []
    for number in 0..<500 {
      let key = Bytes("key-\(number)")
      let terms = policy.terms(for: key)
      #expect(terms == policy.terms(for: key))
      #expect((0...900_000).contains(terms.jitterMilliseconds))
      seen.insert(terms.jitterMilliseconds)
    }
    #expect(seen.count > 450, "a mass upload does not expire in one moment")
    #expect(seen.max()! > 800_000)
  }

  @Test func anEntrysOwnTTLBoundsItsWindow() throws {
    let policy = try CachePolicy(flag: "c:ttl=7d,window=1h,jitter=0")
    let terms = policy.terms(for: "k", ttlMilliseconds: 10_000)
    #expect(terms.windowMilliseconds == 5_000)
    #expect(terms.grantedMilliseconds == 15_000)
  }

  @Test func errorsNameTheFieldAndWhatToDo() {
    #expect(problem("c:ttl=10s,window=6s").contains("window: 6s is more than half of the ttl 10s; choose at most 5s"))
    #expect(problem("c:ttl=soon").contains("ttl: \"soon\" is no duration; write 250ms"))
    #expect(problem("c:ttl=500ms").contains("must be at least 1s"))
    #expect(problem("c:ttl=4000d").contains("must be at most 3650d"))
    #expect(problem("c:tll=7d").contains("tll: unknown setting; known are ttl, window"))
    #expect(problem("c:ttl=7d,ttl=8d").contains("given twice"))
    #expect(problem("c:jitter=101").contains("jitter"))
    #expect(problem("c:register=never").contains("write on-hit or explicit"))
    #expect(problem("c:subscribers=a+a").contains("subscribers"))
    #expect(problem("c:ttl").contains("expected key=value"))
    #expect(problem("a/b").contains("1 to 64 characters"))
    #expect(problem("..:ttl=7d").contains("name"))
    #expect(problem(String(repeating: "x", count: 65)).contains("name"))
    #expect(problem("").contains("name"))
  }
}
