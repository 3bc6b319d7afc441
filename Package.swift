// swift-tools-version: 6.2
import PackageDescription

// Arrows of the design, enforced here: a pure target may import the standard library, Collections and
// other pure targets; everything that touches a clock, a disk, a socket or a C library is a shell.

func pure(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies)
}

let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded = Target.Dependency.product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket = Target.Dependency.product(name: "NIOWebSocket", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let yaml = Target.Dependency.product(name: "Yams", package: "Yams")
let collections = Target.Dependency.product(name: "DequeModule", package: "swift-collections")

let package = Package(
  name: "leasehold",
  products: [
    .executable(name: "leasehold", targets: ["leasehold"])
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // Pure core
    pure("Primitives"),
    pure("Raft", ["Primitives", collections]),
    pure("Keyspace", ["Primitives", collections]),
    pure("Leases", ["Primitives", collections]),
    pure("LogFormat", ["Primitives"]),
    pure("StateMachine", ["Primitives", "Keyspace", "Leases"]),
    pure("Member", ["Primitives", "LogFormat", "Raft", "Keyspace", "Leases", "StateMachine", "PeerProtocol"]),
    pure("SidecarCore", ["Primitives", "Keyspace", collections]),
    pure("PeerProtocol", ["Primitives", "Raft", "StateMachine", "Leases"]),

    // C libraries of the system
    .systemLibrary(
      name: "CLibcrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(
      name: "CLMDB", pkgConfig: "lmdb", providers: [.apt(["liblmdb-dev"])]),
    .systemLibrary(
      name: "CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),

    // Shells
    .target(name: "Storage", dependencies: ["Primitives", "LogFormat", logging]),
    .target(
      name: "Engine",
      dependencies: ["CLMDB", "Primitives", "Keyspace", "Leases", "StateMachine", "Storage", logging]),
    .target(name: "PKI", dependencies: ["CLibcrypto"]),
    .target(name: "EtcdAPI", dependencies: [protobuf, nioCore], exclude: ["Protos"]),
    .target(
      name: "Wire",
      dependencies: ["CNghttp2", nioCore, nioPosix, nioHTTP1, nioWebSocket, nioSSL, logging]),
    .target(name: "Gateway", dependencies: ["EtcdAPI", "Wire", nioCore, nioPosix, protobuf]),
    .target(
      name: "PeerTransport",
      dependencies: ["Primitives", "Raft", "PeerProtocol", "Wire", nioCore, nioPosix, nioSSL, logging, collections]),
    .target(
      name: "ClusterNode",
      dependencies: [
        "Primitives", "Raft", "Keyspace", "Leases", "LogFormat", "StateMachine", "PeerProtocol", "PeerTransport",
        "Member",
        "Storage", "Engine", "EtcdAPI", "Wire", logging, nioCore, nioPosix,
      ]),
    .target(
      name: "CacheSidecar",
      dependencies: [
        "Primitives", "Keyspace", "SidecarCore", "StateMachine", "ClusterNode", "Wire", logging, nioCore,
        nioPosix, nioHTTP1,
      ]),
    .target(name: "Settings", dependencies: ["Primitives", yaml]),
    .executableTarget(
      name: "leasehold",
      dependencies: [
        "Primitives", "PKI", "Wire", "Gateway", "Keyspace", "StateMachine", "Storage", "Engine", "PeerProtocol",
        "PeerTransport",
        "ClusterNode",
        "SidecarCore", "CacheSidecar", "Settings",
        arguments, logging, nioCore, nioPosix, nioHTTP1,
      ]),

    // Tests
    .target(
      name: "TestSupport", dependencies: ["Primitives", "Keyspace", "StateMachine", "Storage"],
      path: "Tests/TestSupport"),
    tests("PrimitivesTests", ["Primitives"]),
    .testTarget(name: "RaftTests", dependencies: ["Primitives", "Raft"], exclude: ["Traces"]),
    tests("KeyspaceTests", ["Keyspace"]),
    tests("LeasesTests", ["Leases"]),
    tests("StateMachineTests", ["StateMachine", "TestSupport"]),
    tests("SettingsTests", ["Settings", "Primitives"]),
    tests("StorageTests", ["Storage", "LogFormat", "Primitives", "TestSupport"]),
    tests("EngineTests", ["Engine", "Storage", "StateMachine", "Keyspace", "Leases", "Primitives", "TestSupport"]),
    tests("PKITests", ["PKI"]),
    tests("WireTests", ["Wire", "TestSupport", nioCore, nioPosix, nioEmbedded]),
    tests(
      "ClusterNodeTests",
      [
        "ClusterNode", "Gateway", "EtcdAPI", "Wire", "StateMachine", "Raft", "Keyspace", "Leases", "Storage", "Engine",
        "TestSupport",
        nioCore, nioPosix, nioEmbedded, logging,
      ]),
    tests("PeerProtocolTests", ["PeerProtocol", "Raft", "StateMachine", "Primitives"]),
    tests(
      "PeerTransportTests",
      [
        "PeerTransport", "PeerProtocol", "Raft", "StateMachine", "Primitives", "PKI", "Wire", nioCore, nioPosix,
        logging,
      ]),
    tests("SidecarCoreTests", ["SidecarCore"]),
    tests(
      "SimulatorTests",
      [
        "Primitives", "Raft", "Keyspace", "StateMachine", "Storage", "PeerProtocol", "Member", "SidecarCore",
        "TestSupport",
      ]),
    tests("MemberTests", ["Primitives", "LogFormat", "Raft", "StateMachine", "PeerProtocol", "Member"]),
    tests("StyleTests", []),
    tests(
      "CacheSidecarTests",
      [
        "CacheSidecar", "ClusterNode", "StateMachine", "SidecarCore", "Keyspace", "Primitives", "Wire", "TestSupport",
        nioCore, nioPosix, logging,
      ]),
  ],
  swiftLanguageModes: [.v6]
)

// Built on demand (Tests/MicroBenchmarks/run), so that no other build pays for them.
if Context.environment["LEASEHOLD_MICROBENCHMARKS"] != nil {
  package.products.append(.executable(name: "MicroBenchmarks", targets: ["MicroBenchmarks"]))
  package.targets += [
    .target(name: "AllocationCounter", path: "Tests/AllocationCounter"),
    .executableTarget(
      name: "MicroBenchmarks",
      dependencies: ["AllocationCounter", "Primitives", "Keyspace", "Leases", "LogFormat", "StateMachine"],
      path: "Tests/MicroBenchmarks", exclude: ["run", "allocations.txt"]),
  ]
}

// Swift checks at run time that no two accesses to one variable overlap; in our hot paths, whose state lives in classes
// and is reached through C callbacks, that costs several percent of the CPU. Debug builds check.
for target in package.targets where target.type != .system {
  target.swiftSettings =
    (target.swiftSettings ?? []) + [
      .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release))
    ]
}
