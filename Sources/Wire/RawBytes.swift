#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

@inline(__always)
func sameBytes(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
  guard left.count == right.count else { return false }
  guard let l = left.baseAddress, let r = right.baseAddress, !left.isEmpty else { return true }
  return memcmp(l, r, left.count) == 0
}
