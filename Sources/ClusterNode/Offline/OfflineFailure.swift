import Storage

/// Why an offline command did not do its work: one line for the operator.
package struct OfflineFailure: Error, Hashable, Sendable, CustomStringConvertible {
  package let description: String

  package init(_ description: String) { self.description = description }

  /// Passes on what the disk or the store said.
  static func wrap<R, E: Error>(_ body: () throws(E) -> R) throws(OfflineFailure) -> R {
    do throws(E) { return try body() } catch { throw OfflineFailure("\(error)") }
  }
}
