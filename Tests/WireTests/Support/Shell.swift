import Foundation
import NIOPosix

/// What a command printed.
struct CommandOutput {
  var status: Int32
  var text: String
  var errors: String
}

/// Commands wait for long: not in the pool that the servers under test work with.
private let shells: NIOThreadPool = {
  let pool = NIOThreadPool(numberOfThreads: 8)
  pool.start()
  return pool
}()

/// Runs a shell command on a thread of its own and waits for its end.
func shell(_ command: String) async throws -> CommandOutput {
  try await shells.runIfActive {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", command]
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let complaints = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return CommandOutput(
      status: process.terminationStatus, text: String(decoding: text, as: UTF8.self),
      errors: String(decoding: complaints, as: UTF8.self))
  }
}

/// Polls until `condition` holds; false after ten seconds. For effects of another process only.
func eventually(_ condition: () async throws -> Bool) async rethrows -> Bool {
  for _ in 0..<1_000 {
    if try await condition() { return true }
    try? await Task.sleep(for: .milliseconds(10))
  }
  return false
}
