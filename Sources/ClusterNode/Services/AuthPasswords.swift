import EtcdAPI
import FoundationEssentials
import Primitives
import StateMachine
import Wire

// The requests with a password in them. The member that is asked hashes and compares; neither the log nor another member
// ever sees a password.

extension AuthService {
  /// A password that was checked while rights changed is checked again, this often.
  private static var maxAuthentications: Int { 8 }

  @Sendable
  func addUser(_ request: EtcdAuthUserAddRequest, _ reply: UnaryReply<EtcdAuthUserAddResponse>) {
    let name = Bytes(request.name)
    if request.hasOptions, request.options.noPassword {
      let user = AuthUser(name: name, password: StoredPassword(), isWithoutPassword: true)
      return change(.addUser(user), reply) { header in .with { $0.header = header } }
    }
    hash(request.password, reply) { password in
      change(.addUser(AuthUser(name: name, password: password)), reply) { header in .with { $0.header = header } }
    }
  }

  /// Without a new password, no password fits any more.
  @Sendable
  func changePassword(
    _ request: EtcdAuthUserChangePasswordRequest, _ reply: UnaryReply<EtcdAuthUserChangePasswordResponse>
  ) {
    let name = Bytes(request.name)
    let respond: @Sendable (EtcdResponseHeader) -> EtcdAuthUserChangePasswordResponse = { header in
      .with { $0.header = header }
    }
    if request.password.isEmpty { return change(.changePassword(user: name, StoredPassword()), reply, respond) }
    hash(request.password, reply) { change(.changePassword(user: name, $0), reply, respond) }
  }

  /// Only for somebody who may set passwords: it takes long.
  private func hash<Response>(
    _ password: String, _ reply: UnaryReply<Response>, _ then: @escaping @Sendable (StoredPassword) -> Void
  ) {
    do throws(GRPCStatus) { try context.authorize(reply.call.caller, .root) } catch { return reply.fail(error) }
    let bytes = Array(password.utf8)
    workshop.run(for: reply.call, { $0.hash(bytes) }) { hash in
      guard let hash else { return reply.fail(GRPCStatus(.internal, "leasehold: the password cannot be hashed")) }
      then(StoredPassword(hash))
    }
  }

  // MARK: Proving who one is

  @Sendable
  func authenticate(_ request: EtcdAuthenticateRequest, _ reply: UnaryReply<EtcdAuthenticateResponse>) {
    context.afterBarrier(reply.call) {
      authenticate(Bytes(request.name), Array(request.password.utf8), reply, triesLeft: Self.maxAuthentications)
    }
  }

  private func authenticate(
    _ name: Bytes, _ password: [UInt8], _ reply: UnaryReply<EtcdAuthenticateResponse>, triesLeft: Int
  ) {
    let auth = context.node.auth.state
    guard auth.isEnabled else { return reply.fail(EtcdErrors.authenticationNotEnabled) }
    let user = auth.user(name)
    if let user, user.isWithoutPassword { return reply.fail(EtcdErrors.passwordForNoPasswordUser) }
    // Somebody who is not there takes as long as somebody whose password is wrong.
    let stored = user?.password.bytes
    workshop.run(for: reply.call, { scheme in workshop.matches(password, stored, scheme) }) { matches in
      guard matches else { return reply.fail(EtcdErrors.authenticationFailed) }
      admit(AuthStamp(user: name, revision: auth.revision), reply) {
        guard triesLeft > 1 else { return reply.fail(EtcdErrors.authRevisionOld) }
        authenticate(name, password, reply, triesLeft: triesLeft - 1)
      }
    }
  }

  /// - Parameter again: called when rights have changed since the password was checked.
  private func admit(
    _ stamp: AuthStamp, _ reply: UnaryReply<EtcdAuthenticateResponse>, again: @escaping @Sendable () -> Void
  ) {
    let prefix: Bytes
    switch context.settings.auth.tokens {
    case .simple: prefix = TokenStore.randomPrefix()
    case .signed: prefix = Bytes()
    }
    let command = AuthCommand.authenticate(user: stamp.user, authRevision: stamp.revision, tokenPrefix: prefix)
    context.node.propose([.auth(command)], on: reply.call.eventLoop) { outcome in
      switch outcome {
      case .failure(let error): reply.fail(EtcdErrors.status(for: error))
      case .success(let results):
        switch results.first {
        case .refused(.auth(.revisionOld)): again()
        case .refused(let error): reply.fail(EtcdErrors.status(for: error))
        case .authenticated(let index, _, let revision):
          answer(stamp, TokenStore.token(prefix: prefix, index: index), revision: revision, reply)
        default: preconditionFailure("an authentication came to \(results)")
        }
      }
    }
  }

  private func answer(
    _ stamp: AuthStamp, _ simple: String, revision: Int64, _ reply: UnaryReply<EtcdAuthenticateResponse>
  ) {
    let respond: @Sendable (String) -> EtcdAuthenticateResponse = { [context] token in
      .with {
        $0.header = context.header(revision: revision)
        $0.token = token
      }
    }
    guard case .signed(let tokens) = context.settings.auth.tokens else { return reply.succeed(respond(simple)) }
    workshop.run(for: reply.call, { _ in tokens.make(for: stamp, at: Int64(Date().timeIntervalSince1970)) }) { token in
      guard let token else { return reply.fail(EtcdErrors.signingImpossible) }
      reply.succeed(respond(token))
    }
  }
}
