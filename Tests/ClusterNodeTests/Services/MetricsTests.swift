import ClusterNode
import Testing

@Suite("Metrics registry")
struct MetricsTests {
  @Test("The same name and labels give the same instrument; other labels another")
  func identity() {
    let registry = MetricsRegistry()
    registry.counter("calls_total", "Calls.", labels: [("method", "a")]).add(2)
    registry.counter("calls_total", "Calls.", labels: [("method", "a")]).add()
    registry.counter("calls_total", "Calls.", labels: [("method", "b\"\\\n")]).add()
    #expect(
      registry.exposition() == """
        # HELP calls_total Calls.
        # TYPE calls_total counter
        calls_total{method="a"} 3
        calls_total{method="b\\"\\\\\\n"} 1

        """)
  }

  @Test("Histogram buckets are cumulative and end at infinity; gauges keep fractions; an absent value prints nothing")
  func kinds() {
    let registry = MetricsRegistry()
    let seconds = registry.histogram("seconds", "Seconds.", upperBounds: [0.5, 2])
    for value in [0.25, 0.5, 1, 8] { seconds.observe(value) }
    registry.gauge("ratio", "A ratio.").set(0.25)
    registry.gauge("ratio", "A ratio.").add(0.5)
    registry.computedGauge("absent", "Nothing.") { nil }
    #expect(
      registry.exposition() == """
        # HELP absent Nothing.
        # TYPE absent gauge
        # HELP ratio A ratio.
        # TYPE ratio gauge
        ratio 0.75
        # HELP seconds Seconds.
        # TYPE seconds histogram
        seconds_bucket{le="0.5"} 2
        seconds_bucket{le="2"} 3
        seconds_bucket{le="+Inf"} 4
        seconds_sum 9.75
        seconds_count 4

        """)
  }
}
