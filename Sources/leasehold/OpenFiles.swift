#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What the system grants this process.
enum OpenFiles {
  /// Descriptors that are not for clients: log, state, peers. As many as etcd keeps back.
  private static let reserved = 150

  /// Connections of clients that leave the node itself enough descriptors; half of them where there are few.
  static var connectionLimit: Int {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .max }
    let all = Int(clamping: limit.rlim_cur)
    return max(all - reserved, all / 2)
  }
}
