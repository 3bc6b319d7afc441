import Member
import NIOCore
import StateMachine

package typealias ProposalResult = Member.ProposalResult

/// Who waits for a proposal and where it wants to be told.
struct Waiter: Sendable {
  var eventLoop: (any EventLoop)?
  var completion: @Sendable (ProposalResult) -> Void
}

/// Collects the answers of one applied batch and hands them over with one hop per event loop.
struct Completions {
  private var loops: [(loop: any EventLoop, answers: [Answer])] = []

  private struct Answer: Sendable {
    var completion: @Sendable (ProposalResult) -> Void
    var result: ProposalResult
  }

  mutating func add(_ waiter: Waiter, _ result: ProposalResult) {
    guard let loop = waiter.eventLoop else {
      waiter.completion(result)
      return
    }
    let answer = Answer(completion: waiter.completion, result: result)
    if let known = loops.firstIndex(where: { $0.loop === loop }) {
      loops[known].answers.append(answer)
    } else {
      loops.append((loop, [answer]))
    }
  }

  mutating func deliver() {
    for (loop, answers) in loops {
      loop.execute {
        for answer in answers { answer.completion(answer.result) }
      }
    }
    loops.removeAll(keepingCapacity: true)
  }
}
