"""What the acceptance programs have in common: their options, a probe of when writes are taken, and the end."""

import argparse
import faulthandler
import os
import statistics
import threading
import time

import shared
from etcd_client import rpc
from members import MemberClient

PROBE_SECONDS = 0.25
PROBES_PER_MEMBER = 2
# A program that does not end has failed, and says where.
LONGEST_SECONDS = 3_600


def options(description, **more):
    """Common options and those of one program: name → (type, default, help)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("leasehold", "etcd"), default="leasehold")
    parser.add_argument("--binary", help="the server's executable (default: the release build, or etcd on the path)")
    parser.add_argument("--members", type=int, choices=(3, 5), default=3)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--election-ms", type=int, default=500)
    for name, (kind, default, help) in more.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{help} (default: {default})")
    faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
    return parser.parse_args()


class Probes:
    """Threads that put all the time, each on a member of its own. `put(client, index)` makes a call and returns it."""

    def __init__(self, cluster, put, seconds=PROBE_SECONDS, per_member=PROBES_PER_MEMBER):
        self.cluster, self.put, self.seconds = cluster, put, seconds
        self.answers = []       # (start, end), as they come
        self.on_answer = lambda call: None
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(member, index * len(cluster.members) + n), daemon=True)
            for index in range(per_member) for n, member in enumerate(cluster.members)]
        for thread in self._threads:
            thread.start()

    def _run(self, member, index):
        client = MemberClient(self.cluster, member, self.seconds)
        while not self._stopping:
            call = self.put(client, index)
            if call.answer is not None:
                self.answers.append((call.start, call.end))
                self.on_answer(call)
            time.sleep(0.005)
        client.close()

    def resumed(self, since, seconds=30.0):
        """Seconds from a moment until a write was acknowledged that was asked for after it."""
        place = max(0, len(self.answers) - 50)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while place < len(self.answers):
                start, answered = self.answers[place]
                if start > since:
                    return answered - since
                place += 1
            time.sleep(0.002)
        raise AssertionError(f"no write was acknowledged within {seconds:g} s")

    def stop(self):
        self._stopping = True
        for thread in self._threads:
            thread.join(10)


def figures(times):
    return (f"median {statistics.median(times):.3f} s, least {min(times):.3f} s, most {max(times):.3f} s, "
            f"{len(times)} times")


def end(violations, space, seed):
    """Prints the verdict and leaves."""
    for violation in violations:
        print(f"VIOLATION {violation}")
    if violations:
        print(f"{len(violations)} violations; seed {seed}; logs and data in {space}")
    else:
        print("no violation")
        space.close()
    shared.leave(1 if violations else 0)
