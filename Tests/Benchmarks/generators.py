"""The load generators as functions: how much was done, in how many seconds, with which latencies."""

import os
import re
import subprocess
import tempfile


class Outcome:
    """`count`: what was done; `refused`: what was asked for besides."""

    def __init__(self, count, seconds, p50_ms=None, p99_ms=None, refused=0):
        self.count = count
        self.seconds = seconds
        self.p50_ms = p50_ms
        self.p99_ms = p99_ms
        self.refused = refused


def run(command):
    return run_together([command])[0]


def run_together(commands):
    """All at once; the output of each."""
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for command in commands]
    ended = [process.communicate() for process in running]
    for command, process, (output, errors) in zip(commands, running, ended):
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{output[-1000:]}{errors[-1000:]}")
    return [output for output, _ in ended]


# ---- etcd's benchmark tool -------------------------------------------------------------------------------------------

def benchmark(tool, server, connections, callers, total, arguments, may_refuse=False):
    """Connection after connection goes to the server's URLs in turn. `may_refuse`: a server that answers "too many
    requests" is part of the figure and no failure."""
    endpoints = ",".join(url if server.identity else url.removeprefix("http://") for url in server.urls())
    command = [tool, f"--endpoints={endpoints}", f"--conns={connections}", f"--clients={callers}", "--precise"]
    if server.identity:
        command += server.identity.client_flags()
    text = run([*command, *arguments, f"--total={total}"])
    _, _, errors = text.partition("Error distribution")
    refused = sum(int(number) for number in re.findall(r"\[(\d+)\]\t", errors))
    if errors and (not may_refuse or refused >= total):
        raise SystemExit(f"{server.name}: {' '.join(arguments)}: {text[-1000:]}")
    seconds = float(re.search(r"Total:\s+([0-9.]+) secs", text)[1])
    latency = {share: float(value) * 1000 for share, value in re.findall(r"(\d+)% in ([0-9.e-]+) secs", text)}
    return Outcome(total - refused, seconds, latency.get("50"), latency.get("99"), refused)


# ---- h2load ----------------------------------------------------------------------------------------------------------

def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    """A protobuf field: bytes or a non-negative integer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def frame(message):
    """As gRPC sends it: a flag, the length, the message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def milliseconds(seconds):
    return f"{int(seconds * 1000)}ms"


def h2load_grpc(server, method, body, seconds, connections, streams, least_answer_bytes, messages=1):
    """`least_answer_bytes`: what a good answer has at least; a refusal has an empty body and status 200 all the same.
    Where the server has several URLs each has an equal part of the connections, by an h2load of its own."""
    urls = server.urls()
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        texts = run_together([
            ["h2load", "-D", milliseconds(seconds), "-c", str(connections // len(urls)), "-m", str(streams), "-d",
             file.name, "-H", "content-type: application/grpc", "-H", "te: trailers", url + method] for url in urls])
    count = 0
    for text in texts:
        done = succeeded(server.name, method, text)
        data = int(re.search(r"\((\d+)\) data", text)[1])
        if data < done * least_answer_bytes:
            raise SystemExit(f"{server.name} refuses {method}: {data} bytes in {done} answers")
        count += done
    return Outcome(count * messages, seconds)


def h2load_hits(port, paths, body, seconds, connections):
    """HTTP/1.1, one request at a time on each connection."""
    with tempfile.TemporaryDirectory() as folder:
        body_path = os.path.join(folder, "body")
        list_path = os.path.join(folder, "urls")
        with open(body_path, "wb") as out:
            out.write(body)
        with open(list_path, "w") as out:
            out.writelines(f"http://127.0.0.1:{port}{path}\n" for path in paths)
        text = run(["h2load", "--h1", "-D", milliseconds(seconds), "-c", str(connections), "-d", body_path, "-i", list_path])
    return Outcome(succeeded("leasehold", "hits", text), seconds)


def succeeded(server, what, text):
    numbers = re.search(r"requests: (\d+) total, .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", text)
    done, good, failed = int(numbers[2]), int(numbers[3]), int(numbers[4])
    if done == 0 or good < done or failed > 0:
        raise SystemExit(f"{server}: {what}: {numbers[0]}")
    return done
