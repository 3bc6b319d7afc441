"""Watch streams as one client sees them: what each watch was sent, taken apart so that it can be compared.

How events are packed into responses depends on timing, so a watch's events are one list, and the promises that a
response makes (ascending revisions, none torn apart, a header not older than its events) are checked as it comes.
"""

import collections
import queue
import threading
import time

import grpc

from protocol import plain

GUARD_KEY = "~"
GUARD_ID = 99
WAIT_SECONDS = 5
# A range that holds nothing is refused at once.
IMPOSSIBLE = {"key": "b", "range_end": "a"}


class TimedOut(Exception):
    pass


class Watch:
    """One watch at one server, from the request that made it on."""

    def __init__(self, request):
        self.request = request
        self.created = None
        self.events = []
        self.cancelled = []
        self.complaints = []
        self._torn = False

    def take(self, response, lease_names):
        fields = plain(response, lease_names)
        events = fields.pop("events", [])
        if response.canceled:
            self.cancelled.append(fields)
        elif not events:
            self.complaints.append(f"an empty response: {fields}")
        for event in events:
            revision = event["kv"]["mod_revision"]
            last = self.events[-1]["kv"]["mod_revision"] if self.events else 0
            if revision < last:
                self.complaints.append(f"revision {revision} after {last}")
            if revision == last and event is events[0] and not self._torn:
                self.complaints.append(f"revision {revision} is torn apart")
            if revision > response.header.revision:
                self.complaints.append(f"revision {revision} under the header's {response.header.revision}")
            self.events.append(event)
        self._torn = response.fragment

    @property
    def last_revision(self):
        return self.events[-1]["kv"]["mod_revision"] if self.events else 0

    def facts(self):
        """What is compared."""
        return {
            "created": self.created, "events": list(self.events), "cancelled": list(self.cancelled),
            "complaints": list(self.complaints)}


def is_wanted(request, event):
    """Whether a watch with this request sees the event, its start revision aside."""
    kind = 1 if event.get("type") else 0
    if kind in request.get("filters", []):
        return False
    key, end = request.get("key", "") or "\0", request.get("range_end", "")
    found = event["kv"]["key"]
    if not end:
        return found == key
    return found >= key if end == "\0" else key <= found < end


class WatchStream:
    """A Watch call, read by a thread of its own."""

    def __init__(self, client, resolver):
        self._client, self._resolver = client, resolver
        self._requests = queue.Queue()
        self._changed = threading.Condition()
        self._pending = collections.deque()
        self._by_id = {}
        self.watches = []
        self.progress = []
        self.strays = []
        self.end = None
        self._call = client.watch(iter(self._requests.get, None))
        threading.Thread(target=self._read, daemon=True).start()

    def create(self, fields):
        """Sends the request and waits for its answer."""
        request = self._client.request("Watch", {"create_request": fields}, self._resolver)
        watch = Watch({**fields, "start": request.create_request.start_revision})
        with self._changed:
            self._pending.append(watch)
            self.watches.append(watch)
        self._requests.put(request)
        self.wait(lambda: watch.created, "the answer to a watch's creation")
        return watch

    def cancel(self, fields):
        """Cancels. No answer comes when there is no such watch, so an impossible creation behind it tells the end."""
        self._requests.put(self._client.request("Watch", {"cancel_request": fields}, self._resolver))
        self.create(IMPOSSIBLE)

    def ask_progress(self, is_answered):
        """Asks and gives back what was answered: etcd keeps silent in some cases."""
        with self._changed:
            count = len(self.progress)
        self._requests.put(self._client.request("Watch", {"progress_request": {}}, self._resolver))
        if is_answered:
            self.wait(lambda: len(self.progress) > count, "the answer to a progress request")
        self.create(IMPOSSIBLE)
        return self.progress[count:]

    def wait(self, condition, what):
        end = time.monotonic() + WAIT_SECONDS
        with self._changed:
            while not condition():
                remaining = end - time.monotonic()
                if remaining <= 0 or self.end:
                    raise TimedOut(f"{what} did not come ({self.end or f'{WAIT_SECONDS} s passed'})")
                self._changed.wait(remaining)

    def close(self):
        self._requests.put(None)
        self._call.cancel()

    def facts(self):
        with self._changed:
            return {"strays": list(self.strays), "end": self.end}

    def _read(self):
        try:
            for response in self._call:
                with self._changed:
                    self._take(response)
                    self._changed.notify_all()
            end = "the server ended the stream"
        except grpc.RpcError as error:
            end = f"{error.code().name}: {error.details()}"
        with self._changed:
            self.end = end
            self._changed.notify_all()

    def _take(self, response):
        names = self._resolver.lease_names
        if response.created and self._pending:
            watch = self._pending.popleft()
            watch.created = plain(response, names)
            if not response.canceled:
                self._by_id[response.watch_id] = watch
        elif response.watch_id in self._by_id:
            self._by_id[response.watch_id].take(response, names)
        elif response.watch_id == -1 and not response.events and not response.canceled:
            self.progress.append(plain(response, names))
        else:
            self.strays.append(plain(response, names))
