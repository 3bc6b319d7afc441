import EtcdAPI
import Foundation
import Keyspace
import Primitives

// Between etcd's generated messages and the keyspace's results, where no profile asks for more (`Protobuf` has the rest).
// One copy per key and value.

extension Bytes {
  init(_ data: Data) {
    self.init(
      [UInt8](unsafeUninitializedCapacity: data.count) { buffer, initialized in
        initialized = data.copyBytes(to: buffer)
      })
  }

  var data: Data { array.withUnsafeBytes { Data($0) } }
}

extension EtcdKeyValue {
  init(_ record: KeyRecord) {
    self.init()
    key = record.key.data
    value = record.value.data
    createRevision = record.createRevision
    modRevision = record.modRevision
    version = record.version
    lease = record.lease
  }
}

extension EtcdEvent {
  init(_ event: KeyspaceEvent, wantsPrevious: Bool) {
    self.init()
    type =
      switch event.kind {
      case .put: .put
      case .delete: .delete
      }
    kv = EtcdKeyValue(event.record)
    if wantsPrevious, let previous = event.previous { prevKv = EtcdKeyValue(previous) }
  }
}
