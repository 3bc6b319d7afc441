import PKI
import Testing

/// etcd's rule for members that dial, with a resolver of our own.
@Suite("Remote addresses")
struct RemoteAddressTests {
  private func isCovered(
    _ address: String, dns: [String] = [], ip: [String] = [], hosts: [String: [String]] = [:],
    names: [String: [String]] = [:]
  ) -> Bool {
    let peer = VerifiedPeer(dnsNames: dns, ipAddresses: ip)
    return RemoteAddress.isCovered(
      address, by: peer, lookUp: { hosts[$0] ?? [] }, reverse: { names[$0] ?? [] })
  }

  @Test func addressesMustBeTheirs() {
    #expect(isCovered("10.0.0.1", ip: ["10.0.0.2", "10.0.0.1"]))
    #expect(!isCovered("10.0.0.1", ip: ["10.0.0.2"]))
    #expect(isCovered("::1", ip: ["0:0:0:0:0:0:0:1"]))
    #expect(isCovered("::ffff:10.0.0.1", ip: ["10.0.0.1"]))
    #expect(isCovered("fe80::1%eth0", ip: ["fe80::1"]))
    #expect(!isCovered("nonsense", ip: ["10.0.0.1"]))
  }

  @Test func namesMustLeadThere() {
    let hosts = ["m0.example": ["10.0.0.9", "10.0.0.1"]]
    #expect(isCovered("10.0.0.1", dns: ["m0.example"], hosts: hosts))
    #expect(!isCovered("10.0.0.2", dns: ["m0.example"], hosts: hosts))
    #expect(isCovered("10.0.0.1", dns: ["m0.example"], ip: ["10.0.0.7"], hosts: hosts))
    #expect(!isCovered("10.0.0.1", dns: ["gone.example"], hosts: hosts))
  }

  @Test func wildcardsAndPlainNamesMayBeFoundBackwards() {
    let names = ["10.0.0.1": ["m0.cluster.example."], "10.0.0.2": ["mcluster.example"]]
    #expect(isCovered("10.0.0.1", dns: ["*.cluster.example"], names: names))
    #expect(!isCovered("10.0.0.2", dns: ["*.cluster.example"], names: names))
    #expect(isCovered("10.0.0.1", dns: ["m0.cluster.example"], names: names))
  }

  @Test func aCertificateWithoutNamesPasses() { #expect(isCovered("10.0.0.1")) }
}
