"""A client of etcd's JSON gateway: requests, streams line by line, WebSockets. Standard library only."""

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import struct


def encoded(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def decoded(text):
    return base64.b64decode(text).decode()


class GatewayClient:
    """Speaks to one server, over TLS when the server does."""

    def __init__(self, server, seconds=15):
        self.server, self.seconds = server, seconds

    def connect(self):
        if self.server.tls:
            context = self.server.pki.client_context()
            return http.client.HTTPSConnection("127.0.0.1", self.server.port, timeout=self.seconds, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=self.seconds)

    def request(self, method, path, body=None, headers=None):
        """Status, headers and body of one request. A body that is no text is sent as JSON."""
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def post(self, path, body, headers=None):
        """Status and parsed answer."""
        status, _, text = self.request("POST", path, body, headers)
        return status, json.loads(text)

    def ask(self, path, body, headers=None):
        """The answer; anything but a success is an error of the test."""
        status, answer = self.post(path, body, headers)
        if status != 200:
            raise AssertionError(f"{path} {body}: {status} {answer}")
        return answer

    def put(self, key, value="", **fields):
        return self.ask("/v3/kv/put", {"key": encoded(key), "value": encoded(value), **fields})

    def stream(self, path, body, headers=None):
        return JSONStream(self, path, body, headers)

    def socket(self, path, protocol=None):
        return JSONSocket(self, path, protocol)


class JSONStream:
    """A request whose answer goes on, one JSON object a line."""

    def __init__(self, client, path, body, headers=None):
        self.connection = client.connect()
        self.connection.request("POST", path, body if isinstance(body, str) else json.dumps(body), headers or {})
        self.answer = None

    def start(self):
        """The status, when it is there (which may be with the first line only)."""
        if self.answer is None:
            self.answer = self.connection.getresponse()
        return self.answer.status

    def next(self):
        """The next object, None at the end."""
        self.start()
        line = self.answer.readline()
        return json.loads(line) if line else None

    def rest(self):
        return [json.loads(line) for line in iter(self.answer.readline, b"")] if self.start() else []

    def close(self):
        if self.connection.sock:
            self.connection.sock.close()
        if self.answer:
            self.answer.close()
        self.connection.close()

    stop = close


class JSONSocket:
    """The same over a WebSocket (RFC 6455), just enough of it."""

    KEY = "dGhlIHNhbXBsZSBub25jZQ=="

    def __init__(self, client, path, protocol=None):
        connection = client.connect()
        connection.connect()
        self.socket = connection.sock
        lines = [
            f"GET {path} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self.KEY}", "Sec-WebSocket-Version: 13"]
        if protocol:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.buffer = b""
        head = self._until(b"\r\n\r\n").decode()
        self.status = int(head.split()[1])
        self.headers = {
            name.lower(): value for name, value in re.findall(r"^([\w-]+): (.*?)\r?$", head, re.MULTILINE)}

    def _fill(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError
        self.buffer += data

    def _until(self, mark):
        while mark not in self.buffer:
            self._fill()
        taken, self.buffer = self.buffer.split(mark, 1)
        return taken + mark

    def _take(self, count):
        while len(self.buffer) < count:
            self._fill()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, value, first=0x81):
        body = (value if isinstance(value, str) else json.dumps(value)).encode()
        mask = os.urandom(4)
        length = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack(">H", len(body))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
        self.socket.sendall(bytes([first]) + length + mask + masked)

    def next(self):
        """The next message, None when the server has closed, with or without saying so."""
        try:
            first, second = self._take(2)
            count = second & 127
            if count == 126:
                (count,) = struct.unpack(">H", self._take(2))
            elif count == 127:
                (count,) = struct.unpack(">Q", self._take(8))
            body = self._take(count)
        except (EOFError, ConnectionResetError):
            return None
        if first & 15 == 8:
            return None
        text = body.decode()
        return json.loads(text) if text.startswith("{") else text

    def close(self):
        self.socket.close()

    stop = close


# What only names the server, its place in the cluster, its disk or the moment.
OWN_FIELDS = {
    "cluster_id", "member_id", "raft_term", "raftIndex", "raftTerm", "raftAppliedIndex", "dbSize", "dbSizeInUse", "hash",
    "clientURLs", "peerURLs", "remaining_bytes"}


def is_own(name, value, fields):
    """Whether a field is the server's own; some names have a second meaning, which is not."""
    if name == "leader":
        return isinstance(value, str)
    if name == "version":
        return "." in value
    return name in OWN_FIELDS or (name == "ID" and "peerURLs" in fields)


def normalised(value):
    """The same with what is the server's own replaced by whether it is there."""
    if isinstance(value, dict):
        return {
            name: "set" if is_own(name, inner, value) else normalised(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [normalised(inner) for inner in value]
    return value
