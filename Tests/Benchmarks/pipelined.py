"""A cheap HTTP/1.1 client for the hook: prepared requests on many connections, several on their way on each.

What it sends is laid out before the clock starts, so that the server and not this script is the limit."""

import selectors
import socket
import time


class Connection:
    def __init__(self, port, requests, depth):
        """`requests`: byte strings, sent round and round; `depth`: how many may be unanswered."""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = requests
        self.depth = depth
        self.next = 0
        self.rest = b""
        self.answered = 0

    def send(self, count):
        end = self.next + count
        self.socket.sendall(b"".join(self.requests[i % len(self.requests)] for i in range(self.next, end)))
        self.next = end

    def receive(self):
        """The number of answers that have come. Only statuses and lengths are looked at."""
        data = self.rest + self.socket.recv(1 << 16)
        if not data:
            raise SystemExit("the server closed a connection of the load")
        count = 0
        position = 0
        while True:
            end = data.find(b"\r\n\r\n", position)
            if end < 0:
                break
            head = data[position:end]
            if not head.startswith(b"HTTP/1.1 2"):
                raise SystemExit(f"the hook answered {head.splitlines()[0]!r}")
            place = head.lower().find(b"content-length:")
            length = int(head[place + 15:].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if end + 4 + length > len(data):
                break
            position = end + 4 + length
            count += 1
        self.rest = data[position:]
        return count


def run(port, request_lists, depth, seconds):
    """Drives one connection per list of requests. Returns (answers, seconds)."""
    selector = selectors.DefaultSelector()
    connections = [Connection(port, requests, depth) for requests in request_lists]
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    start = time.monotonic()
    for connection in connections:
        connection.send(depth)
    total = 0
    while time.monotonic() - start < seconds:
        for key, _ in selector.select(timeout=1):
            count = key.data.receive()
            total += count
            if count:
                key.data.send(count)
    elapsed = time.monotonic() - start
    for connection in connections:
        connection.socket.close()
    selector.close()
    return total, elapsed


def post(path, body=b""):
    return b"POST %s HTTP/1.1\r\nHost: leasehold\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
