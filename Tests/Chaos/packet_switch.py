"""The network between the members, packet by packet: one TUN device in each member's network namespace, all held by
this process, which passes each packet on, late, twice or not at all.

    packet_switch.py SLOT:PID …      PID: a process that lives in the namespace of SLOT

It prints a line when it is ready. Each line on its standard input is a list of [from, to, rule] in JSON, which replaces
all rules before it and is answered by a line once it is in force. A rule holds seconds and shares of one: {"drop":
true}, {"delay", "jitter", "loss", "duplicate"}. Jitter reorders.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

DEVICE = "peers"
MTU_BYTES = 9_000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x4004_54CA, 0x0001, 0x1000
CLONE_NEWNET = 0x4000_0000
PACKETS_AT_ONCE = 64


def address(slot):
    """A member's address among its peers: in the block that RFC 2544 sets aside for tests of networks."""
    return f"198.19.0.{slot}"


def open_device(pid):
    """A TUN device in the namespace of a process. The descriptor stays with the device, wherever this process goes."""
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    os.close(descriptor)
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    return device


def configure(slot):
    for command in (
            f"ip link set {DEVICE} mtu {MTU_BYTES} txqueuelen 2000 up", f"ip addr add {address(slot)}/24 dev {DEVICE}",
            "ip link set lo up"):
        subprocess.run(command.split(), check=True)


class Switch:
    def __init__(self, devices):
        self.devices = devices      # slot → descriptor
        self.slots = {device: slot for slot, device in devices.items()}
        self.rules = {}
        self.late = []              # heap of (due, serial, descriptor, packet)
        self.serial = 0
        self.random = random.Random()

    def run(self):
        poll = select.epoll()
        for device in self.slots:
            poll.register(device, select.EPOLLIN)
        poll.register(0, select.EPOLLIN)
        while True:
            timeout = max(0.0, self.late[0][0] - time.monotonic()) if self.late else None
            for descriptor, _ in poll.poll(timeout):
                if descriptor != 0:
                    self.receive(descriptor)
                elif not self.obey():
                    return
            self.release()

    def obey(self):
        line = sys.stdin.readline()
        if line:
            self.rules = {(source, target): rule for source, target, rule in json.loads(line)}
            print("done", flush=True)
        return bool(line)

    def receive(self, descriptor):
        source = self.slots[descriptor]
        for _ in range(PACKETS_AT_ONCE):
            try:
                packet = os.read(descriptor, MTU_BYTES + 64)
            except BlockingIOError:
                return
            # IPv4 only, and only to a member: the last byte of the destination is its slot.
            if packet[0] >> 4 != 4 or packet[19] not in self.devices:
                continue
            rule = self.rules.get((source, packet[19]))
            self.forward(self.devices[packet[19]], packet, rule)

    def forward(self, target, packet, rule):
        if not rule:
            return self.write(target, packet)
        if rule.get("drop") or self.random.random() < rule.get("loss", 0):
            return None
        copies = 2 if self.random.random() < rule.get("duplicate", 0) else 1
        for _ in range(copies):
            delay = rule.get("delay", 0) + self.random.random() * rule.get("jitter", 0)
            if delay:
                self.serial += 1
                heapq.heappush(self.late, (time.monotonic() + delay, self.serial, target, packet))
            else:
                self.write(target, packet)
        return None

    def release(self):
        now = time.monotonic()
        while self.late and self.late[0][0] <= now:
            _, _, target, packet = heapq.heappop(self.late)
            self.write(target, packet)

    def write(self, target, packet):
        try:
            os.write(target, packet)
        except (BlockingIOError, OSError):
            pass    # a full queue drops packets, as switches do


def main():
    devices = {}
    for argument in sys.argv[1:]:
        slot, pid = map(int, argument.split(":"))
        devices[slot] = open_device(pid)
        configure(slot)
    print("ready", flush=True)
    Switch(devices).run()


if __name__ == "__main__":
    main()
