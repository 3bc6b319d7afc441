import Glibc

/// The committed allocations of each hot path: a line each, "COUNT NAME", counts an operation with two decimals.
struct AllocationTable {
  private var expected: [(name: String, count: Double)] = []

  /// What a run may differ by: tables grow at slightly other moments with other versions of the standard library.
  private static let tolerance = 0.03

  init(_ costs: [(name: String, cost: Cost)]) {
    expected = costs.map { ($0.name, $0.cost.allocations) }
  }

  init(readingFrom path: String) {
    guard let file = fopen(path, "r") else { refuse("\(path) cannot be read") }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 1_024)
    while fgets(&buffer, Int32(buffer.count), file) != nil {
      let line = String(decoding: buffer.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      let words = line.split(separator: " ", maxSplits: 1)
      guard words.count == 2, let count = Double(words[0]) else { refuse("\(path): \(line)") }
      expected.append((String(words[1]), count))
    }
  }

  func write(to path: String) {
    guard let file = fopen(path, "w") else { refuse("\(path) cannot be written") }
    defer { fclose(file) }
    for (name, count) in expected { fputs("\(decimal(count, digits: 2)) \(name)\n", file) }
  }

  /// One line for each path that allocates more or less than the table says, or stands in only one of the two.
  func complaints(about costs: [(name: String, cost: Cost)], complete: Bool) -> [String] {
    var lines: [String] = []
    for (name, cost) in costs {
      guard let (_, count) = expected.first(where: { $0.name == name }) else {
        lines.append("\(name): not in the table")
        continue
      }
      if abs(cost.allocations - count) > Self.tolerance + count * Self.tolerance {
        lines.append(
          "\(name): \(decimal(cost.allocations, digits: 2)) allocations, \(decimal(count, digits: 2)) expected")
      }
    }
    if complete {
      for (name, _) in expected where !costs.contains(where: { $0.name == name }) {
        lines.append("\(name): in the table, but not measured")
      }
    }
    return lines
  }
}
