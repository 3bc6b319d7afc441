"""kill -9 of a node under a mixed load, with the ledger and the lease oracle watching: at random moments, while large
values roll segments and fill the store, and again while it recovers. The load goes on asking all the time.

After each restart every acknowledged write is compared with history, read again from the oldest revision that there is,
and with the whole state; everything that was ever seen must still be there, unacknowledged operations have happened as a
whole or not at all, and no lease ended early, late, twice or in parts.

KILL9_ROUNDS=100 is the long form; KILL9_SEED repeats the moments of a run.
"""

import os
import random
import time
import unittest

from harness import Workspace
from oracle_run import OracleRun

ROUNDS = int(os.environ.get("KILL9_ROUNDS", "100" if "SOAK" in os.environ else "16"))


class OracleKill9(unittest.TestCase):
    def test_kills_under_a_mixed_load(self):
        space = Workspace()
        self.addCleanup(space.close)
        seed = int(os.environ.get("KILL9_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"  kill -9 under the lease oracle: {ROUNDS} rounds, KILL9_SEED={seed}", flush=True)
        run = OracleRun(space, seed)
        self.addCleanup(run.stop)
        run.start()
        kills, downs, files = 0, [], set()
        for round in range(ROUNDS):
            if round % 2:       # segments roll every half second, and the store commits all the time
                run.load.bulk.set()
            time.sleep(run.random.uniform(0.1, 2.5))
            killed_at = time.monotonic()
            run.node.kill()
            kills += 1
            while run.random.random() < 0.35:       # and again while it recovers
                run.node.spawn()
                time.sleep(run.random.uniform(0.0, 0.25))
                run.node.kill()
                kills += 1
            run.node.start()
            downs.append(time.monotonic() - killed_at)
            run.load.bulk.clear()
            run.observe()
            time.sleep(run.random.uniform(0.0, 0.3))
            try:
                run.checkpoint()
            except AssertionError as problem:
                raise AssertionError(f"round {round}, KILL9_SEED={seed}: {problem}") from None
            files |= {path.name for path in (run.node.data / "member" / "wal").glob("*.wal")}
        run.load.stop()
        print(f"  {kills} kills, down {max(downs):.2f} s at most; {len(files)} segments; {run.summary()}", flush=True)
        self.assertGreater(run.oracle.counts()["expiries"], ROUNDS)


if __name__ == "__main__":
    unittest.main()
