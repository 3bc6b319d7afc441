import CLibcrypto

/// Passwords as scrypt keeps them (RFC 7914):
///
///     version u8, 1 · log2 N u8 · r u8 · log2 p u8 · salt, 16 bytes · key, 32 bytes
///
/// The cost counts as bcrypt's does, doubling the work with each step, and a step costs about as much: 10, etcd's
/// default, is tens of milliseconds. Memory grows to 32 MiB and stays there.
package struct PasswordHash: Sendable {
  package static let costs = 4...31
  package static let defaultCost = 10

  private static let version: UInt8 = 1
  private static let headBytes = 4
  private static let saltBytes = 16
  private static let keyBytes = 32
  private static let blocks: UInt8 = 8
  private static let maxMemoryExponent: UInt8 = 15
  /// N is 2 to the cost and this.
  private static let exponentBehindCost: UInt8 = 4
  /// Beyond it a hash takes a minute.
  private static let maxParallelExponent: UInt8 = 10

  private let memoryExponent: UInt8
  private let parallelExponent: UInt8

  /// - Parameter cost: within `costs`.
  package init(cost: Int) {
    precondition(Self.costs.contains(cost), "a cost of \(cost)")
    let exponent = UInt8(cost) + Self.exponentBehindCost
    memoryExponent = min(exponent, Self.maxMemoryExponent)
    parallelExponent = min(exponent - memoryExponent, Self.maxParallelExponent)
  }

  /// With a salt of its own; nil when libcrypto has no memory for it.
  package func hash(_ password: [UInt8]) -> [UInt8]? {
    var random = SystemRandomNumberGenerator()
    let salt = (0..<Self.saltBytes).map { _ in UInt8.random(in: .min ... .max, using: &random) }
    guard let key = Self.derive(password, salt, memoryExponent, Self.blocks, parallelExponent) else { return nil }
    return [Self.version, memoryExponent, Self.blocks, parallelExponent] + salt + key
  }

  /// Whatever the cost was under which it was hashed. False for a hash that is none.
  package static func matches(_ password: [UInt8], _ hash: [UInt8]) -> Bool {
    guard hash.count == headBytes + saltBytes + keyBytes, hash[0] == version,
      (1...maxMemoryExponent).contains(hash[1]), hash[2] == blocks, hash[3] <= maxParallelExponent
    else { return false }
    let salt = Array(hash[headBytes..<(headBytes + saltBytes)])
    guard let key = derive(password, salt, hash[1], hash[2], hash[3]) else { return false }
    return isEqual(key, Array(hash[(headBytes + saltBytes)...]))
  }

  private static func derive(
    _ password: [UInt8], _ salt: [UInt8], _ memoryExponent: UInt8, _ blocks: UInt8, _ parallelExponent: UInt8
  ) -> [UInt8]? {
    let (memory, parallel) = (UInt64(1) << memoryExponent, UInt64(1) << parallelExponent)
    let needed = 128 * UInt64(blocks) * (memory + parallel + 2)
    var key = [UInt8](repeating: 0, count: keyBytes)
    // With a byte behind it: HMAC, which scrypt is made of, sees no zeros at the end of a key.
    let ended = password + [1]
    let result = ended.withUnsafeBytes { bytes in
      EVP_PBE_scrypt(
        bytes.baseAddress!.assumingMemoryBound(to: CChar.self), ended.count, salt, salt.count, memory,
        UInt64(blocks), parallel, needed + 1_048_576, &key, key.count)
    }
    ERR_clear_error()
    return result == 1 ? key : nil
  }
}

/// In a time that does not tell where they differ.
func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
  left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
}
