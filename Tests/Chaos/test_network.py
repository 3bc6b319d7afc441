"""The two networks do what their rules say: TCP between two places, with and without rules. In processes of their
own, for a process that has left the machine's network does not come back."""

import subprocess
import sys
import unittest
from pathlib import Path

import shared

SCRIPT = r"""
import shared, socket, subprocess, sys, time
import network
kind = network.choose(sys.argv[1])
from harness import Workspace, spawn, wait_until
space = Workspace()
net = space.own(kind(space, [1, 2]))
ECHO = '''
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
server = socket.create_server((host, int(port)))
while True:
    connection = server.accept()[0]
    while data := connection.recv(100): connection.sendall(data)
'''
DIAL = '''
import socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
time.sleep(0.3)
end = time.monotonic() + 20
while True:
    try:
        connection = socket.create_connection((host, int(port)), 5)
        break
    except OSError:
        if time.monotonic() > end: raise
        time.sleep(0.05)
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for number, line in enumerate(sys.stdin):
    start = time.monotonic()
    connection.settimeout(float(line))
    connection.sendall(bytes((number % 256,)))
    try:
        # What was held back may come first.
        while connection.recv(1) != bytes((number % 256,)): pass
        print(time.monotonic() - start, flush=True)
    except TimeoutError:
        print("nothing", flush=True)
'''
echo = spawn([*net.place(1).prefix, sys.executable, "-c", ECHO, net.place(1).peer], space / "echo")
dial = spawn([*net.place(2).prefix, sys.executable, "-c", DIAL, net.place(1).advertised], space / "dial",
             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
net.started(1, echo.pid); net.started(2, dial.pid)
def ping(seconds):
    dial.stdin.write(b"%f\n" % seconds); dial.stdin.flush()
    answer = dial.stdout.readline().strip().decode()
    assert answer, open(space / "dial").read()
    return answer
assert float(ping(5)) < 0.2
net.set_rules({(1, 2): {"delay": 0.3}})
took = float(ping(5)); assert 0.3 <= took < 0.6, took
for pair in ((1, 2), (2, 1)):
    net.set_rules({pair: {"drop": True}})
    answer = ping(0.7); assert answer == "nothing", (pair, answer)
    net.heal()
    took = float(ping(5)); assert took < 3, took
net.set_rules({(1, 2): {"loss": 0.3}, (2, 1): {"loss": 0.3}})
times = [float(ping(10)) for _ in range(20)]
assert max(times) > 0.1, times
net.heal()
space.close()
print("as told")
"""


class Networks(unittest.TestCase):
    def obeys(self, name):
        result = subprocess.run(
            [sys.executable, "-B", "-c", SCRIPT, name], cwd=Path(__file__).resolve().parent, capture_output=True,
            text=True, timeout=120)
        self.assertEqual(result.stdout.strip(), "as told", result.stderr)

    def test_namespaces(self):
        import network
        if not network.Namespaces.is_possible():
            self.skipTest("network namespaces are not allowed here")
        self.obeys("namespaces")

    def test_proxies(self):
        self.obeys("proxies")


if __name__ == "__main__":
    unittest.main()
