import Engine
import StateMachine
import Storage

/// The storage engine as its thread uses it (see `StateEngine`); tests put one in its place that fails when they like.
package protocol StateStore: AnyObject, Sendable {
  func commit(_ changes: StateChanges) throws(StorageError) -> EngineCommit
  func defragment() throws(StorageError) -> EngineCommit
  var sizes: EngineSizes { get }
  func close()
}

extension StateEngine: StateStore {}

/// Opens the state in a directory.
package typealias StateStoreOpener = (_ directory: String, EngineOptions) throws(StorageError) -> (
  any StateStore, StateMachine
)

extension StorageError {
  var isOutOfSpace: Bool {
    if case .io(let failure) = self { failure.isOutOfSpace } else { false }
  }
}
