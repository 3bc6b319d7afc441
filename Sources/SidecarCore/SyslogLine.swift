/// A syslog datagram as nginx, HAProxy and logger(1) write it: `<PRI>Mmm dd hh:mm:ss [HOST ]TAG: MESSAGE` (RFC 3164).
package struct SyslogLine: Hashable, Sendable {
  /// `nginx`, `haproxy`, or what `tag=` says; without `[PID]`. Empty for a datagram that is a bare message.
  package var tag: ArraySlice<UInt8>
  package var message: ArraySlice<UInt8>

  /// A datagram without `<PRI>` is taken as a bare message; nil when it is empty or a header begins and does not end.
  package init?(_ datagram: ArraySlice<UInt8>) {
    var rest = datagram
    while let last = rest.last, last == UInt8(ascii: "\n") || last == UInt8(ascii: "\r") || last == 0 {
      rest = rest.dropLast()
    }
    guard !rest.isEmpty else { return nil }
    guard rest.first == UInt8(ascii: "<") else {
      tag = []
      message = rest
      return
    }
    guard let close = rest.prefix(5).firstIndex(of: UInt8(ascii: ">")),
      let colon = Self.endOfHeader(rest[(close + 1)...])
    else { return nil }
    let header = rest[(close + 1)..<colon]
    let space = header.lastIndex(of: UInt8(ascii: " "))
    tag = header[(space.map { $0 + 1 } ?? header.startIndex)...].prefix { $0 != UInt8(ascii: "[") }
    message = rest[(colon + 2)...]
  }

  /// The first colon with a space behind it: those of the time have none.
  private static func endOfHeader(_ bytes: ArraySlice<UInt8>) -> Int? {
    var index = bytes.startIndex
    while index + 1 < bytes.endIndex {
      if bytes[index] == UInt8(ascii: ":"), bytes[index + 1] == UInt8(ascii: " ") { return index }
      index += 1
    }
    return nil
  }
}
