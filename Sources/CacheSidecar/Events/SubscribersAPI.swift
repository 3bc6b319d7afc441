import SidecarCore
import Wire

/// `GET /v1/subscribers`: who reads the event stream, how far each has come.
package enum SubscribersAPI {
  package static func register(_ hub: EventHub, on router: inout HTTPRouter) {
    router.on("GET", "/v1/subscribers") { _, responder in
      responder.answer {
        var writer = JSONWriter(reserving: 512)
        let statistics = await hub.statistics()
        writer.object { writer in
          writer.array("subscribers") { writer in
            for subscriber in statistics { writer.object { encode(subscriber, into: &$0) } }
          }
        }
        writer.endLine()
        return .json(writer.bytes)
      }
    }
  }

  private static func encode(_ subscriber: SubscriberStatistics, into writer: inout JSONWriter) {
    writer.member("name", subscriber.name)
    writer.member("connected", subscriber.isConnected)
    writer.member("paused", subscriber.isPaused)
    writer.member("head", subscriber.head)
    writer.member("acked", subscriber.acknowledged)
    writer.member("unacked", subscriber.unacknowledged)
    writer.member("parked", subscriber.parked)
    writer.member("redelivered", subscriber.redelivered)
  }
}
