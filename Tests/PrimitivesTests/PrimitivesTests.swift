import Primitives
import Testing

/// The order of keys, as etcd has it.
@Suite struct BytesTests {
  @Test func orderIsUnsignedLexicographicAndAPrefixComesFirst() {
    let sorted: [Bytes] = [[], [0], [0, 0], [0, 1], [1], [0x7f], [0x80], [0x80, 0], [0xff], [0xff, 0xff]]
    #expect(sorted.shuffled().sorted() == sorted)
    #expect(Bytes("ab").compare("abc") < 0)
    #expect(Bytes("b").compare("abc") > 0)
    #expect(Bytes("abc").compare("abc") == 0)
  }

  @Test func theEndOfAPrefixIsTheFirstKeyBehindIt() {
    #expect(Bytes("ab").prefixEnd == "ac")
    #expect(Bytes([0x61, 0xff]).prefixEnd == [0x62])
    #expect(Bytes([0xff, 0xff]).prefixEnd == nil)
    #expect(Bytes().prefixEnd == nil)
    #expect(Bytes("ab").successor == [0x61, 0x62, 0])
  }

  @Test func whatIsNotPrintableIsEscaped() {
    #expect(Bytes([0x61, 0, 0xff, 0x5c]).description == "a\\x00\\xff\\x5c")
    #expect(Bytes([0xff]).text == nil)
    #expect(Bytes("ü").text == "ü")
  }
}

/// Every format of the project is written and read by these two.
@Suite struct ByteCodingTests {
  @Test func everyKindOfFieldComesBackAsItWas() throws {
    var writer = ByteWriter()
    let unsigned: [UInt64] = [0, 1, 127, 128, 16_383, 16_384, .max]
    let signed: [Int64] = [0, -1, 1, -64, 64, .min, .max]
    for value in unsigned { writer.writeVarint(value) }
    for value in signed { writer.writeSigned(value) }
    writer.writeFixed(0x0102_0304 as UInt32)
    writer.writeBytes("bytes")
    writer.writeText("tëxt")
    writer.writeBool(true)
    var reader = ByteReader(writer.bytes)
    for value in unsigned { #expect(try reader.readVarint() == value) }
    for value in signed { #expect(try reader.readSigned() == value) }
    #expect(try reader.readFixed(UInt32.self) == 0x0102_0304)
    #expect(try reader.readBytes() == "bytes")
    #expect(try reader.readText() == "tëxt")
    #expect(try reader.readBool())
    try reader.finish()
  }

  @Test func damageIsNamedWithItsPlace() {
    func failure(_ bytes: [UInt8], _ read: (inout ByteReader) throws -> Void) -> DecodingFailure? {
      var reader = ByteReader(bytes)
      do {
        try read(&reader)
        return nil
      } catch {
        return error as? DecodingFailure
      }
    }
    #expect(failure([0x80]) { _ = try $0.readVarint() } == .truncated(offset: 1))
    #expect(
      failure(Array(repeating: 0xff, count: 10)) { _ = try $0.readVarint() }
        == .malformed(offset: 0, "a variable integer over 64 bits"))
    #expect(failure([2]) { _ = try $0.readBool() } == .malformed(offset: 0, "a boolean that is neither 0 nor 1"))
    #expect(failure([5, 1]) { _ = try $0.readBytes() } != nil)
    #expect(failure([2, 0xc3, 0x28]) { _ = try $0.readText() } == .malformed(offset: 0, "text that is not UTF-8"))
    #expect(
      failure([1, 2]) {
        _ = try $0.readByte(); try $0.finish()
      } == .trailingBytes(offset: 1))
  }

  @Test func aForgedCountReservesNothing() {
    var writer = ByteWriter()
    writer.writeVarint(.max)
    var reader = ByteReader(writer.bytes)
    #expect(throws: DecodingFailure.self) { _ = try reader.readCount() }
  }

  @Test func noInputCrashesTheReader() {
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<20_000 {
      var reader = ByteReader(
        (0..<Int.random(in: 0..<24, using: &generator)).map { _ in .random(in: 0...255, using: &generator) })
      do {
        while !reader.isAtEnd {
          switch Int.random(in: 0..<6, using: &generator) {
          case 0: _ = try reader.readVarint()
          case 1: _ = try reader.readSigned()
          case 2: _ = try reader.readBytes()
          case 3: _ = try reader.readText()
          case 4: _ = try reader.readFixed(UInt64.self)
          default: _ = try reader.readCount(minimumSize: 3)
          }
        }
      } catch {
        #expect(reader.offset <= reader.bytes.count)
      }
    }
  }
}

@Suite struct ChecksumTests {
  @Test func theKnownValuesOfTheStandardComeOut() {
    // RFC 3720, B.4, and the check value of the polynomial's catalogue entry.
    #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xe306_9283)
    #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(CRC32C.checksum([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
    #expect(CRC32C.checksum(Array(0..<32 as Range<UInt8>)) == 0x46dd_794e)
  }

  @Test func pieceAfterPieceIsTheSameAsAtOnce() {
    let bytes = (0..<1_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    for cut in [0, 1, 7, 8, 9, 500, 999, 1_000] {
      #expect(CRC32C.checksum(bytes[cut...], seed: CRC32C.checksum(bytes[..<cut])) == CRC32C.checksum(bytes))
    }
  }
}

@Suite struct DurationTextTests {
  @Test(
    arguments: [
      ("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("7d", 604_800_000), ("1h30m", 5_400_000),
      ("0s", 0),
    ] as [(String, Int64)])
  func whatPeopleWriteIsUnderstoodAndWrittenBack(text: String, milliseconds: Int64) {
    #expect(DurationText.milliseconds(text) == milliseconds)
    #expect(DurationText.text(milliseconds: milliseconds) == text)
  }

  @Test(arguments: ["", "7", "d", "-1s", "1w", "1.5h", "1 h", "99999999999999999999s", "9223372036854775807d", "٣s"])
  func whatIsNoDurationIsRefused(text: String) {
    #expect(DurationText.milliseconds(text) == nil)
  }
}

@Suite struct SHA256Tests {
  /// FIPS 180-4's examples and the empty message.
  @Test(
    arguments: [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
    ])
  func knownDigests(text: String, digest: String) {
    #expect(hex(SHA256.digest(of: Array(text.utf8))) == digest)
  }

  @Test func anyCutIntoPiecesGivesTheSameDigest() {
    let message = (0..<1_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
    let whole = SHA256.digest(of: message)
    for pieceBytes in [1, 3, 55, 56, 63, 64, 65, 128, 999] {
      var hash = SHA256()
      for start in stride(from: 0, to: message.count, by: pieceBytes) {
        hash.update(message[start..<min(start + pieceBytes, message.count)])
      }
      #expect(hash.finish() == whole)
    }
    #expect(
      hex(SHA256.digest(of: [UInt8](repeating: 0x61, count: 1_000_000)))
        == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  private func hex(_ bytes: [UInt8]) -> String {
    bytes.map { (($0 < 16 ? "0" : "") + String($0, radix: 16)) }.joined()
  }
}
