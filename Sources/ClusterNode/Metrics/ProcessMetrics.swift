import Glibc

/// What the operating system knows about this process, read when scraped.
enum ProcessMetrics {
  static func register(in registry: MetricsRegistry) {
    registry.computedGauge("process_resident_memory_bytes", "Bytes in memory.") {
      pages(field: 1).map { Double($0 * Int(sysconf(Int32(_SC_PAGESIZE)))) }
    }
    registry.computedGauge("process_virtual_memory_bytes", "Bytes of address space.") {
      pages(field: 0).map { Double($0 * Int(sysconf(Int32(_SC_PAGESIZE)))) }
    }
    registry.computedGauge("process_open_fds", "Open file descriptors.") { openFiles().map(Double.init) }
    registry.computedGauge("process_max_fds", "Most file descriptors that may be open.") {
      var limit = rlimit()
      guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return nil }
      return Double(limit.rlim_cur)
    }
    registry.computedCounter("process_cpu_seconds_total", "Seconds of CPU used, user and system.") {
      var usage = rusage()
      guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return nil }
      return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }
    let startTime = Double(time(nil))
    registry.computedGauge("process_start_time_seconds", "Seconds since 1970 at which metrics began.") { startTime }
  }

  private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

  /// A field of /proc/self/statm: pages of address space, resident pages.
  private static func pages(field: Int) -> Int? {
    guard let file = fopen("/proc/self/statm", "r") else { return nil }
    defer { fclose(file) }
    var buffer = [CChar](repeating: 0, count: 256)
    guard fgets(&buffer, Int32(buffer.count), file) != nil else { return nil }
    let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let fields = text.split(separator: " ")
    return field < fields.count ? Int(fields[field]) : nil
  }

  private static func openFiles() -> Int? {
    guard let directory = opendir("/proc/self/fd") else { return nil }
    defer { closedir(directory) }
    var entries = 0
    while readdir(directory) != nil { entries += 1 }
    // Not "." and "..", and not the descriptor that this listing holds.
    return entries - 3
  }
}
