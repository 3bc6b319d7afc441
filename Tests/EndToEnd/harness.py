"""Starts the real thing and talks to it: a TLS `leasehold node`, etcd as the control, nginx, etcdctl, the sockets.

Nothing here sleeps for a fixed time to "give it a moment": every wait polls a condition and names it when it fails.
Every process dies with this one (PR_SET_PDEATHSIG), every folder is temporary, every port is the kernel's choice.
"""

import contextlib
import http.client
import json
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# nginx and etcd may live in /usr/sbin, which a user's PATH does not hold.
os.environ["PATH"] += ":/usr/sbin:/sbin"


def leasehold():
    """The executable under test: $LEASEHOLD, or the release build of this repository."""
    if "LEASEHOLD" not in os.environ:
        folder = subprocess.run(
            ["swift", "build", "-c", "release", "--show-bin-path"], cwd=REPOSITORY, check=True, capture_output=True,
            text=True).stdout.strip()
        os.environ["LEASEHOLD"] = f"{folder}/leasehold"
    return os.environ["LEASEHOLD"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=20.0, interval=0.02):
    """Polls until `condition()` is true and returns its value. `what` ends the sentence "… did not happen"."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {seconds:g} s")
        time.sleep(interval)


# An interrupt that a shell lets its background commands ignore would be inherited; tests interrupt with it. These are
# programs that become the next one, and no Python between fork and exec: that can hang in a process with threads.
_OFFSPRING = ["env", "--default-signal=INT", "setpriv", "--pdeathsig", "KILL"]


def spawn(arguments, log, limits=None, env=None, **options):
    """A background process whose output goes to the file `log` and which cannot outlive this one. `limits`: names as
    `prlimit` has them."""
    beginning = [*_OFFSPRING]
    if limits:
        beginning += ["prlimit", *(f"--{name}={value}:{value}" for name, value in limits.items())]
    environment = dict(os.environ if env is None else env)
    preload = environment.pop("LD_PRELOAD", None)
    if preload:
        beginning += ["env", f"LD_PRELOAD={preload}"]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*beginning, *(str(argument) for argument in arguments)], stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", output), stderr=output, env=environment, **options)


def run(*arguments, input=None, timeout=30, environment=None):
    """Runs a command to its end. stdout and stderr as text."""
    return subprocess.run(
        [str(argument) for argument in arguments], input=input, capture_output=True, text=True, timeout=timeout,
        env={**os.environ, **(environment or {})})


def tail(path, lines=15):
    try:
        return "\n".join(Path(path).read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no output)"


class Workspace:
    """A temporary folder and what runs in it. Paths are short, because a Unix socket's path has 107 bytes."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="lh-"))
        self._exits = contextlib.ExitStack()
        self._exits.callback(shutil.rmtree, self.path, ignore_errors=True)

    def __str__(self):
        return str(self.path)

    def __truediv__(self, name):
        return self.path / name

    def own(self, thing):
        """Stops `thing` (anything with `stop`) when the workspace ends, last one first."""
        self._exits.callback(thing.stop)
        return thing

    def close(self):
        self._exits.close()


class PKI:
    """A private CA made by `leasehold pki`, with a certificate for the node and one for an operator."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.make("init")
        self.make("issue", "--name", "node", "--server", "--client", "--host", "127.0.0.1", "--host", "localhost")
        self.make("issue", "--name", "operator", "--client")

    def make(self, *arguments):
        result = run(leasehold(), "pki", arguments[0], "--dir", self.folder, *arguments[1:])
        if result.returncode != 0:
            raise AssertionError(f"leasehold pki {' '.join(arguments)}: {result.stderr}")

    @property
    def authority(self):
        return self.folder / "ca.crt"

    def certificate(self, name):
        return self.folder / f"{name}.crt"

    def key(self, name):
        return self.folder / f"{name}.key"

    def client_context(self, name="operator"):
        context = ssl.create_default_context(cafile=str(self.authority))
        if name:
            context.load_cert_chain(self.certificate(name), self.key(name))
        return context


class Server:
    """What a Leasehold node and an etcd member have in common: one TLS client port with etcd's flags on it."""

    program = "?"

    def __init__(self, space, pki, name="default", tls=True):
        self.space, self.pki, self.name, self.tls = space, pki, name, tls
        self.port = free_port()
        self.data = space / f"{self.program}-{name}"
        self.log = space / f"{self.program}-{name}.log"
        self.process = None
        self.prefix = []          # a command that becomes the server by exec
        self.environment = {}     # beside this process's own
        self.limits = {}          # as `spawn` takes them

    @property
    def endpoint(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def client_flags(self):
        flags = [
            "--name", self.name, "--data-dir", self.data, "--listen-client-urls", self.endpoint,
            "--advertise-client-urls", self.endpoint]
        if self.tls:
            flags += [
                "--cert-file", self.pki.certificate("node"), "--key-file", self.pki.key("node"), "--client-cert-auth",
                "--trusted-ca-file", self.pki.authority]
        return flags

    def command(self):
        raise NotImplementedError

    def spawn(self):
        """Starts the process without waiting for anything."""
        self.process = spawn(
            [*self.prefix, *self.command()], self.log, limits=self.limits, env={**os.environ, **self.environment})
        return self

    def start(self, seconds=30):
        self.spawn()
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=30):
        wait_until(self.is_healthy, f"{self.program}'s health (its log: {self.log})", seconds)

    def is_healthy(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.program} ended with {self.process.returncode}:\n{tail(self.log)}")
        try:
            status, body = self.get("/health", timeout=2)
            return status == 200 and json.loads(body)["health"] == "true"
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def get(self, path, timeout=10):
        """GET over the client port; status and body."""
        if self.tls:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=timeout, context=self.pki.client_context())
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metrics(self):
        return parse_metrics(self.get("/metrics")[1])

    @property
    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9, and wait until the process is gone."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """As an operator stops it: SIGTERM. Returns the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"{self.program} did not end within 15 s of SIGTERM:\n{tail(self.log)}") from None
        return self.process.returncode

    def etcdctl_flags(self, user="operator"):
        flags = ["--endpoints", self.endpoint]
        if self.tls:
            flags += ["--cacert", self.pki.authority]
            if user:
                flags += ["--cert", self.pki.certificate(user), "--key", self.pki.key(user)]
        return flags

    def etcdctl(self, *arguments, input=None, timeout=30, user="operator"):
        return run(
            "etcdctl", *self.etcdctl_flags(user), *arguments, input=input, timeout=timeout,
            environment={"ETCDCTL_API": "3"})


