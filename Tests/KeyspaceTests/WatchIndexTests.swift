import Keyspace
import Primitives
import Testing

@Suite("The watch index finds the watchers of a key")
struct WatchIndexTests {
  @Test("By key, by range, by prefix, from a key on")
  func kinds() {
    var index = WatchIndex()
    index.register(1, .single("job/1"))
    index.register(2, .prefix("job/"))
    index.register(3, .halfOpen(start: "a", end: "k"))
    index.register(4, .from("k"))
    index.register(5, .from(""))
    index.register(6, .halfOpen(start: "k", end: "a"))
    index.register(7, .prefix("job/"))
    func matches(_ key: Bytes) -> [UInt64] { index.matches(key).sorted() }
    #expect(matches("job/1") == [1, 2, 3, 5, 7])
    #expect(matches("job/10") == [2, 3, 5, 7])
    #expect(matches("job") == [3, 5])
    #expect(matches("k") == [4, 5])
    #expect(matches("") == [5])
    #expect(index.count == 7)
    #expect(index.range(of: 2) == .prefix("job/"))
  }

  @Test("A watcher that has left is told nothing, its neighbours of the same range are")
  func leaving() {
    var index = WatchIndex()
    for watcher in 1...3 as ClosedRange<UInt64> { index.register(watcher, .prefix("p")) }
    index.register(4, .single("p"))
    index.register(5, .halfOpen(start: "z", end: "a"))
    let (first, second) = (index.unregister(2), index.unregister(2))
    #expect(first)
    #expect(!second)
    #expect(index.matches("p").sorted() == [1, 3, 4])
    for watcher in [1, 3, 4, 5] as [UInt64] { index.unregister(watcher) }
    #expect(index.matches("p").isEmpty)
    #expect(index.isEmpty)
    index.register(2, .single("p"))
    #expect(index.matches("p") == [2])
  }

  @Test("Thousands of ranges coming and going match as a plain list does", arguments: 1...4)
  func agreesWithList(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var index = WatchIndex()
    var list: [UInt64: KeyRange] = [:]
    func number(_ range: Range<Int>) -> Int { .random(in: range, using: &generator) }
    func key() -> Bytes { Bytes("\(number(0..<1_000))/\(number(0..<10))") }
    for watcher in 0..<3_000 as Range<UInt64> {
      let range: KeyRange =
        switch number(0..<5) {
        case 0: .single(key())
        case 1: .from(key())
        case 2: .halfOpen(start: key(), end: key())
        default: .prefix(Bytes("\(number(0..<1_000))"))
        }
      index.register(watcher, range)
      list[watcher] = range
      if number(0..<3) == 0 {
        let leaver = UInt64(number(0..<Int(watcher) + 1))
        let wasThere = index.unregister(leaver)
        #expect(wasThere == (list.removeValue(forKey: leaver) != nil))
      }
      if watcher % 30 == 0 {
        let key = key()
        let wanted = list.filter { $0.value.contains(key) }.map(\.key)
        #expect(index.matches(key).sorted() == wanted.sorted())
      }
    }
    #expect(index.count == list.count)
  }
}
