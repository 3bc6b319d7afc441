"""Redis 7 doing the same job with keys that have a TTL: the peer for leases, though not durable (appendonly, everysec)."""

import os
import shutil
import socket
import subprocess
import time

import servers
import storm

KEY_BYTES = 60
# redis-benchmark puts twelve digits in the place of __rand_int__.
KEY_PREFIX = b"/leasehold/cache/objects/".ljust(KEY_BYTES - 12, b"-")
VALUE = b"v" * 100
CHUNK = 1_000


def is_there():
    return all(shutil.which(name) for name in ("redis-server", "redis-benchmark"))


class Redis:
    def __init__(self, folder):
        os.makedirs(folder)
        self.port = servers.free_port()
        log = open(os.path.join(folder, "log"), "wb")
        with log:
            self.process = subprocess.Popen(
                ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
                 "--appendonly", "yes", "--appendfsync", "everysec"],
                stdout=log, stderr=log, preexec_fn=servers.die_with_parent)
        self.connection = self.connect()
        version = next(line for line in self.info("server") if line.startswith("redis_version"))
        self.title = f"Redis {version.split(':')[1]}"

    def connect(self):
        deadline = time.monotonic() + servers.START_SECONDS
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self):
        self.connection.close()
        self.process.terminate()
        self.process.wait()

    # ---- Talking

    def receive_bulk(self):
        data = self.connection.recv(1 << 16)
        head, _, rest = data.partition(b"\r\n")
        if not head.startswith(b"$"):
            raise SystemExit(f"redis says {head!r}")
        while len(rest) < int(head[1:]) + 2:
            rest += self.connection.recv(1 << 16)
        return rest.decode()

    def info(self, section):
        self.connection.sendall(b"INFO %s\r\n" % section.encode())
        return self.receive_bulk().splitlines()

    def number(self, section, name):
        return int(next(line for line in self.info(section) if line.startswith(name + ":")).split(":")[1])

    def keys(self):
        self.connection.sendall(b"DBSIZE\r\n")
        return int(self.connection.recv(64)[1:])

    def fill(self, count, deadline_ms):
        """`deadline_ms(number)`: Unix time in milliseconds. Returns the seconds that it took."""
        begin = time.monotonic()
        unanswered = 0
        for first in range(0, count, CHUNK):
            self.connection.sendall(b"".join(
                b"*5\r\n$3\r\nSET\r\n$%d\r\n%s%012d\r\n$%d\r\n%s\r\n$4\r\nPXAT\r\n$13\r\n%d\r\n"
                % (KEY_BYTES, KEY_PREFIX, number, len(VALUE), VALUE, deadline_ms(number))
                for number in range(first, min(first + CHUNK, count))))
            unanswered += 5 * min(CHUNK, count - first)
            while unanswered > 50 * CHUNK:
                unanswered -= self.expect_ok()
        while unanswered > 0:
            unanswered -= self.expect_ok()
        return time.monotonic() - begin

    def expect_ok(self):
        data = self.connection.recv(1 << 16)
        if b"-" in data:
            raise SystemExit(f"redis says {data[:200]!r}")
        return len(data)

    # ---- Measuring

    def storm(self, count):
        until = count / storm.LEAST_FILL_PER_SECOND + 3
        due = time.monotonic() + until
        unix_ms = int((time.time() + until) * 1000)
        self.fill(count, lambda number: unix_ms + number % 10 * int(storm.SPREAD_SECONDS / 9 * 1000))
        return storm.Storm(count, due, storm.follow(self.keys, count, due))

    def bytes_per_key(self, count):
        """Fills anew; (what Redis counts, anonymous resident bytes)."""
        before = self.number("memory", "used_memory"), servers.Server.memory(self)[0]
        self.fill_for_a_day(count)
        after = self.number("memory", "used_memory"), servers.Server.memory(self)[0]
        return tuple((new - old) / count for old, new in zip(before, after))

    def fill_for_a_day(self, count):
        deadline = int((time.time() + 86_400) * 1000)
        return self.fill(count, lambda _: deadline)

    def renewals(self, count, seconds, pipeline):
        """EXPIRE of random keys, 50 connections: (renewals a second, server CPU seconds of one)."""
        rate_guess = 300_000 if pipeline > 1 else 60_000
        total = int(rate_guess * seconds)
        before = servers.Server.cpu_seconds(self)
        begin = time.monotonic()
        done = subprocess.run(
            ["redis-benchmark", "-p", str(self.port), "-c", "50", "-P", str(pipeline), "-n", str(total), "-r", str(count),
             "-q", "EXPIRE", KEY_PREFIX.decode() + "__rand_int__", "86400"], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"redis-benchmark: {done.stdout}{done.stderr}")
        elapsed = time.monotonic() - begin
        return total / elapsed, (servers.Server.cpu_seconds(self) - before) / total
