"""etcd's API without generated stubs: message classes made by protoc when the run starts, methods called by name.

Requests are plain dictionaries (so that a sequence can be printed, shrunk and replayed as JSON):
  * bytes are text in Latin-1, or {"repeat": text, "times": n} for long ones;
  * a 64-bit field may hold a reference that is resolved when the request is sent:
    "@now-1", "@base+2" and "@compact+0" are revisions relative to the store's present one, to the sequence's first
    one and to the one compacted last, "@auto0" is the first lease whose ID the server chose.
"""

import re
import subprocess
import sys
from pathlib import Path

import grpc

PROTOS = Path(__file__).resolve().parents[2] / "Sources" / "EtcdAPI" / "Protos"
CALL_SECONDS = 30
MAX_MESSAGE_BYTES = 1 << 26
SERVICES = ("KV", "Lease", "Watch", "Maintenance", "Cluster")
STREAMS = ("Watch", "LeaseKeepAlive")
# What only names the server, its place in the cluster or its disk: compared by whether it is there.
OWN_FIELDS = {
    "cluster_id", "member_id", "raft_term", "leader", "raftIndex", "raftTerm", "raftAppliedIndex", "dbSize",
    "dbSizeInUse", "hash", "peerURLs", "clientURLs"}


def compile_protos(folder):
    names = ["kv.proto", "auth.proto", "rpc.proto", "lock.proto", "election.proto", "health.proto"]
    subprocess.run(["protoc", f"--python_out={folder}", f"--proto_path={PROTOS}", *names], check=True)


def load(folder):
    """What `compile_protos` has put into `folder` as {method name: descriptor}."""
    sys.path.insert(0, str(folder))
    import rpc_pb2
    return {
        method.name: method
        for service in SERVICES for method in rpc_pb2.DESCRIPTOR.services_by_name[service].methods}


def message(descriptor, fields, resolve):
    """A message of this type filled from a dictionary."""
    built = descriptor._concrete_class()
    _fill(built, fields, resolve)
    return built


def as_bytes(value):
    if isinstance(value, dict):
        value = value.get("repeat", "") * value.get("times", 1)
    return value.encode("latin-1")


def _fill(target, fields, resolve):
    for name, value in fields.items():
        field = target.DESCRIPTOR.fields_by_name[name]
        is_repeated = field.label == field.LABEL_REPEATED
        if field.message_type is not None:
            for item in value if is_repeated else [value]:
                inner = getattr(target, name).add() if is_repeated else getattr(target, name)
                inner.SetInParent()
                _fill(inner, item, resolve)
        elif is_repeated:
            getattr(target, name).extend(value)
        elif field.type == field.TYPE_BYTES:
            setattr(target, name, as_bytes(value))
        else:
            setattr(target, name, resolve(value) if isinstance(value, str) else value)


def plain(received, lease_names=None):
    """A received message as a dictionary."""
    result = {}
    for field, value in received.ListFields():
        is_repeated = field.label == field.LABEL_REPEATED
        if field.name in OWN_FIELDS or (field.name == "ID" and received.DESCRIPTOR.name == "Member"):
            result[field.name] = f"{len(value)} set" if is_repeated else "set"
        elif is_repeated:
            result[field.name] = [_value(field, item, lease_names) for item in value]
        else:
            result[field.name] = _value(field, value, lease_names)
    if len(received.UnknownFields()):
        result["unknown fields"] = [unknown.field_number for unknown in received.UnknownFields()]
    return result


def _value(field, value, lease_names):
    if field.message_type is not None:
        return plain(value, lease_names)
    if field.type == field.TYPE_BYTES:
        return value.decode("latin-1")
    if field.name in ("lease", "ID") and lease_names:
        return lease_names.get(value, value)
    return value


def with_plain_header(received):
    """The message itself, its header without the server's names (whether they are there is kept): two servers' answers
    can then be compared as messages, which is much quicker than as dictionaries."""
    if "header" in received.DESCRIPTOR.fields_by_name and received.HasField("header"):
        header = received.header
        header.cluster_id = bool(header.cluster_id)
        header.member_id = bool(header.member_id)
        header.raft_term = bool(header.raft_term)
    return received


class Resolver:
    """What the references in a sequence stand for, at one server."""

    def __init__(self, base):
        self.base = self.now = self.compact = base
        self.auto_leases = []

    def __call__(self, reference):
        kind, number = re.fullmatch(r"@(now|base|compact|auto)([+-]?\d+)", reference).groups()
        if kind == "auto":
            # A lease that was never granted has an ID that nobody has.
            return self.auto_leases[int(number)] if int(number) < len(self.auto_leases) else 0x5EED_0000 + int(number)
        return getattr(self, kind) + int(number)

    def number(self, value):
        return self(value) if isinstance(value, str) else value

    @property
    def lease_names(self):
        return {lease: f"@auto{index}" for index, lease in enumerate(self.auto_leases)}


class Client:
    """One server's methods by name."""

    def __init__(self, port, methods):
        self.methods = methods
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[
            ("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1)])
        self._callables = {}

    def callable(self, name):
        if name not in self._callables:
            method = self.methods[name]
            make = self.channel.stream_stream if name in STREAMS else self.channel.unary_unary
            self._callables[name] = make(
                f"/{method.containing_service.full_name}/{name}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=method.output_type._concrete_class.FromString)
        return self._callables[name]

    def request(self, name, fields, resolve):
        return message(self.methods[name].input_type, fields, resolve)

    def call(self, name, request):
        """(response, None) or (None, error)."""
        try:
            if name in STREAMS:
                return next(self.callable(name)(iter([request]), timeout=CALL_SECONDS)), None
            return self.callable(name)(request, timeout=CALL_SECONDS), None
        except grpc.RpcError as error:
            return None, failure(error)
        except StopIteration:
            return None, {"error": "the stream ended without an answer"}

    def exchange(self, name, requests):
        """All answers on one stream, up to its end, and the error that was its end."""
        answers = []
        try:
            answers += self.callable(name)(iter(requests), timeout=CALL_SECONDS)
            return answers, None
        except grpc.RpcError as error:
            return answers, failure(error)

    def start(self, name, request):
        """Sends a request without waiting; a function that returns what `call` does."""
        future = self.callable(name).future(request, timeout=CALL_SECONDS)

        def finish():
            try:
                return future.result(), None
            except grpc.RpcError as error:
                return None, failure(error)
        return finish

    def watch(self, requests):
        return self.callable("Watch")(requests)

    def close(self):
        self.channel.close()


def failure(error):
    return {"error": error.code().name, "message": error.details()}
