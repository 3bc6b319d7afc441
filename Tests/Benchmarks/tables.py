"""Figures as markdown."""

import os
import platform


def amount(value):
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    if value >= 1_000:
        return f"{value / 1000:.1f} k"
    return f"{value:.3g}"


def latencies(figures):
    refused = f"; {figures.refused:.0%} refused" if figures.refused else ""
    if figures.p50_ms is None:
        return refused
    p50, p99 = (f"{ms:.2f}" if ms < 10 else f"{ms:.0f}" for ms in (figures.p50_ms, figures.p99_ms))
    return f"; p50 {p50} ms, p99 {p99} ms{refused}"


def cpu_time(figures):
    return f"{figures.cpu_ms:,.0f}" if figures.cpu_ms >= 1_000 else f"{figures.cpu_ms:.3g}"


def print_comparison(results, what="load"):
    print(f"| {what} | etcd 3.5.1: rate; CPU ms per 1,000 | leasehold: rate; CPU ms per 1,000 | CPU | rate |")
    print("|---|---|---|---|---|")
    for name, (etcd, own) in results.items():
        print(f"| {name} | {amount(etcd.rate)}/s; {cpu_time(etcd)}{latencies(etcd)} "
              f"| {amount(own.rate)}/s; {cpu_time(own)}{latencies(own)} "
              f"| {etcd.cpu_ms / max(own.cpu_ms, 1e-9):.1f} × less | {own.rate / etcd.rate:.2g} × |")


def print_hits(results):
    print("| leasehold's hook | hits/s | server CPU ms per 1,000 hits | hits per CPU second |")
    print("|---|---|---|---|")
    for name, (own,) in results.items():
        per_second = f"{amount(1_000_000 / own.cpu_ms)}" if own.cpu_ms > 0 else "-"
        print(f"| {name} | {amount(own.rate)} | {own.cpu_ms:.3g} | {per_second} |")


def machine():
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return f"{os.cpu_count()} cores of {cpu}, Linux {platform.release()}"
