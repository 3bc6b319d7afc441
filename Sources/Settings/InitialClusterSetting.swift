import Primitives

extension InitialCluster {
  /// Reads `--initial-cluster`: `name=peerURL` with commas between them; a name with several URLs is there several times.
  /// URLs get the one form in which all members compare them.
  package static func parse(
    _ text: String, token: String, setting: String = "--initial-cluster"
  ) throws(SettingsError) -> InitialCluster {
    var names: [String] = []
    var urls: [String: [String]] = [:]
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard pair.count == 2, !pair[0].isEmpty else {
        throw SettingsError("\(setting) '\(part)' is not of the form name=URL")
      }
      let name = String(pair[0])
      guard !pair[1].isEmpty else { throw SettingsError("\(setting): empty URL given for \"\(name)\"") }
      if urls[name] == nil { names.append(name) }
      urls[name, default: []].append(try peerURL(String(pair[1]), setting: setting))
    }
    let cluster = InitialCluster(
      token: token, members: names.map { Member(name: $0, peerURLs: urls[$0] ?? []) })
    let all = cluster.members.flatMap(\.peerURLs)
    guard Set(all).count == all.count else {
      throw SettingsError("\(setting): initial cluster \(cluster.text) has duplicate url")
    }
    return cluster
  }

  /// As it would be typed.
  package var text: String {
    members.flatMap { member in member.peerURLs.map { "\(member.name)=\($0)" } }.joined(separator: ",")
  }

  /// What etcd checks before a member without data starts (`VerifyBootstrap`, `VerifyJoinExisting`): this one is among
  /// them, under the URLs that it advertises. A member that has data takes no notice of the setting.
  package func check(name: String, advertisedPeerURLs: [String]) throws(SettingsError) {
    guard let own = member(named: name) else {
      throw SettingsError("couldn't find local name \"\(name)\" in the initial cluster configuration \(text)")
    }
    let advertised = advertisedPeerURLs.sorted()
    let silent = own.peerURLs.filter { !advertised.contains($0) }
    guard silent.isEmpty else {
      throw SettingsError(
        "--initial-cluster has \(Self.shown(name, silent)) but missing from --initial-advertise-peer-urls="
          + advertised.joined(separator: ","))
    }
    let unknown = advertised.filter { !own.peerURLs.contains($0) }
    guard unknown.isEmpty else {
      throw SettingsError(
        "--initial-advertise-peer-urls has \(Self.shown(name, unknown)) but missing from --initial-cluster="
          + Self.shown(name, own.peerURLs))
    }
  }

  private static func shown(_ name: String, _ urls: [String]) -> String {
    urls.map { "\(name)=\($0)" }.joined(separator: ",")
  }

  /// A peer URL in its one form.
  package static func peerURL(_ text: String, setting: String) throws(SettingsError) -> String {
    do throws(PeerURL.Fault) { return try PeerURL(text).description } catch {
      let why =
        switch error {
        case .scheme: "it must start with http:// or https://"
        case .authority: "it must name host:port"
        case .path: "it must not contain a path"
        }
      throw SettingsError("\(setting): '\(text)' is not a usable URL: \(why)")
    }
  }
}
