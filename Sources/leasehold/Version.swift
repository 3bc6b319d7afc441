enum Version {
  static let own = "0.1.0"
  /// What the etcd API reports: clients parse it (see the README).
  static let etcdServer = "3.5.21"
}
