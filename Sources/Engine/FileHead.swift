import Primitives

/// The two head pages of an LMDB file, which LMDB itself believes without much of a check. Looked at before the file is
/// mapped, because a wrong page size or root would lead it astray, and a head of another time to an older state.
///
///     page 0, page 1:  page number u64 · 2 bytes · flags u16 · 4 bytes ·
///       magic u32 · version u32 · address u64 · map size u64 · 2 × database (free list, main) · last page u64 ·
///       transaction u64
///     database:        page size (of the first one) u32 · flags u16 · depth u16 · 3 × page counts u64 · entries u64 ·
///                      root u64, all ones for none
///
/// In the machine's byte order. Transactions write the two by turns.
struct FileHead: Hashable {
  var pageBytes: Int
  var lastPage: UInt64
  var transaction: UInt64

  /// Enough for two pages of any size.
  static let prefixBytes = 2 * maxPageBytes
  private static let maxPageBytes = 65_536
  private static let magic: UInt32 = 0xbeef_c0de
  private static let dataVersion: UInt32 = 1
  private static let headFlag: UInt16 = 0x08
  private static let noRoot = UInt64.max
  private static let maxDepth: UInt16 = 32
  private static let pageHeaderBytes = 16
  private static let headBytes = 24 + 2 * 48 + 16

  /// - Parameter prefix: the file's start, `prefixBytes` of it or the whole file.
  init(prefix: [UInt8], fileBytes: Int) throws(DecodingFailure) {
    let first = try Self.page(0, at: 0, of: prefix)
    guard first.pageBytes.nonzeroBitCount == 1, (512...Self.maxPageBytes).contains(first.pageBytes) else {
      throw .malformed(offset: 40, "a page size of \(first.pageBytes)")
    }
    let second = try Self.page(1, at: first.pageBytes, of: prefix)
    guard second.pageBytes == first.pageBytes else {
      throw .malformed(offset: first.pageBytes + 40, "head pages that disagree on the page size")
    }
    let isPair =
      first.transaction & 1 == 0
      && (second.transaction == first.transaction &+ 1 || second.transaction &+ 1 == first.transaction
        || (first.transaction == 0 && second.transaction == 0))
    guard isPair else {
      throw .malformed(
        offset: 0, "head pages of transactions \(first.transaction) and \(second.transaction), which do not follow")
    }
    self = second.transaction > first.transaction ? second : first
    guard lastPage < UInt64(fileBytes / pageBytes) else {
      throw .malformed(
        offset: fileBytes, "\(fileBytes) bytes where the head promises \(lastPage + 1) pages of \(pageBytes)")
    }
  }

  private init(pageBytes: Int, lastPage: UInt64, transaction: UInt64) {
    self.pageBytes = pageBytes
    self.lastPage = lastPage
    self.transaction = transaction
  }

  private static func page(_ number: UInt64, at offset: Int, of bytes: [UInt8]) throws(DecodingFailure) -> FileHead {
    guard offset + pageHeaderBytes + headBytes <= bytes.count else { throw .truncated(offset: bytes.count) }
    func load<T: BitwiseCopyable>(_ type: T.Type, _ place: Int) -> T {
      bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset + place, as: T.self) }
    }
    guard load(UInt64.self, 0) == number, load(UInt16.self, 10) & headFlag != 0 else {
      throw .malformed(offset: offset, "no head page")
    }
    guard load(UInt32.self, 16) == magic else { throw .malformed(offset: offset + 16, "no LMDB file") }
    let version = load(UInt32.self, 20)
    guard version == dataVersion else { throw .malformed(offset: offset + 20, "LMDB format \(version)") }
    let head = FileHead(
      pageBytes: Int(load(UInt32.self, 40)), lastPage: load(UInt64.self, 136), transaction: load(UInt64.self, 144))
    for database in [40, 88] {
      let root = load(UInt64.self, database + 40)
      let depth = load(UInt16.self, database + 6)
      let isEmpty = root == noRoot && depth == 0
      guard isEmpty || (root > 1 && root <= head.lastPage && (1...maxDepth).contains(depth)) else {
        throw .malformed(offset: offset + database, "a root page \(root) that cannot be")
      }
    }
    return head
  }
}
