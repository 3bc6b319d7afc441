"""PyPI's client for Python, `etcd3` 0.12.0, as it is: keys, transactions, leases, watches, locks, members, snapshots, alarms
and users, over mutual TLS, against Debian's etcd and against Leasehold. Both must look the same to it.

The package is installed beside the tests' other caches when it is not there yet; without a way to the package index the
suite is skipped."""

import json
import os
import re
import shutil
import tempfile
import unittest
from pathlib import Path

from etcdctl_sides import PROGRAMS, Side
from harness import PKI, Workspace, run, tail

# The last ones that this client was written for.
PACKAGES = ["etcd3==0.12.0", "protobuf==3.20.3", "tenacity==6.3.1"]
PYTHON = "/usr/bin/python3"
PROGRAM = Path(__file__).with_name("python_etcd3.py")
UNREACHABLE = r"NewConnectionError|Temporary failure|Connection refused|timed out|ProxyError|No matching distribution|SSLError"
AREAS = {
    "keys_and_values", "compaction", "transactions", "leases", "watches", "locks", "members", "maintenance", "alarms",
    "users"}


def cache():
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "leasehold-tests"


def installed():
    """The folder with the packages. Put there whole or not at all, since several suites may run at once."""
    version = run(PYTHON, "-c", "import sys; print(sys.version_info[:2])").stdout
    target = cache() / re.sub(r"\W+", "-", " ".join(PACKAGES) + version).strip("-")
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = tempfile.mkdtemp(dir=target.parent)
    done = run(PYTHON, "-m", "pip", "install", "-q", "--retries", "1", "--target", fresh, *PACKAGES, timeout=300)
    if done.returncode != 0:
        shutil.rmtree(fresh)
        if re.search(UNREACHABLE, done.stderr):
            raise unittest.SkipTest(f"the package index cannot be reached: {done.stderr.splitlines()[-1]}")
        raise AssertionError(done.stderr)
    try:
        os.rename(fresh, target)
    except OSError:
        shutil.rmtree(fresh)
    return target


class PythonClient(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        packages = installed()
        space = Workspace()
        cls.addClassCleanup(space.close)
        pki = PKI(space / "pki")
        sides = [Side(program, space, pki, tls=True).start() for program in PROGRAMS]
        cls.has_auth = "Unimplemented" not in sides[1].members[0].etcdctl("user", "list").stderr
        cls.seen = {}
        for side in sides:
            options = {
                "port": side.members[0].port, "ca": str(pki.authority), "key": str(pki.key("operator")),
                "certificate": str(pki.certificate("operator")), "folder": str(side.folder), "auth": cls.has_auth}
            done = run(PYTHON, PROGRAM, json.dumps(options), timeout=120, environment={
                "PYTHONPATH": str(packages), "GRPC_VERBOSITY": "NONE"})
            if done.returncode != 0:
                raise AssertionError(f"{side.program}: {done.stderr}\n{tail(side.members[0].log)}")
            cls.seen[side.program] = json.loads(done.stdout.splitlines()[-1])

    def test_every_area_is_the_same_to_it(self):
        theirs, ours = (self.seen[program] for program in PROGRAMS)
        self.assertEqual(set(ours), AREAS)
        for area in sorted(AREAS):
            with self.subTest(area):
                self.assertNotIsInstance(theirs[area], dict, theirs[area])
                self.assertNotIsInstance(ours[area], dict, ours[area])
                self.assertEqual(theirs[area], ours[area])

    def test_users(self):
        if not self.has_auth:
            self.skipTest("the server has no Auth service")
        self.assertEqual(self.seen["leasehold"]["users"][:2], ["1", "2"])


if __name__ == "__main__":
    unittest.main()
