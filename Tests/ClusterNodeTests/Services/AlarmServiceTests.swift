import ClusterNode
import EtcdAPI
import Primitives
import StateMachine
import Storage
import Testing

@Suite("Alarms, defragmentation and the bytes of a snapshot")
struct AlarmServiceTests {
  let client = Client()

  func alarm(
    _ action: EtcdAlarmRequest.AlarmAction, _ member: UInt64 = 0, _ kind: EtcdAlarmType = .none
  ) throws -> [String] {
    let answer: EtcdAlarmResponse = try client.unary(
      "/etcdserverpb.Maintenance/Alarm",
      EtcdAlarmRequest.with {
        $0.action = action
        $0.memberID = member
        $0.alarm = kind
      })
    #expect(answer.header.clusterID == 42)
    return answer.alarms.map { "\($0.memberID) \($0.alarm)" }
  }

  @Test("Raised twice and disarmed twice, as etcd answers")
  func life() throws {
    #expect(try alarm(.get) == [])
    #expect(try alarm(.activate, 7, .nospace) == ["7 nospace"])
    #expect(try alarm(.activate, 7, .nospace) == ["7 nospace"])
    #expect(try alarm(.activate, 8, .corrupt) == ["8 corrupt"])
    #expect(try alarm(.get) == ["7 nospace", "8 corrupt"])
    #expect(try alarm(.get, 0, .corrupt) == ["8 corrupt"])
    #expect(try alarm(.deactivate, 9, .nospace) == [])
    #expect(try alarm(.deactivate, 8, .corrupt) == ["8 corrupt"])
    #expect(try alarm(.deactivate, 8, .corrupt) == [])
    #expect(try alarm(.activate, 8, .none) == [])
    #expect(try alarm(.get) == ["7 nospace"])
  }

  @Test("While there is no space puts are refused with etcd's error, and the status says why")
  func noSpace() throws {
    try client.put("a", "1")
    _ = try alarm(.activate, 7, .nospace)
    #expect(throws: EtcdErrors.noSpace) { try client.put("a", "2") }
    #expect(throws: EtcdErrors.noSpace) { try client.grant(ttl: 60) }
    _ = try client.deleteRange { $0.key = bytes("a") }
    let status: EtcdStatusResponse = try client.unary("/etcdserverpb.Maintenance/Status", EtcdStatusRequest())
    #expect(status.errors == ["memberID:7 alarm:NOSPACE "])
    client.node.change { $0.outage = .noSpace }
    #expect(throws: EtcdErrors.noSpace) { try client.put("a", "2") }
  }

  @Test("Defragment waits for its end and tells of a failure")
  func defragment() throws {
    let path = "/etcdserverpb.Maintenance/Defragment"
    #expect(try client.unary(path, EtcdDefragmentRequest()) == EtcdDefragmentResponse())
    client.node.change { $0.defragmentationFailure = .io(DiskFailure(operation: "write", path: "state", code: 28)) }
    let failed = try client.send(path, EtcdDefragmentRequest().wireBuffer)
    #expect(failed.status?.message.contains("No space left on device") == true)
  }

  @Test("A snapshot is padded to a block and ends with the SHA-256 of all before it", arguments: [0, 1, 1_000])
  func snapshotBody(keys: Int) throws {
    for number in 0..<keys { try client.put("k\(number)", "v\(number)") }
    let machine = client.node.machine
    for pieceBytes in [7, 32 * 1024, 1 << 20] {
      var body = SnapshotBody(machine)
      var bytes: [UInt8] = []
      while let piece = body.next(maxBytes: pieceBytes) {
        #expect(piece.count <= pieceBytes && !piece.isEmpty)
        bytes += piece
      }
      #expect(body.isDone && bytes.count % 512 == 32)
      #expect(Array(bytes.suffix(32)) == SHA256.digest(of: Array(bytes.dropLast(32))))
      var encoded = machine.encoded()
      encoded += [UInt8](repeating: 0, count: bytes.count - 32 - encoded.count)
      #expect(encoded == Array(bytes.dropLast(32)))
    }
  }
}
