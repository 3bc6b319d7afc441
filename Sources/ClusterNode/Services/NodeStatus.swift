extension NodeStatus {
  /// Of a member that has not heard of a leader and applied nothing yet.
  package init(clusterID: UInt64, memberID: UInt64, name: String) {
    self.init(
      clusterID: clusterID, memberID: memberID, leaderID: 0, name: name, term: 0, raftIndex: 0, appliedIndex: 0,
      databaseSizeBytes: 0, databaseInUseBytes: 0, alarms: [], peerURLs: [], clientURLs: [])
  }
}
