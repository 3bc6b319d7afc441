"""Watch streams as one client sees them: what each watch was sent, taken apart so that it can be compared.

How events are packed into responses depends on timing, so a watch's events are one list, and the promises that a
response makes (ascending revisions, none torn apart, a header not older than its events, fragments that are small) are
checked as it comes.
"""

import collections
import copy
import queue
import threading
import time

import grpc

from protocol import as_bytes, plain, with_plain_header

GUARD_KEY = "~"
GUARD_ID = 99
WAIT_SECONDS = 10
# A range that holds nothing is refused at once.
IMPOSSIBLE = {"key": "b", "range_end": "a"}
# What a fragment may hold, and the largest event of the generator's beyond it (a fragment has at least one).
FRAGMENT_BYTES = 2 * 1024 * 1024 + 256 * 1024


class TimedOut(Exception):
    pass


class Watch:
    """One watch at one server, from the request that made it on. Events are messages."""

    def __init__(self, request, start):
        self.request = request
        # The revision asked for.
        self.start = start
        self.created = None
        self.events = []
        self.cancelled = []
        self.complaints = []
        self.fragments = 0
        # The highest revision that a progress notification has named: no event up to there may follow.
        self.told = 0
        self._torn = False

    @property
    def is_refused(self):
        return self.created is not None and self.created.canceled

    def take(self, response):
        if response.canceled:
            self.cancelled.append(response)
        elif not response.events:
            self._take_progress(response)
        if response.fragment:
            self.fragments += 1
        if self.request.get("fragment") and len(response.events) > 1 and response.ByteSize() > FRAGMENT_BYTES:
            self.complaints.append(f"a fragment of {response.ByteSize()} bytes")
        elif response.fragment and not self.request.get("fragment"):
            self.complaints.append("a fragment that nobody asked for")
        last = self.last_revision
        for index, event in enumerate(response.events):
            revision = event.kv.mod_revision
            if revision < last:
                self.complaints.append(f"revision {revision} after {last}")
            if revision == last and index == 0 and not self._torn:
                self.complaints.append(f"revision {revision} is torn apart")
            if revision > response.header.revision:
                self.complaints.append(f"revision {revision} under the header's {response.header.revision}")
            if revision <= self.told:
                self.complaints.append(f"revision {revision} after progress told of {self.told}")
            last = revision
        self.events.extend(response.events)
        self._torn = response.fragment

    def _take_progress(self, response):
        """When it comes is the server's affair (etcd: every ten minutes; Leasehold: before a compaction, too), but it must
        be true."""
        if not self.request.get("progress_notify"):
            self.complaints.append(f"an empty response: {plain(response)}")
        if response.header.revision < self.last_revision:
            self.complaints.append(f"progress tells of {response.header.revision} after {self.last_revision}")
        self.told = max(self.told, response.header.revision)

    @property
    def last_revision(self):
        return self.events[-1].kv.mod_revision if self.events else 0

    def so_far(self):
        """A copy that stays as it is."""
        frozen = copy.copy(self)
        frozen.events, frozen.cancelled = list(self.events), list(self.cancelled)
        frozen.complaints = list(self.complaints)
        return frozen

    def is_same(self, other):
        return (
            self.created == other.created and self.events == other.events and self.cancelled == other.cancelled
            and self.complaints == other.complaints)

    def facts(self, names):
        """What is compared, in dictionaries."""
        return {
            "created": self.created and plain(self.created, names),
            "events": [plain(event, names) for event in self.events],
            "cancelled": [plain(response, names) for response in self.cancelled], "complaints": list(self.complaints)}


class Wanted:
    """Which events a watch with this request sees, its start revision aside."""

    def __init__(self, request):
        self.key = as_bytes(request.get("key", "")) or b"\0"
        self.end = as_bytes(request.get("range_end", ""))
        self.filters = request.get("filters", [])

    def __call__(self, event):
        key = event.kv.key
        if event.type in self.filters:
            return False
        if not self.end:
            return key == self.key
        return key >= self.key and (self.end == b"\0" or key < self.end)


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
        watch = Watch(fields, request.create_request.start_revision)
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
            return {"strays": [plain(response) for response in self.strays], "end": self.end}

    def _read(self):
        try:
            for response in self._call:
                with self._changed:
                    self._take(with_plain_header(response))
                    self._changed.notify_all()
            end = "the server ended the stream"
        except grpc.RpcError as error:
            end = f"{error.code().name}: {error.details()}"
        with self._changed:
            self.end = end
            self._changed.notify_all()

    def _take(self, response):
        if response.created and self._pending:
            watch = self._pending.popleft()
            watch.created = response
            if not response.canceled:
                self._by_id[response.watch_id] = watch
        elif response.watch_id in self._by_id:
            self._by_id[response.watch_id].take(response)
        elif response.watch_id == -1 and not response.events and not response.canceled:
            self.progress.append(response)
        else:
            self.strays.append(response)
