import Engine
import Primitives
import StateMachine
import Storage
import TestSupport
import Testing

@Suite("Users and roles in the engine")
struct AuthRecordTests {
  private static func commands() -> [Command] {
    [
      .auth(.addUser(AuthUser(name: "root", password: StoredPassword([1, 2, 3])))), .auth(.addRole("r")),
      .auth(.grantPermission(role: "r", AuthPermission(.readWrite, key: "a", rangeEnd: "b"))),
      .auth(.grantRole(user: "root", role: "root")), .auth(.enable),
    ]
  }

  @Test("are there again after a restart, a defragmentation, and changes of nothing but keys")
  func comeBack() throws {
    var world = try EngineWorld()
    world.apply(Self.commands())
    let auth = world.machine.auth
    try world.commit()
    try world.reopen()
    #expect(world.machine.auth == auth && auth.isEnabled)
    world.apply(.authored(.member, .put("k")))
    try world.commit()
    try world.defragment()
    try world.reopen()
    #expect(world.machine.auth == auth && world.machine.keyspace.keyCount == 1)
    world.apply(.authored(.user(AuthStamp(user: "root", revision: auth.revision)), .auth(.disable)))
    try world.commit()
    try world.reopen()
    #expect(world.machine.auth.revision == auth.revision + 1 && !world.machine.auth.isEnabled)
    let copy = try world.copiedDirectory()
    #expect(try StateVerification.verify(directory: copy.path).problem == nil)
  }
}
