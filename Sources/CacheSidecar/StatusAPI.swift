import Primitives
import SidecarCore
import Wire

/// What the sidecar says about itself: `/v1/status`, `/health`, `/metrics`, and one cache's policy and totals.
struct StatusAPI: Sendable {
  let sidecar: Sidecar
  let hub: EventHub?

  func addRoutes(to router: inout HTTPRouter) {
    router.on("GET", "/v1/status") { _, responder in responder.respond(status()) }
    router.on("GET", "/health") { _, responder in health(responder) }
    router.on("GET", "/metrics") { _, responder in
      responder.answer { [sidecar, hub] in
        let subscribers = await hub?.metricsText() ?? ""
        return HTTPResponse(
          status: 200, contentType: "text/plain; version=0.0.4; charset=utf-8",
          body: .init(string: sidecar.metricsText() + subscribers))
      }
    }
  }

  /// Healthy means that the store answers a linearizable read.
  private func health(_ responder: any HTTPResponder) {
    responder.answer { [sidecar] in
      do throws(SidecarStoreError) {
        _ = try await sidecar.context.store.get([sidecar.context.layout.journalHead])
        return .json("{\"health\":\"true\",\"reason\":\"\"}\n".utf8)
      } catch {
        return .json("{\"health\":\"false\",\"reason\":\(jsonQuoted("\(error)"))}\n".utf8, status: 503)
      }
    }
  }

  func status() -> HTTPResponse {
    let values = sidecar.metrics.snapshot
    var writer = JSONWriter(reserving: 1_024)
    writer.object { writer in
      writer.object("journal") { writer in
        writer.member("epoch", String(sidecar.journal.epoch, radix: 16))
        writer.member("first", sidecar.journal.first)
        writer.member("head", sidecar.journal.head)
      }
      writer.member("evictor", values.isEvictor)
      writer.member("backlog", sidecar.pipeline.backlog)
      writer.array("caches") { writer in
        for (_, cache) in sidecar.caches.sorted(by: { $0.key < $1.key }) {
          writer.object { encode(cache, into: &$0) }
        }
      }
    }
    writer.endLine()
    return .json(writer.bytes)
  }

  func cache(_ cache: SidecarCache) -> HTTPResponse {
    var writer = JSONWriter(reserving: 512)
    writer.object { encode(cache, into: &$0) }
    writer.endLine()
    return .json(writer.bytes)
  }

  private func encode(_ cache: SidecarCache, into writer: inout JSONWriter) {
    let (totals, isExact) = sidecar.totals(of: cache)
    writer.member("cache", cache.name)
    writer.object("policy") { writer in
      writer.member("ttl", DurationText.text(milliseconds: cache.policy.ttlMilliseconds))
      writer.member("window", DurationText.text(milliseconds: cache.policy.windowMilliseconds))
      writer.member("jitter", "0..\(cache.policy.jitterPercent)%")
      writer.member("register", cache.policy.registration.rawValue)
      writer.member("subscribers", texts: cache.policy.subscribers)
    }
    writer.object("entries") { writer in
      writer.member("live", totals.liveEntries)
      writer.member("evicting", totals.evictingEntries)
    }
    writer.object("bytes") { writer in
      writer.member("live", totals.liveBytes)
      writer.member("evicting", totals.evictingBytes)
    }
    // Before the first scan has counted everything, totals hold what has changed since the start.
    writer.member("exact", isExact)
    writer.member("window_keys", cache.knownCount)
  }
}

extension Sidecar {
  /// The HTTP API: entries, hits, status and metrics, and with a hub its subscribers.
  package func addRoutes(to router: inout HTTPRouter, hub: EventHub? = nil) {
    EntriesAPI(sidecar: self).addRoutes(to: &router)
    StatusAPI(sidecar: self, hub: hub).addRoutes(to: &router)
    if let hub { SubscribersAPI.register(hub, on: &router) }
  }
}
