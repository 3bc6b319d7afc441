"""Calls with a token, whatever their fate, as one line each: for tables of who may do what."""

import grpc

from etcd_client import OPTIONS, rpc

SERVICES = ("KV", "Lease", "Watch", "Maintenance", "Cluster", "Auth")
METHODS = {
    method.name: method
    for service in SERVICES for method in rpc.DESCRIPTOR.services_by_name[service].methods}
# What is worth comparing of an answer; of others only that there is one.
TOLD = {
    "Range": lambda answer: [pair.key for pair in answer.kvs] + [answer.count],
    "Put": lambda answer: answer.prev_kv.value,
    "DeleteRange": lambda answer: [answer.deleted] + [pair.key for pair in answer.prev_kvs],
    "Txn": lambda answer: answer.succeeded,
    "UserGet": lambda answer: list(answer.roles),
    "UserList": lambda answer: list(answer.users),
    "RoleGet": lambda answer: [(p.permType, p.key, p.range_end) for p in answer.perm],
    "RoleList": lambda answer: list(answer.roles),
}


class AuthClient:
    def __init__(self, port, credentials=None, seconds=20):
        target, options = f"127.0.0.1:{port}", OPTIONS
        if credentials:
            self.channel = grpc.secure_channel(target, credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(target, options=options)
        self.target = target
        self.seconds = seconds

    def _call(self, name, request, token):
        method = METHODS[name]
        kind = ("stream" if method.name in ("Watch", "LeaseKeepAlive") else "unary") + (
            "_stream" if method.name in ("Watch", "LeaseKeepAlive", "Snapshot") else "_unary")
        callable = getattr(self.channel, kind)(
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=method.output_type._concrete_class.FromString)
        sent = iter([request]) if kind.startswith("stream") else request
        answer = callable(
            sent, timeout=self.seconds, metadata=[("token", token)] if token else None, wait_for_ready=True)
        return next(answer) if kind.endswith("stream") else answer

    def ask(self, name, request, token=None):
        return self._call(name, request, token)

    def fate(self, name, request, token=None):
        """"OK …" or "CODE: text"."""
        try:
            answer = self._call(name, request, token)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        except StopIteration:
            return "ended without an answer"
        if name == "Watch" and answer.canceled:
            return f"canceled: {answer.cancel_reason}"
        return f"OK {TOLD[name](answer)}" if name in TOLD else "OK"

    def token(self, user, password):
        return self.ask("Authenticate", rpc.AuthenticateRequest(name=user, password=password)).token

    def close(self):
        self.channel.close()
