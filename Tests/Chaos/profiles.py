"""What is known of each server under test: how it is started, and which checks bind it."""

import os
import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """The flags say which promises the server makes; what it does not promise is measured and not judged."""

    name: str
    command: tuple              # before etcd's flags
    extra: tuple = ()
    leases_bind: bool = True    # the lease oracle: never early, hardly late, dead stays dead, no TTL given away
    progress_binds: bool = True     # a progress notification means that all events before it have come
    takes_preloads: bool = True     # libfaketime and failing_disk.so can be loaded into it
    has_sidecar: bool = True
    has_known_files: bool = True    # log and store lie where Leasehold's do, and can be damaged
    reloads_certificates: bool = True   # new connections are shown a new certificate without a restart
    stuck_leader_yields: bool = True    # a leader whose own disk is stuck hands over, so that leases go on ending
    resumes_fast: bool = True       # writes resume within two election time-outs of the leader's death
    drains: bool = True             # what is under way at SIGTERM is answered before the process ends


def leasehold_profile(binary):
    # Found here once, for a child has not this process's place in the build.
    if binary:
        os.environ["LEASEHOLD"] = os.path.abspath(binary)
    from harness import leasehold
    return Profile("leasehold", (leasehold(), "node"), ("--log-level", "info"))


def etcd_profile(binary):
    """The control. etcd extends all leases by their whole TTL when the leader changes, its leases end up to half a
    second late and by the thousand per second at most, a deposed leader goes on renewing until it knows, the list of
    leases is the member's own; its requested progress could overtake events (etcd-io/etcd#15220). At SIGTERM it
    closes connections with calls under way (seen with 3.4.23 and 3.5.1). Go programs do not load preloads."""
    # A low snapshot count, so that members that were away get snapshots.
    return Profile(
        "etcd", (binary or shutil.which("etcd") or "/usr/bin/etcd",),
        ("--log-level", "warn", "--snapshot-count", "2000"),
        leases_bind=False, progress_binds=False, takes_preloads=False, has_sidecar=False, has_known_files=False,
        reloads_certificates=True, stuck_leader_yields=False, resumes_fast=False, drains=False)


def profile(server, binary=None):
    return {"leasehold": leasehold_profile, "etcd": etcd_profile}[server](binary)
