import EtcdAPI
import Foundation

// Short words for the messages that tests send.

func bytes(_ text: String) -> Data { Data(text.utf8) }

func text(_ data: Data) -> String { String(decoding: data, as: UTF8.self) }

func put(_ key: String, _ value: String = "") -> EtcdRequestOp {
  .with {
    $0.requestPut.key = bytes(key)
    $0.requestPut.value = bytes(value)
  }
}

func get(_ key: String, to end: String = "") -> EtcdRequestOp {
  .with {
    $0.requestRange.key = bytes(key)
    $0.requestRange.rangeEnd = bytes(end)
  }
}

func delete(_ key: String, to end: String = "") -> EtcdRequestOp {
  .with {
    $0.requestDeleteRange.key = bytes(key)
    $0.requestDeleteRange.rangeEnd = bytes(end)
  }
}

func transaction(_ success: [EtcdRequestOp], else failure: [EtcdRequestOp] = []) -> EtcdRequestOp {
  .with {
    $0.requestTxn.success = success
    $0.requestTxn.failure = failure
  }
}

func version(_ key: String, _ result: EtcdCompare.CompareResult, _ version: Int64) -> EtcdCompare {
  .with {
    $0.key = bytes(key)
    $0.result = result
    $0.target = .version
    $0.version = version
  }
}
