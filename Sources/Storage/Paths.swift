#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Paths as text.
package enum Paths {
  /// The folder that the path's last name stands in: what has to be synced when that name changes.
  package static func parent(of path: String) -> String {
    let name = withoutTrailingSlashes(path)
    guard let slash = name.lastIndex(of: "/") else { return "." }
    return slash == name.startIndex ? "/" : String(name[..<slash])
  }

  package static func withoutTrailingSlashes(_ path: String) -> String {
    var name = Substring(path)
    while name.count > 1, name.hasSuffix("/") { name.removeLast() }
    return String(name)
  }

  /// Whether anything has this name, also a link that leads nowhere.
  package static func exists(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }
}
