import Member
import Primitives
import Testing

/// When a leader's own disk counts as stuck. The patience is one second.
struct DiskPatienceTests {
  private var patience = DiskPatience()

  private mutating func isExhausted(durable: UInt64, last: UInt64, at milliseconds: Int64) -> Bool {
    patience.isExhausted(
      durable: durable, last: last, at: MonotonicTime(nanoseconds: milliseconds * 1_000_000),
      patienceMilliseconds: 1_000)
  }

  @Test mutating func aLogThatIsAllDurableIsNeverStuck() {
    for second in 0..<10 { #expect(!isExhausted(durable: 7, last: 7, at: Int64(second) * 1_000)) }
  }

  @Test mutating func nothingDurableForTheWholePatienceIsStuck() {
    #expect(!isExhausted(durable: 7, last: 8, at: 0))
    #expect(!isExhausted(durable: 7, last: 20, at: 999))
    #expect(isExhausted(durable: 7, last: 20, at: 1_000))
  }

  @Test mutating func aSlowDiskThatMovesIsNotStuck() {
    for step in 0..<20 {
      #expect(!isExhausted(durable: UInt64(7 + step), last: 100, at: Int64(step) * 900))
    }
  }

  @Test mutating func thePatienceBeginsWithTheFirstEntryThatWaits() {
    #expect(!isExhausted(durable: 7, last: 7, at: 0))
    #expect(!isExhausted(durable: 7, last: 8, at: 5_000))
    #expect(isExhausted(durable: 7, last: 8, at: 6_000))
  }

  @Test mutating func itIsSaidOncePerPatience() {
    #expect(!isExhausted(durable: 7, last: 8, at: 0))
    #expect(isExhausted(durable: 7, last: 8, at: 1_000))
    #expect(!isExhausted(durable: 7, last: 8, at: 1_100))
    #expect(isExhausted(durable: 7, last: 8, at: 2_000))
  }
}
