import SidecarCore

extension EventHub {
  /// The subscribers' part of `/metrics`, in Prometheus' text format.
  package func metricsText() async -> String {
    let statistics = await statistics()
    var text = ""
    func family(_ name: String, _ kind: String, _ help: String, _ value: (SubscriberStatistics) -> String) {
      text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
      // A name has no character that a label would have to escape.
      for subscriber in statistics { text += "\(name){subscriber=\"\(subscriber.name)\"} \(value(subscriber))\n" }
    }
    family("leasehold_subscriber_lag", "gauge", "Journal items between the subscriber's floor and the head.") {
      "\($0.lag)"
    }
    family("leasehold_subscriber_unacked", "gauge", "Events delivered and not acknowledged.") { "\($0.unacknowledged)" }
    family("leasehold_subscriber_parked", "gauge", "Events given up, waiting for kick.") { "\($0.parked)" }
    family("leasehold_subscriber_redelivered_total", "counter", "Events delivered again.") { "\($0.redelivered)" }
    family("leasehold_subscriber_connected", "gauge", "1 while a connection has the name.") {
      $0.isConnected ? "1" : "0"
    }
    return text
  }
}
