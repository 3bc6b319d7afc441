import AllocationCounter
import Keyspace
import Leases
import Primitives
import StateMachine

/// Where the memory of live leases goes: each part is built alone from the same data, and what it leaves on the heap is
/// its share (as the allocator rounds it, with its bookkeeping).
func printMemory(leases count: Int) {
  let keys = heapBytes { (0..<count).map(Workload.key) } - heapBytes { [Bytes](repeating: Bytes(), count: count) }
  let values =
    heapBytes { (0..<count).map { _ in Bytes(Workload.value.array.map { $0 }) } }
    - heapBytes { [Bytes](repeating: Bytes(), count: count) }
  let table = heapBytes { leaseTable(count) }
  let blocksBefore = (0..<Int(LIVE_CLASSES)).map { live_heap_blocks(Int32($0)) }
  var machine: Machine?
  let whole = heapBytes {
    machine = Machine(leases: count)
    return 0
  }
  let keyspaceBytes = heapBytes { keyspace(count) }

  print("| \(count) leases, a key of 60 and a value of 100 bytes each | bytes a lease |")
  print("|---|---|")
  let parts: [(String, Int64)] = [
    ("keys: arrays of bytes, shared by index, versions and attachments", keys), ("values: arrays of bytes", values),
    ("key index and version log", keyspaceBytes - keys - values), ("lease table, ID index, wheel", table),
    ("attachments and the rest", whole - keyspaceBytes - table), ("the state machine as a whole", whole),
  ]
  for (name, bytes) in parts {
    print("| \(name) | \(decimal(Double(bytes) / Double(count), digits: 1)) |")
  }
  print("\n| blocks of so many bytes | alive, a lease | bytes a lease |")
  print("|---|---|---|")
  var classes: [SizeClass] = []
  for (number, before) in blocksBefore.enumerated() {
    let born = live_heap_blocks(Int32(number)) - before
    classes.append(SizeClass(size: number * 16, perLease: Double(born) / Double(count)))
  }
  classes.sort { $0.bytesPerLease > $1.bytesPerLease }
  for found in classes.prefix(14) where found.bytesPerLease >= 0.5 {
    let perLease = decimal(found.perLease, digits: 3)
    print("| \(found.size) | \(perLease) | \(decimal(found.bytesPerLease, digits: 1)) |")
  }
  withExtendedLifetime(machine) {}
}

private struct SizeClass {
  /// Blocks of this many bytes, up to 15 more; the largest size stands for all larger ones too.
  var size: Int
  var perLease: Double

  var bytesPerLease: Double { perLease * Double(size) }
}

/// What `make`'s result keeps on the heap.
private func heapBytes<T>(_ make: () -> T) -> Int64 {
  let before = live_heap_bytes()
  let made = make()
  return withExtendedLifetime(made) { live_heap_bytes() - before }
}

private func leaseTable(_ count: Int) -> LeaseTable {
  var table = LeaseTable()
  for number in 0..<count {
    consume(table.grant(Workload.lease(number), ttlMilliseconds: Workload.ttlMilliseconds, at: .zero))
  }
  return table
}

/// Of the same keys and values, a put each.
private func keyspace(_ count: Int) -> Keyspace {
  var keyspace = Keyspace()
  var events: [KeyspaceEvent] = []
  for number in 0..<count {
    do {
      consume(
        try keyspace.put(
          PutRequest(Workload.key(number), Bytes(Workload.value.array.map { $0 }), lease: Workload.lease(number)),
          leaseExists: { _ in true }, events: &events))
    } catch { preconditionFailure("\(error)") }
    events.removeAll(keepingCapacity: true)
  }
  return keyspace
}
