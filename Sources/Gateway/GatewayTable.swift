import EtcdAPI

/// Every path that etcd's gateway serves, without its version.
enum GatewayTable {
  static let methods: [String: GatewayMethod] = {
    let all = keys + leases + members + maintenance + users + roles + coordination
    return Dictionary(uniqueKeysWithValues: all.map { ($0.path, $0) })
  }()

  private static let keys: [GatewayMethod] = [
    .init("/kv/range", "/etcdserverpb.KV/Range", EtcdRangeRequest.self, EtcdRangeResponse.self),
    .init("/kv/put", "/etcdserverpb.KV/Put", EtcdPutRequest.self, EtcdPutResponse.self),
    .init("/kv/deleterange", "/etcdserverpb.KV/DeleteRange", EtcdDeleteRangeRequest.self, EtcdDeleteRangeResponse.self),
    .init("/kv/txn", "/etcdserverpb.KV/Txn", EtcdTxnRequest.self, EtcdTxnResponse.self),
    .init("/kv/compaction", "/etcdserverpb.KV/Compact", EtcdCompactionRequest.self, EtcdCompactionResponse.self),
    .init("/watch", "/etcdserverpb.Watch/Watch", EtcdWatchRequest.self, EtcdWatchResponse.self, .bidirectional),
  ]

  private static let leases: [GatewayMethod] =
    [
      .init("/lease/grant", "/etcdserverpb.Lease/LeaseGrant", EtcdLeaseGrantRequest.self, EtcdLeaseGrantResponse.self),
      .init(
        "/lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive", EtcdLeaseKeepAliveRequest.self,
        EtcdLeaseKeepAliveResponse.self, .bidirectional),
    ]
    // The places of etcd 3.3 and of what came before it.
    + ["/lease", "/kv/lease"].flatMap { (folder: String) -> [GatewayMethod] in
      [
        .init(
          "\(folder)/revoke", "/etcdserverpb.Lease/LeaseRevoke", EtcdLeaseRevokeRequest.self,
          EtcdLeaseRevokeResponse.self),
        .init(
          "\(folder)/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive", EtcdLeaseTimeToLiveRequest.self,
          EtcdLeaseTimeToLiveResponse.self),
        .init(
          "\(folder)/leases", "/etcdserverpb.Lease/LeaseLeases", EtcdLeaseLeasesRequest.self,
          EtcdLeaseLeasesResponse.self),
      ]
    }

  private static let members: [GatewayMethod] = [
    .init(
      "/cluster/member/add", "/etcdserverpb.Cluster/MemberAdd", EtcdMemberAddRequest.self, EtcdMemberAddResponse.self),
    .init(
      "/cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove", EtcdMemberRemoveRequest.self,
      EtcdMemberRemoveResponse.self),
    .init(
      "/cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate", EtcdMemberUpdateRequest.self,
      EtcdMemberUpdateResponse.self),
    .init(
      "/cluster/member/list", "/etcdserverpb.Cluster/MemberList", EtcdMemberListRequest.self,
      EtcdMemberListResponse.self),
    .init(
      "/cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote", EtcdMemberPromoteRequest.self,
      EtcdMemberPromoteResponse.self),
  ]

  private static let maintenance: [GatewayMethod] = [
    .init("/maintenance/alarm", "/etcdserverpb.Maintenance/Alarm", EtcdAlarmRequest.self, EtcdAlarmResponse.self),
    .init("/maintenance/status", "/etcdserverpb.Maintenance/Status", EtcdStatusRequest.self, EtcdStatusResponse.self),
    .init(
      "/maintenance/defragment", "/etcdserverpb.Maintenance/Defragment", EtcdDefragmentRequest.self,
      EtcdDefragmentResponse.self),
    .init("/maintenance/hash", "/etcdserverpb.Maintenance/Hash", EtcdHashRequest.self, EtcdHashResponse.self),
    .init("/maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV", EtcdHashKVRequest.self, EtcdHashKVResponse.self),
    .init(
      "/maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot", EtcdSnapshotRequest.self,
      EtcdSnapshotResponse.self, .serverStream),
    .init(
      "/maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader", EtcdMoveLeaderRequest.self,
      EtcdMoveLeaderResponse.self),
    .init(
      "/maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade", EtcdDowngradeRequest.self,
      EtcdDowngradeResponse.self),
  ]

