import Engine
import Logging
import PeerProtocol
import PeerTransport
import Primitives
import Raft
import StateMachine
import Storage
import Synchronization

/// Where the other members' messages come in: hands them to the raft thread, and takes states into files.
final class PeerDoor: PeerReceiver {
  private let inbox: Mailbox<NodeEvent>
  private let applied: AppliedState
  private let store: any StateStore
  private let folder: String
  private let logger: Logger
  private let nextFile = Atomic<Int>(0)

  /// - Parameter folder: the state's directory.
  init(
    inbox: Mailbox<NodeEvent>, applied: AppliedState, store: any StateStore, folder: String, logger: Logger
  ) {
    self.inbox = inbox
    self.applied = applied
    self.store = store
    self.folder = folder
    self.logger = logger
  }

  func received(_ messages: [PeerMessage], from sender: UInt64) { inbox.post(.received(messages, from: sender)) }

  func disconnected(_ peer: UInt64) { inbox.post(.disconnected(peer)) }

  func expelled(by peer: UInt64) { inbox.post(.expelled) }

  func describe() -> [UInt8] {
    var writer = ByteWriter(reserving: 512)
    applied.withLock { writer.write($0.machine.cluster) }
    return writer.bytes
  }

  func snapshotOffered(_ offer: SnapshotOffer, from sender: UInt64) throws(SnapshotRefusal) -> any SnapshotSink {
    let message: Message
    do throws(DecodingFailure) { message = try Message(decoding: offer.mark) } catch {
      throw .unwanted("its mark cannot be understood: \(error)")
    }
    guard case .snapshot(let mark) = message.body, message.from == sender else {
      throw .unwanted("its mark names no state of the sender's")
    }
    let known = applied.withLock { $0.machine.appliedIndex }
    guard mark.last.index > known else { throw .unwanted("this member has applied entry \(known) already") }
    let number = nextFile.wrappingAdd(1, ordering: .relaxed).newValue
    let path = "\(folder)/\(StateEngine.incomingFilePrefix)\(number).snapshot"
    logger.info("receiving a state", metadata: ["index": "\(mark.last.index)", "from": "\(sender)"])
    do throws(DiskFailure) {
      return try StateSink(path: path, message, mark, store: store, inbox: inbox, logger: logger)
    } catch {
      throw .failed("\(error)")
    }
  }
}

/// A state on its way in: its bytes go to a file; when all are there, the engine makes a state of them beside the living
/// one, and the raft thread decides.
///
/// The file is a part of no state: it is removed when it has been read, and at the next start.
private final class StateSink: SnapshotSink, @unchecked Sendable {
  // Its calls come one at a time.
  private let path: String
  private let message: Message
  private let mark: SnapshotMark
  private let store: any StateStore
  private let inbox: Mailbox<NodeEvent>
  private let logger: Logger
  private let disk = POSIXDisk()
  private var file: (any DiskFile)?
  private var offset = 0

  init(
    path: String, _ message: Message, _ mark: SnapshotMark, store: any StateStore, inbox: Mailbox<NodeEvent>,
    logger: Logger
  ) throws(DiskFailure) {
    self.path = path
    self.message = message
    self.mark = mark
    self.store = store
    self.inbox = inbox
    self.logger = logger
    file = try disk.open(path, create: true)
  }

  func append(_ bytes: [UInt8]) throws(SnapshotRefusal) {
    guard let file else { throw .failed("the file is closed") }
    do throws(DiskFailure) { try file.write(bytes, at: offset) } catch { throw .failed("\(error)") }
    offset += bytes.count
  }

  func restart() throws(SnapshotRefusal) {
    file?.close()
    do throws(DiskFailure) { file = try disk.open(path, create: true) } catch { throw .failed("\(error)") }
    offset = 0
  }

  /// What the engine has prepared is durable, so the file has done its service.
  func finish() throws(SnapshotRefusal) {
    file?.close()
    file = nil
    defer { removeFile() }
    let state: ReceivedState
    do throws(StorageError) {
      let (prepared, machine) = try store.prepareReplacement(fromSnapshotAt: path)
      state = ReceivedState(message: message, mark: mark, prepared: prepared, machine: machine)
    } catch {
      throw .failed("\(error)")
    }
    guard machineMatches(state.machine) else {
      state.discard(from: store, logger)
      throw .corrupt
    }
    inbox.post(.snapshotReady(state))
  }

  private func machineMatches(_ machine: StateMachine) -> Bool {
    machine.appliedIndex == mark.last.index && machine.appliedTerm == mark.last.term
  }

  func abandon() {
    file?.close()
    file = nil
    removeFile()
  }

  private func removeFile() {
    do throws(DiskFailure) { try disk.remove(path) } catch {
      logger.warning("a received state's file stays behind until the next start: \(error)")
    }
  }
}

/// A state from another member, stored aside.
struct ReceivedState: Sendable {
  /// The leader's, which names it.
  let message: Message
  let mark: SnapshotMark
  let prepared: PreparedState
  let machine: StateMachine

  /// It is not wanted.
  func discard(from store: any StateStore, _ logger: Logger) {
    do throws(StorageError) { try store.discard(prepared) } catch {
      logger.warning("an unwanted state stays on the disk until the next start: \(error)")
    }
  }
}
