"""A small etcd client for tests that ask many thousands of questions: blocking calls on Debian's python3-grpcio.

Each call says when it was sent and when it was answered, by this process's monotonic clock, and what became of it:
answered, refused (the server says that nothing happened) or unknown (nobody knows whether it happened).
"""

import os
import sys
import tempfile
import time
from pathlib import Path

# A connection that a killed server leaves behind is not worth a line on the terminal; children only exec.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
sys.path.append(str(Path(__file__).resolve().parents[1] / "Differential"))

import grpc
import protocol

_folder = tempfile.TemporaryDirectory(prefix="lh-protos-")
protocol.compile_protos(_folder.name)
_methods = protocol.load(_folder.name)

import kv_pb2 as kv
import rpc_pb2 as rpc

_methods |= {method.name: method for method in rpc.DESCRIPTOR.services_by_name["Auth"].methods}

# What the server decided, as opposed to what became of the connection.
REFUSALS = {
    grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ALREADY_EXISTS}
OPTIONS = [
    ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 1 << 28), ("grpc.max_send_message_length", 1 << 26),
    ("grpc.initial_reconnect_backoff_ms", 20), ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 100)]


class Call:
    """One request's fate. `answer` is None unless it was answered."""

    __slots__ = ("start", "end", "answer", "refusal", "error")

    def __init__(self, start):
        self.start = start
        self.end = self.answer = self.refusal = self.error = None

    @property
    def is_unknown(self):
        return self.answer is None and self.refusal is None


class EtcdClient:
    def __init__(self, port, seconds=60.0):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        self.seconds = seconds
        self._callables = {}

    def _callable(self, name):
        if name not in self._callables:
            method = _methods[name]
            make = self.channel.stream_stream if name in ("Watch", "LeaseKeepAlive") else self.channel.unary_unary
            self._callables[name] = make(
                f"/{method.containing_service.full_name}/{name}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=method.output_type._concrete_class.FromString)
        return self._callables[name]

    def call(self, name, request, seconds=None, is_patient=False, metadata=None):
        """Sends a request and waits for its fate; never raises for what the server or the connection does. A patient
        one waits for a connection too."""
        callable = self._callable(name)
        call = Call(time.monotonic())
        try:
            if name == "LeaseKeepAlive":
                call.answer = next(callable(
                    iter([request]), timeout=seconds or self.seconds, wait_for_ready=is_patient, metadata=metadata))
            else:
                call.answer = callable(
                    request, timeout=seconds or self.seconds, wait_for_ready=is_patient, metadata=metadata)
        except grpc.RpcError as error:
            call.error = f"{error.code().name}: {error.details()}"
            if error.code() in REFUSALS:
                call.refusal = error.details() or error.code().name
        except StopIteration:
            call.error = "the stream ended without an answer"
        call.end = time.monotonic()
        return call

    def ask(self, name, request, seconds=None):
        """The answer; anything else is an error of the test."""
        call = self.call(name, request, seconds, is_patient=True)
        if call.answer is None:
            raise AssertionError(f"{name}: {call.error}")
        return call.answer

    def watch(self, requests):
        return self._callable("Watch")(requests)

    def everything(self):
        """All keys at one revision: (revision, [KeyValue])."""
        answer = self.ask("Range", rpc.RangeRequest(key=b"\0", range_end=b"\0"))
        return answer.header.revision, list(answer.kvs)

    def close(self):
        self.channel.close()
