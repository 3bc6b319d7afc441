/// Numbers of the storage engine that nothing outside of it needs.
enum EngineLimits {
  /// Address space for the map: a ceiling of the file's size, not memory. Halved down to the minimum while the system
  /// refuses it (`ulimit -v`).
  static let mapBytes = 1 << 40
  static let minimumMapBytes = 1 << 30
  /// Read transactions at one time, of all archives together; 64 bytes each in the lock file.
  static let maxReaders: UInt32 = 4_096
  /// Read transactions of one archive: so many threads read it without waiting for each other.
  static let archiveLanes = 4
  /// The longest key that LMDB takes (a constant of its build; every build has at least this one).
  static let maxKeyBytes = 511
  /// A walk over versions reads about so much before it gives its lane to others.
  static let walkBytes = 1 << 20
  /// Defragmentation writes about so much in one transaction.
  static let copyTransactionBytes = 64 << 20
  /// What the disk must have left for an I/O error to be one (see `Environment.isOutOfSpace`).
  static let spaceProbeBytes = 128 << 20
}
