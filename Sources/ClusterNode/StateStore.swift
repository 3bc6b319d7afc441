import Engine
import StateMachine
import Storage

/// The storage engine as its thread uses it (see `StateEngine`); tests put one in its place that fails when they like.
package protocol StateStore: AnyObject, Sendable {
  func commit(_ changes: StateChanges) throws(StorageError) -> EngineCommit
  func defragment() throws(StorageError) -> EngineCommit
  /// See `StateEngine`: a state from elsewhere is made beside the living one, and takes its place or goes.
  func prepareReplacement(fromSnapshotAt path: String) throws(StorageError) -> (PreparedState, StateMachine)
  func install(_ prepared: PreparedState) throws(StorageError) -> EngineCommit
  func discard(_ prepared: PreparedState) throws(StorageError)
  var sizes: EngineSizes { get }
  func close()
}

extension StateEngine: StateStore {}

/// Opens the state in a directory; a new one is made with `genesis`.
package typealias StateStoreOpener = (_ directory: String, EngineOptions, _ genesis: StateMachine?) throws(StorageError)
  -> (
    any StateStore, StateMachine
  )

extension StorageError {
  var isOutOfSpace: Bool {
    if case .io(let failure) = self { failure.isOutOfSpace } else { false }
  }
}
