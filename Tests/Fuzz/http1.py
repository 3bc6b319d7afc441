"""Requests of HTTP/1.1, right and wrong, and JSON for the gateway."""

import json

from mutations import mutated, noise

PATHS = [
    "/health", "/version", "/metrics", "/livez", "/readyz?verbose", "/v3/kv/range", "/v3/kv/put",
    "/v3/kv/deleterange", "/v3/kv/txn", "/v3/kv/compaction", "/v3/watch", "/v3/lease/grant", "/v3/lease/keepalive",
    "/v3/lease/timetolive", "/v3/maintenance/status", "/v3/maintenance/hash", "/v3/auth/authenticate",
    "/v3beta/kv/range", "/v3/lock/lock", "/v3/election/leader", "/", "//", "/%00", "/v3/../v3/kv/range", "*", "x"]
# What these do on purpose could end the node's service, so they only ever get what cannot be read.
DANGEROUS_PATHS = ["/v3/cluster/member/add", "/v3/cluster/member/remove", "/v3/maintenance/alarm", "/v3/auth/enable"]
METHODS = ["GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PRI", "get", "", "M" * 300]
HEADERS = [
    "Host: x", "Connection: keep-alive", "Connection: close", "Connection: Upgrade", "Upgrade: websocket",
    "Upgrade: h2c", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Expect: 100-continue",
    "Content-Type: application/json", "Content-Type: application/grpc", "Accept-Encoding: gzip", "Authorization: x.1",
    "X: " + "y" * 9000, "x y: z", ": empty", "A:\tb", "Folded: a\r\n b", "Null: \0", "Content-Length: 18446744073709551616"]

BODIES = [
    {"key": "Zm9v"}, {"key": "Zm9v", "value": "YmFy", "lease": "0"}, {"key": "AA==", "range_end": "AA==", "limit": "5"},
    {"create_request": {"key": "Zm9v", "start_revision": "1"}}, {"TTL": "5", "ID": "0"}, {"ID": "77"}, {"revision": "1"},
    {"compare": [{"key": "Zm9v", "target": "VERSION", "result": "EQUAL", "version": "0"}],
     "success": [{"request_put": {"key": "Zm9v", "value": "YmFy"}}], "failure": [{"request_range": {"key": "Zm9v"}}]},
    {"name": "Zm9v", "lease": "1"}, {"name": "root", "password": "x"}, {}]


def value(draw, depth=0):
    """Any JSON, also what Python's encoder would not write."""
    kind = draw.randrange(9 if depth < 6 else 6)
    match kind:
        case 0: return draw.choice(["null", "true", "false", "NaN", "nul", ""])
        case 1: return draw.choice(["0", "-0", "1e999", "9223372036854775808", "-1", "0.5", "1" * 400, "01", "+1"])
        case 2: return json.dumps(draw.choice(["", "Zm9v", "Zm9", "====", "\u0000", "😀", "a" * 3000, "\ud800"]))
        case 3: return '"\\u12' + draw.choice(["", "zz", '34"'])
        case 4: return "[" * draw.choice([1, 10, 5000]) + draw.choice(["", "]"])
        case 5: return json.dumps(draw.choice(BODIES))
        case 6: return "[" + ",".join(value(draw, depth + 1) for _ in range(draw.randrange(4))) + "]"
        case _:
            names = ["key", "value", "range_end", "rangeEnd", "limit", "compare", "success", "request_put", "ID", "x"]
            return "{" + ",".join(
                f'"{draw.choice(names)}":{value(draw, depth + 1)}' for _ in range(draw.randrange(5))) + "}"


def body(draw):
    text = json.dumps(draw.choice(BODIES)) if draw.random() < 0.5 else value(draw)
    data = text.encode(errors="surrogatepass")
    return mutated(draw, data) if draw.random() < 0.5 else data


def request(draw):
    path, method = draw.choice(PATHS), draw.choice(METHODS)
    content = body(draw) if draw.random() < 0.7 else noise(draw, 3000)
    if draw.random() < 0.05:
        path, method, content = draw.choice(DANGEROUS_PATHS), "POST", content + b"\xff{"
    lines = [f"{method} {path} {draw.choice(['HTTP/1.1', 'HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0', 'HTTP/9.9', ''])}"]
    lines += draw.choices(HEADERS, k=draw.randrange(6))
    match draw.randrange(5):
        case 0 | 1: lines.append(f"Content-Length: {len(content)}")
        case 2: lines.append(f"Content-Length: {draw.choice([0, 1, len(content) + 7, -1, 1 << 40])}")
        case 3:
            lines.append("Transfer-Encoding: chunked")
            size = draw.choice([f"{len(content):x}", "FFFFFFFFFFFFFFFFF", "-1", "x", "0", f"{len(content):x};ext=1"])
            content = size.encode() + b"\r\n" + content + b"\r\n0\r\n\r\n"
    data = ("\r\n".join(lines) + "\r\n\r\n").encode(errors="surrogatepass") + content
    return mutated(draw, data) if draw.random() < 0.3 and path not in DANGEROUS_PATHS else data


def requests(draw):
    return b"".join(request(draw) for _ in range(draw.choice([1, 1, 1, 3, 10])))
