"""Where members live and what lies between them: network namespaces, proxies on loopback, or plain loopback.

All three have the same face: `place(slot)` tells a member's addresses, `set_rules` says what happens on the way from
one slot to another, `heal` ends that. Clients reach every member over a way of their own, which no rule touches.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import shared
from harness import free_port, spawn, wait_until

FOLDER = Path(__file__).resolve().parent
CLONE_NEWNET = 0x4000_0000
CLIENT_PORT, PEER_PORT = 2379, 2380


class Place:
    """`prefix`: the command that brings a process there. `advertised`: where the other members find its peer port."""

    def __init__(self, host, client_port, peer, advertised, prefix=()):
        self.host, self.client_port, self.peer, self.advertised = host, client_port, peer, advertised
        self.prefix = list(prefix)

    @property
    def client(self):
        return f"{self.host}:{self.client_port}"

    @property
    def hosts(self):
        """For a certificate."""
        return sorted({"127.0.0.1", self.host, self.peer.rsplit(":", 1)[0], self.advertised.rsplit(":", 1)[0]})


class _Helper:
    """packet_switch.py or peer_proxy.py, told line by line."""

    def __init__(self, space, script, arguments):
        self.log = space / f"{script}.log"
        self.process = spawn(
            [sys.executable, "-B", FOLDER / script, *arguments], self.log, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE)
        self._answered()

    def tell(self, command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        self._answered()

    def _answered(self):
        if not self.process.stdout.readline():
            raise AssertionError(f"{self.process.args[2]} ended; its log: {self.log}")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Loopback:
    """Nothing lies between the members, and nothing can be put there."""

    name, has_rules = "loopback", False

    def __init__(self, space, slots):
        self._places = {slot: self._place(slot) for slot in slots}

    def _place(self, slot):
        peer = f"127.0.0.1:{free_port()}"
        return Place("127.0.0.1", free_port(), peer, peer)

    def place(self, slot):
        return self._places[slot]

    def started(self, slot, pid):
        pass

    def set_rules(self, rules):
        if rules:
            raise AssertionError("there is nothing between the members that could follow a rule")

    def heal(self):
        self.set_rules({})

    def stop(self):
        pass


class Proxies(Loopback):
    name, has_rules = "proxies", True

    def __init__(self, space, slots):
        super().__init__(space, slots)
        self._proxy = _Helper(space, "peer_proxy.py", [
            f"{slot}:{place.advertised.rsplit(':', 1)[1]}:{place.peer.rsplit(':', 1)[1]}"
            for slot, place in self._places.items()])

    def _place(self, slot):
        return Place("127.0.0.1", free_port(), f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")

    def started(self, slot, pid):
        self._proxy.tell({"processes": {slot: pid}})

    def set_rules(self, rules):
        self._proxy.tell({"rules": [[source, target, rule] for (source, target), rule in rules.items()]})

    def stop(self):
        self._proxy.stop()


class Namespaces:
    """A namespace for each slot. A veth pair leads to the clients, a TUN device to the packet switch. This process has
    left the machine's own namespace (`enter`), so nothing is left behind when all end, however they do."""

    name, has_rules = "namespaces", True

    def __init__(self, space, slots):
        import packet_switch
        self._holders = {slot: spawn(["unshare", "--net", "sleep", "infinity"], space / f"holder-{slot}.log")
                         for slot in slots}
        here = os.readlink("/proc/self/ns/net")
        for slot, holder in self._holders.items():
            wait_until(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != here, "a network namespace")
            inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
            for command in (
                    ["ip", "link", "add", f"to{slot}", "type", "veth", "peer", "name", "clients", "netns",
                     str(holder.pid)],
                    ["ip", "addr", "add", f"198.18.{slot}.1/30", "dev", f"to{slot}"],
                    ["ip", "link", "set", f"to{slot}", "up"],
                    [*inside, "ip", "addr", "add", f"198.18.{slot}.2/30", "dev", "clients"],
                    [*inside, "ip", "link", "set", "clients", "up"]):
                subprocess.run(command, check=True)
        self._switch = _Helper(
            space, "packet_switch.py", [f"{slot}:{holder.pid}" for slot, holder in self._holders.items()])
        self._peer = packet_switch.address

    @staticmethod
    def is_possible():
        """Asks a child, for there is no way back."""
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
            return False
        try:
            return subprocess.run(
                ["unshare", "--net", "ip", "tuntap", "add", "dev", "probe", "mode", "tun"],
                capture_output=True).returncode == 0
        except FileNotFoundError:
            return False

    @staticmethod
    def enter():
        """Leaves the machine's network. Before any thread begins: it moves only the one that calls."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    def place(self, slot):
        peer = f"{self._peer(slot)}:{PEER_PORT}"
        return Place(f"198.18.{slot}.2", CLIENT_PORT, peer, peer,
                     ["nsenter", f"--net=/proc/{self._holders[slot].pid}/ns/net"])

    def started(self, slot, pid):
        pass

    def set_rules(self, rules):
        self._switch.tell([[source, target, rule] for (source, target), rule in rules.items()])

    def heal(self):
        self.set_rules({})

    def stop(self):
        self._switch.stop()
        for holder in self._holders.values():
            holder.kill()
            holder.wait()


def choose(name=None):
    """The kind of network: the one that is asked for, or namespaces where they are allowed. Call it first of all."""
    if name is None:
        name = "namespaces" if Namespaces.is_possible() else "proxies"
    if name == "namespaces":
        Namespaces.enter()
    return {"namespaces": Namespaces, "proxies": Proxies, "loopback": Loopback}[name]
