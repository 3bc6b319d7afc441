import Primitives

/// The access log of bazel-remote. HTTP requests: `DATE TIME METHOD STATUS ADDRESS PATH`, columns padded. gRPC:
/// `DATE TIME GRPC CAS|AC HEAD|GET|PUT HASH OK` and `DATE TIME GRPC BYTESTREAM READ|WRITE COMPLETED RESOURCE`, which
/// become `/cas/HASH` and `/ac/HASH`, as the same blobs are called over HTTP.
enum BazelRemoteLog {
  static func parse(_ line: ArraySlice<UInt8>) -> AccessLogLine? {
    let words = line.split(separator: UInt8(ascii: " "))
    guard words.count >= 6 else { return nil }
    if words[2].elementsEqual("GRPC".utf8) { return parseGRPC(words[3...]) }
    guard AccessLogLine.Method.isPlausible(words[2]), let status = AccessLogPattern.decimal(words[3]),
      (100...999).contains(status), words[5].first == UInt8(ascii: "/")
    else { return nil }
    return AccessLogLine(
      method: AccessLogLine.Method(words[2]), status: Int(status),
      path: Bytes(line[words[5].startIndex...]))
  }

  private static func parseGRPC(_ words: ArraySlice<ArraySlice<UInt8>>) -> AccessLogLine? {
    let words = Array(words)
    guard words.count >= 3, AccessLogLine.Method.isPlausible(words[1]) else { return nil }
    if words[0].elementsEqual("BYTESTREAM".utf8) { return parseByteStream(words) }
    let isContent = words[0].elementsEqual("CAS".utf8)
    guard isContent || words[0].elementsEqual("AC".utf8), isHash(words[2]) else { return nil }
    let isDone = words.count == 4 && words[3].elementsEqual("OK".utf8)
    let kind: Bytes = isContent ? "/cas/" : "/ac/"
    return AccessLogLine(
      method: AccessLogLine.Method(words[1]), status: isDone ? 200 : 404, path: kind + Bytes(words[2]))
  }

  /// A resource ends in `blobs/HASH/SIZE`.
  private static func parseByteStream(_ words: [ArraySlice<UInt8>]) -> AccessLogLine? {
    let isRead = words[1].elementsEqual("READ".utf8)
    guard isRead || words[1].elementsEqual("WRITE".utf8), words.count == 4,
      words[2].starts(with: "COMPLETED".utf8)
    else { return nil }
    let segments = words[3].split(separator: UInt8(ascii: "/"))
    guard segments.count >= 3, isHash(segments[segments.count - 2]) else { return nil }
    return AccessLogLine(
      method: isRead ? .get : .put, status: 200, sizeBytes: AccessLogPattern.decimal(segments[segments.count - 1]),
      path: "/cas/" + Bytes(segments[segments.count - 2]))
  }

  private static func isHash(_ word: ArraySlice<UInt8>) -> Bool {
    (32...128).contains(word.count) && word.allSatisfy { KeyEncoding.hexValue($0) != nil }
  }
}
