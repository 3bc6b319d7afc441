import LogFormat
import Storage

/// Names and shapes that the tests of this target share.
func record(_ index: UInt64, term: UInt64 = 1, _ text: String = "x") -> LogRecord {
  LogRecord(index: index, term: term, kind: 1, payload: Array(text.utf8))
}

func records(_ range: ClosedRange<UInt64>, term: UInt64 = 1, bytes: Int = 1) -> [LogRecord] {
  range.map {
    LogRecord(index: $0, term: term, kind: 1, payload: [UInt8](repeating: UInt8($0 & 0x7f) + 1, count: bytes))
  }
}
