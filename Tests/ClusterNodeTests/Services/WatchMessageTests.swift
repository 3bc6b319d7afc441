import ClusterNode
import EtcdAPI
import Foundation
import Keyspace
import NIOCore
import Primitives
import Testing
import Wire

/// The hand-written encoding of events against the generated messages: what the service sends must be, byte for byte,
/// what they make of the same response.
@Suite("Watch responses are encoded as the generated messages encode them")
struct WatchMessageTests {
  private static let numbers: [Int64] = [0, 1, 127, 128, 300, 16_383, 16_384, 1 << 35, .max, -1, .min]

  private struct Sample {
    var generator: SeededGenerator

    mutating func number() -> Int64 { numbers.randomElement(using: &generator)! }

    mutating func bytes() -> Bytes {
      let count = [0, 1, 5, 127, 128, 1_000, 20_000].randomElement(using: &generator)!
      return Bytes((0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }

    mutating func record() -> KeyRecord {
      KeyRecord(
        key: bytes(), value: bytes(), createRevision: number(), modRevision: number(), version: number(),
        lease: number())
    }

    mutating func event() -> KeyspaceEvent {
      let kinds: [KeyspaceEvent.Kind] = [.put, .delete(.deleted), .delete(.leaseExpired), .delete(.leaseRevoked)]
      return KeyspaceEvent(
        kind: kinds.randomElement(using: &generator)!, record: record(),
        previous: Bool.random(using: &generator) ? record() : nil)
    }
  }

  private func expected(
    _ events: [KeyspaceEvent], watch: Int64, revision: Int64, previous: Bool, cause: Bool
  ) -> EtcdWatchResponse {
    func keyValue(_ record: KeyRecord) -> EtcdKeyValue {
      .with {
        $0.key = Data(record.key.array)
        $0.value = Data(record.value.array)
        $0.createRevision = record.createRevision
        $0.modRevision = record.modRevision
        $0.version = record.version
        $0.lease = record.lease
      }
    }
    return .with {
      $0.header.clusterID = 42
      $0.header.memberID = 7
      $0.header.raftTerm = 3
      $0.header.revision = revision
      $0.watchID = watch
      $0.events = events.map { event in
        .with {
          $0.kv = keyValue(event.record)
          if previous, let before = event.previous { $0.prevKv = keyValue(before) }
          guard case .delete(let why) = event.kind else { return }
          $0.type = .delete
          guard cause else { return }
          switch why {
          case .deleted: $0.deletionCause = .deleted
          case .leaseExpired: $0.deletionCause = .expired
          case .leaseRevoked: $0.deletionCause = .revoked
          }
        }
      }
    }
  }

  @Test("Random events, with and without previous values and causes", arguments: 1...40)
  func agrees(seed: UInt64) throws {
    var sample = Sample(generator: SeededGenerator(seed: seed))
    let (previous, cause) = (seed & 1 == 0, seed & 2 == 0)
    let client = Client()
    let (call, handler) = try client.open(
      "/etcdserverpb.Watch/Watch", headers: cause ? ["leasehold-deletion-cause": "1"] : [:])
    let watch = [Int64(0), 1, 300, .max].randomElement(using: &sample.generator)!
    handler.receive(
      EtcdWatchRequest.with {
        $0.createRequest.key = bytes("a")
        $0.createRequest.watchID = watch
        $0.createRequest.prevKv = previous
      }.wireBuffer)
    _ = try call.take(EtcdWatchResponse.self)
    let events = (0..<Int.random(in: 1...8, using: &sample.generator)).map { _ in sample.event() }
    let revision = sample.number()
    client.node.sessions[0].sink.events(watch: watch, events, revision: revision)
    let wanted = expected(events, watch: watch, revision: revision, previous: previous, cause: cause)
    #expect(call.sent.map { Array($0.readableBytesView) } == [Array(wanted.wireBuffer.readableBytesView)])
  }

  @Test("Fragments hold every event once, in order, and are smaller than the limit", arguments: 1...10)
  func fragments(seed: UInt64) throws {
    var sample = Sample(generator: SeededGenerator(seed: seed))
    var settings = EtcdSettings()
    settings.maxRequestBytes = 60_000
    let client = Client(settings)
    let (call, handler) = try client.open("/etcdserverpb.Watch/Watch")
    handler.receive(
      EtcdWatchRequest.with {
        $0.createRequest.key = bytes("a")
        $0.createRequest.fragment = true
      }.wireBuffer)
    _ = try call.take(EtcdWatchResponse.self)
    let events = (0..<300).map { _ in sample.event() }
    client.node.sessions[0].sink.events(watch: 0, events, revision: 8)
    #expect(call.sent.allSatisfy { $0.readableBytes <= 60_000 + Limits.grpcOverheadBytes })
    let parts = try call.take(EtcdWatchResponse.self)
    #expect(parts.count > 1 && parts.dropLast().allSatisfy(\.fragment) && !parts.last!.fragment)
    let wanted = expected(events, watch: 0, revision: 8, previous: false, cause: false)
    #expect(parts.flatMap(\.events) == wanted.events)
    #expect(parts.allSatisfy { $0.header == wanted.header && $0.watchID == 0 })
  }

  @Test("Watches that share events are each told under their own ID and in their own form")
  func shared() throws {
    var sample = Sample(generator: SeededGenerator(seed: 5))
    let client = Client()
    let (call, handler) = try client.open("/etcdserverpb.Watch/Watch")
    for previous in [false, true, false, true] {
      handler.receive(
        EtcdWatchRequest.with {
          $0.createRequest.key = bytes("a")
          $0.createRequest.prevKv = previous
        }.wireBuffer)
    }
    _ = try call.take(EtcdWatchResponse.self)
    let events = (0..<4).map { _ in sample.event() }
    let told = WatchedEvents(events, revision: 8)
    for watch: Int64 in 0..<4 { client.node.sessions[0].sink.tell(watch: watch, told) }
    let answers = try call.take(EtcdWatchResponse.self)
    let wanted = (0..<4).map {
      expected(events, watch: $0, revision: 8, previous: $0 % 2 == 1, cause: false)
    }
    #expect(answers == wanted)
  }
}
