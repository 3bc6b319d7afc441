"""The network between the members where namespaces are not allowed: a TCP proxy before each member's peer port.

    peer_proxy.py SLOT:PORT:TARGET …     PORT is what the member advertises, TARGET where it listens,
                                         both on 127.0.0.1

Who dials is read from /proc: the process that holds the other end of the connection. Each direction of a connection
then follows the rule of its pair. Bytes that a rule drops are held back, as TCP would send them again after a
partition; "cut" closes connections; a lost packet is a stop of a retransmission's length.

It prints a line when it is ready. Lines on its standard input, each answered by one when it is in force:
{"processes": {"SLOT": PID}} and {"rules": [[from, to, rule], …]}, rules as in packet_switch.py.
"""

import asyncio
import json
import os
import random
import sys
import time

RETRANSMISSION_SECONDS = 0.2
CHUNK_BYTES = 1 << 16
CHUNKS_UNDER_WAY = 256


class Proxy:
    def __init__(self):
        self.rules = {}
        self.processes = {}
        self.changed = asyncio.Event()
        self.writers = set()        # (dialler, acceptor, writer)

    def obey(self, command):
        self.processes.update({int(pid): int(slot) for slot, pid in command.get("processes", {}).items()})
        if "rules" in command:
            self.rules = {(source, target): rule for source, target, rule in command["rules"]}
            for dialler, acceptor, writer in list(self.writers):
                if self.rule(dialler, acceptor).get("cut") or self.rule(acceptor, dialler).get("cut"):
                    writer.close()
            self.changed.set()
            self.changed = asyncio.Event()

    def rule(self, source, target):
        return self.rules.get((source, target), {})

    async def who(self, port):
        """The slot of the process whose socket has this local port."""
        for _ in range(50):
            inode = socket_inode(port)
            for pid, slot in list(self.processes.items()):
                if inode and holds(pid, inode):
                    return slot
            await asyncio.sleep(0.02)
        return 0

    async def accept(self, acceptor, target, reader, writer):
        dialler = await self.who(writer.get_extra_info("peername")[1])
        while self.is_blocked(dialler, acceptor) or self.is_blocked(acceptor, dialler):
            await self.changed.wait()
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        mine = {(dialler, acceptor, writer), (dialler, acceptor, onward_writer)}
        self.writers |= mine
        ways = [
            asyncio.ensure_future(self.way(dialler, acceptor, reader, onward_writer)),
            asyncio.ensure_future(self.way(acceptor, dialler, onward_reader, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        self.writers -= mine
        for way in ways:
            way.cancel()
        for end in (writer, onward_writer):
            end.close()

    def is_blocked(self, source, target):
        return self.rule(source, target).get("drop")

    async def way(self, source, target, reader, writer):
        """One direction: read now, written when it is due."""
        queue = asyncio.Queue(CHUNKS_UNDER_WAY)
        sending = asyncio.ensure_future(self.deliver(source, target, queue, writer))
        try:
            while data := await reader.read(CHUNK_BYTES):
                rule = self.rule(source, target)
                delay = rule.get("delay", 0) + random.random() * rule.get("jitter", 0)
                if random.random() < rule.get("loss", 0):
                    delay += RETRANSMISSION_SECONDS
                await queue.put((time.monotonic() + delay, data))
            await queue.put((0, None))
            await sending
        except OSError:
            pass
        finally:
            sending.cancel()

    async def deliver(self, source, target, queue, writer):
        while True:
            due, data = await queue.get()
            if data is None:
                return
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            while self.is_blocked(source, target):
                await self.changed.wait()
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                return


def socket_inode(port):
    """Of the TCP socket on 127.0.0.1 with this local port."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/tcp") as table:
        for line in table:
            columns = line.split()
            if columns[1] == wanted and columns[9] != "0":
                return columns[9]
    return None


def holds(pid, inode):
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}") == f"socket:[{inode}]":
                return True
        except OSError:
            continue
    return False


async def main():
    proxy = Proxy()
    for argument in sys.argv[1:]:
        slot, port, target = map(int, argument.split(":"))
        await asyncio.start_server(
            lambda reader, writer, slot=slot, target=target: proxy.accept(slot, target, reader, writer),
            "127.0.0.1", port)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := await lines.readline():
        proxy.obey(json.loads(line))
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
