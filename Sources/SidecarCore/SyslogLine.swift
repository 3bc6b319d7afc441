/// A syslog datagram as nginx, HAProxy and logger(1) write it: `<PRI>Mmm dd hh:mm:ss [HOST ]TAG: MESSAGE` (RFC 3164).
package enum SyslogLine {
  /// The message. A datagram without `<PRI>` is taken as the bare message; nil when a header begins and does not end.
  package static func message(of datagram: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
    var rest = datagram
    while let last = rest.last, last == UInt8(ascii: "\n") || last == UInt8(ascii: "\r") || last == 0 {
      rest = rest.dropLast()
    }
    guard rest.first == UInt8(ascii: "<") else { return rest.isEmpty ? nil : rest }
    guard let close = rest.prefix(5).firstIndex(of: UInt8(ascii: ">")) else { return nil }
    // The time has a colon, but none with a space behind it.
    var index = close + 1
    while index + 1 < rest.endIndex {
      if rest[index] == UInt8(ascii: ":"), rest[index + 1] == UInt8(ascii: " ") { return rest[(index + 2)...] }
      index += 1
    }
    return nil
  }
}
