/// Keeps what waits for an answer under numbers, which the pure core carries about instead. Numbers are used again, so a
/// ticket must be redeemed once.
struct TicketBox<Holder> {
  private var holders: [Holder?] = []
  private var free: [Int] = []

  mutating func keep(_ holder: Holder) -> UInt64 {
    if let slot = free.popLast() {
      holders[slot] = holder
      return UInt64(slot)
    }
    holders.append(holder)
    return UInt64(holders.count - 1)
  }

  mutating func redeem(_ ticket: UInt64) -> Holder {
    let slot = Int(ticket)
    guard let holder = holders[slot].take() else { preconditionFailure("ticket \(ticket) redeemed twice") }
    free.append(slot)
    return holder
  }

  /// All that are still kept.
  mutating func redeemAll() -> [Holder] {
    defer {
      holders = []
      free = []
    }
    return holders.compactMap { $0 }
  }
}