class Etcd(Server):
    """The control: Debian's etcd."""

    program = "etcd"

    def command(self):
        peer = f"http://127.0.0.1:{free_port()}"
        return [
            "etcd", *self.client_flags(), "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"{self.name}={peer}", "--log-level", "error"]


class Node(Server):
    """A `leasehold node`, with the sidecar when `caches` are given ("NAME:ttl=10s,…")."""

    program = "node"

    def __init__(self, space, pki, name="n0", tls=True, caches=(), extra=()):
        super().__init__(space, pki, name, tls)
        self.caches = list(caches)
        self.extra = list(extra)
        self.api_path = space / f"{name}-api.sock"
        self.events_path = space / f"{name}-events.sock"
        self.hits_path = space / f"{name}-hits.sock"

    def command(self):
        command = [leasehold(), "node", *self.client_flags(), *self.extra]
        if self.caches:
            command += ["--sidecar-api", f"unix:{self.api_path}", "--sidecar-events", self.events_path]
            for cache in self.caches:
                command += ["--cache", cache]
        return command

    def is_healthy(self):
        if not super().is_healthy():
            return False
        if not self.caches:
            return True
        try:
            with contextlib.closing(self.api(timeout=2)) as api:
                return api.call("GET", "/health")[0] == 200 and self.events_path.exists()
        except (OSError, http.client.HTTPException):
            return False

    def api(self, timeout=15):
        return UnixHTTP(self.api_path, timeout)

    def call(self, method, path, body=None):
        """One request to the sidecar's API: status and parsed answer."""
        with contextlib.closing(self.api()) as api:
            return api.call(method, path, body)

    def entry(self, cache, key):
        """The entry as the API shows it, None when there is none."""
        status, answer = self.call("GET", f"/v1/caches/{cache}/entries/{key}")
        if status == 404:
            return None
        if status != 200:
            raise AssertionError(f"{status} {answer}")
        return answer

    def entries(self, cache, state=None):
        """All entries of a cache by key."""
        found, after = {}, None
        with contextlib.closing(self.api()) as api:
            while True:
                path = f"/v1/caches/{cache}/entries?limit=1000"
                path += f"&state={state}" if state else ""
                path += f"&after={after}" if after else ""
                status, page = api.call("GET", path)
                if status != 200:
                    raise AssertionError(f"{status} {page}")
                found.update((entry["key"], entry) for entry in page["entries"])
                after = page.get("next")
                if after is None:
                    return found

    def totals(self, cache):
        return self.call("GET", f"/v1/caches/{cache}")[1]["entries"]

    def sidecar_metrics(self):
        with contextlib.closing(self.api()) as api:
            return parse_metrics(api.text("GET", "/metrics"))

    def subscribe(self, name, **options):
        lines = LineClient(self.events_path)
        lines.send({"op": "sub", "name": name, **options})
        return lines

    def log_bytes(self):
        """Bytes in use in the log's segments: segments are zero-filled ahead, so up to the last byte that is not 0."""
        return sum(used_bytes(path) for path in (self.data / "member" / "wal").iterdir() if path.is_file())


def used_bytes(path, block=1 << 20):
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            content = file.read(end - start).rstrip(b"\0")
            if content:
                return start + len(content)
            end = start
    return 0


def parse_metrics(text):
    """Prometheus' text format as {"name{labels}": value}."""
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    return values


def total(metrics, name, **labels):
    """The sum of a metric over all samples that have these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value for sample, value in metrics.items()
        if sample.split("{")[0] == name and all(label in sample for label in wanted))


class UnixHTTP(http.client.HTTPConnection):
    """HTTP/1.1 over a Unix socket, kept alive between calls."""

    def __init__(self, path, timeout=15):
        super().__init__("sidecar", timeout=timeout)
        self._path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def call(self, method, path, body=None):
        """Status and parsed JSON (None for an empty answer). A `body` that is no text or bytes is sent as JSON."""
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        self.request(method, path, body=body.encode() if isinstance(body, str) else body)
        answer = self.getresponse()
        content = answer.read()
        self.content_type = answer.headers.get_content_type()
        return answer.status, json.loads(content) if content else None

    def text(self, method, path):
        self.request(method, path)
        return self.getresponse().read().decode()


class LineClient:
    """A typist on the event socket: sends lines, reads JSON lines, keeps what nobody has asked for yet."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self._buffer = b""
        self.lines = []
        self.is_closed = False

    def send(self, line):
        """A text is sent as it is, anything else as JSON."""
        text = line if isinstance(line, (str, bytes)) else json.dumps(line)
        self.socket.sendall((text.encode() if isinstance(text, str) else text) + b"\n")

    def receive(self, seconds=0.0):
        """Takes in what comes within `seconds`, at least one read; true when there was something."""
        if self.is_closed or not select.select([self.socket], [], [], seconds)[0]:
            return False
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            self.is_closed = True
            return False
        *complete, self._buffer = (self._buffer + data).split(b"\n")
        self.lines += [json.loads(line) for line in complete if line]
        return True

    def expect(self, kind, seconds=15.0, **fields):
        """The first line of this kind with these fields; lines before it stay. Batches are looked into."""
        end = time.monotonic() + seconds
        while True:
            for index, line in enumerate(self.lines):
                if line["t"] == kind and all(line.get(name) == value for name, value in fields.items()):
                    return self.lines.pop(index)
            remaining = end - time.monotonic()
            if remaining <= 0 or self.is_closed:
                what = "closed" if self.is_closed else f"{seconds:g} s passed"
                raise AssertionError(f"no {kind} {fields or ''} came ({what}); there are {self.lines[-5:]}")
            self.receive(remaining)

    def events(self):
        """The evict events among the lines so far, batches taken apart. They stay."""
        found = []
        for line in self.lines:
            if line["t"] == "evict":
                found += line.get("items", [line])
        return found

    def stop(self):
        self.socket.close()

    close = stop


class Background:
    """A process of another program, stopped with the workspace."""

    def __init__(self, space, name, arguments, **options):
        self.log = space / f"{name}.log"
        self.name = name
        self.process = spawn(arguments, self.log, **options)

    def text(self):
        return self.log.read_text(errors="replace")

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


class Nginx(Background):
    """Stock nginx as a WebDAV build cache: `/cache/…`, each request logged by `access_log`."""

    def __init__(self, space, access_log):
        self.port = free_port()
        self.blobs = space / "blobs"
        (self.blobs / "cache").mkdir(parents=True)
        folder = space / "nginx"
        folder.mkdir()
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = " ".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "nginx.conf").write_text(f"""
daemon off; pid {folder}/pid; error_log {folder}/error.log warn; worker_processes 1; {user}
events {{ }}
http {{
  access_log off; {temporary}
  log_format leasehold '$request_method $status $content_length $uri';
  server {{
    listen 127.0.0.1:{self.port};
    location /cache/ {{
      root {self.blobs}; dav_methods PUT DELETE; create_full_put_path on; client_max_body_size 100m;
      access_log {access_log} leasehold;
    }}
  }}
}}
""")
        super().__init__(space, "nginx", ["nginx", "-e", folder / "error.log", "-c", folder / "nginx.conf"])
        space.own(self)
        wait_until(self._answers, "nginx's first answer", 10)

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"nginx ended with {self.process.returncode}:\n{self.text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/cache"

    def files(self):
        return [path for path in (self.blobs / "cache").rglob("*") if path.is_file() and ".leasehold-trash" not in path.parts]


def one_line(text):
    """The one line that a refusal consists of; anything else is an error."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise AssertionError(f"one line was expected, not {len(lines)}: {text!r}")
    return lines[0]


def masked(text, *patterns):
    for pattern, replacement in patterns:
        text = re.sub(pattern, replacement, text)
    return text


if __name__ == "__main__":
    sys.exit("this is a library; run Tests/run, or: python3 -m unittest in this folder")