  private static let users: [GatewayMethod] = [
    .init("/auth/enable", "/etcdserverpb.Auth/AuthEnable", EtcdAuthEnableRequest.self, EtcdAuthEnableResponse.self),
    .init("/auth/disable", "/etcdserverpb.Auth/AuthDisable", EtcdAuthDisableRequest.self, EtcdAuthDisableResponse.self),
    .init("/auth/status", "/etcdserverpb.Auth/AuthStatus", EtcdAuthStatusRequest.self, EtcdAuthStatusResponse.self),
    .init(
      "/auth/authenticate", "/etcdserverpb.Auth/Authenticate", EtcdAuthenticateRequest.self,
      EtcdAuthenticateResponse.self),
    .init("/auth/user/add", "/etcdserverpb.Auth/UserAdd", EtcdAuthUserAddRequest.self, EtcdAuthUserAddResponse.self),
    .init("/auth/user/get", "/etcdserverpb.Auth/UserGet", EtcdAuthUserGetRequest.self, EtcdAuthUserGetResponse.self),
    .init(
      "/auth/user/list", "/etcdserverpb.Auth/UserList", EtcdAuthUserListRequest.self, EtcdAuthUserListResponse.self),
    .init(
      "/auth/user/delete", "/etcdserverpb.Auth/UserDelete", EtcdAuthUserDeleteRequest.self,
      EtcdAuthUserDeleteResponse.self),
    .init(
      "/auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword", EtcdAuthUserChangePasswordRequest.self,
      EtcdAuthUserChangePasswordResponse.self),
    .init(
      "/auth/user/grant", "/etcdserverpb.Auth/UserGrantRole", EtcdAuthUserGrantRoleRequest.self,
      EtcdAuthUserGrantRoleResponse.self),
    .init(
      "/auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole", EtcdAuthUserRevokeRoleRequest.self,
      EtcdAuthUserRevokeRoleResponse.self),
  ]

  private static let roles: [GatewayMethod] = [
    .init("/auth/role/add", "/etcdserverpb.Auth/RoleAdd", EtcdAuthRoleAddRequest.self, EtcdAuthRoleAddResponse.self),
    .init("/auth/role/get", "/etcdserverpb.Auth/RoleGet", EtcdAuthRoleGetRequest.self, EtcdAuthRoleGetResponse.self),
    .init(
      "/auth/role/list", "/etcdserverpb.Auth/RoleList", EtcdAuthRoleListRequest.self, EtcdAuthRoleListResponse.self),
    .init(
      "/auth/role/delete", "/etcdserverpb.Auth/RoleDelete", EtcdAuthRoleDeleteRequest.self,
      EtcdAuthRoleDeleteResponse.self),
    .init(
      "/auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission", EtcdAuthRoleGrantPermissionRequest.self,
      EtcdAuthRoleGrantPermissionResponse.self),
    .init(
      "/auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission", EtcdAuthRoleRevokePermissionRequest.self,
      EtcdAuthRoleRevokePermissionResponse.self),
  ]

  private static let coordination: [GatewayMethod] = [
    .init("/lock/lock", "/v3lockpb.Lock/Lock", EtcdLockLockRequest.self, EtcdLockLockResponse.self, .patient),
    .init("/lock/unlock", "/v3lockpb.Lock/Unlock", EtcdLockUnlockRequest.self, EtcdLockUnlockResponse.self),
    .init(
      "/election/campaign", "/v3electionpb.Election/Campaign", EtcdElectionCampaignRequest.self,
      EtcdElectionCampaignResponse.self, .patient),
    .init(
      "/election/proclaim", "/v3electionpb.Election/Proclaim", EtcdElectionProclaimRequest.self,
      EtcdElectionProclaimResponse.self),
    .init(
      "/election/leader", "/v3electionpb.Election/Leader", EtcdElectionLeaderRequest.self,
      EtcdElectionLeaderResponse.self),
    .init(
      "/election/observe", "/v3electionpb.Election/Observe", EtcdElectionLeaderRequest.self,
      EtcdElectionLeaderResponse.self, .serverStream),
    .init(
      "/election/resign", "/v3electionpb.Election/Resign", EtcdElectionResignRequest.self,
      EtcdElectionResignResponse.self),
  ]
}
