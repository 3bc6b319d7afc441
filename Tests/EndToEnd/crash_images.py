"""What a disk may hold after a crash, made from the journal that faults/record_disk.c writes.

The rules, as strict as POSIX allows a file system to be:
 * what a file held when its last fsync or fdatasync began is there, and so is a write through O_DSYNC;
 * of everything later (writes, truncations, allocations) each is kept, lost, or, a write, torn at 512-byte sectors, in
   any combination;
 * creations, renames and removals are there once their directory was synced; of the later ones in a directory the first
   n happened, in their order, for some n. Syncing a file does not make its name durable.

`Disk.advance` moves along the journal; `Disk.image` makes the folder of one crash at that place, by a seed.
"""

import copy
import mmap
import os
import random
import shutil
import struct
from pathlib import Path

CREATE, WRITE, ZEROS, RESIZE, EXTEND, RENAME, UNLINK, MKDIR, RMDIR, SYNC = range(1, 11)
_HEAD = struct.Struct("<IBBHHHIIQQQ")
SECTOR_BYTES = 512
_CHUNK_BYTES = 1 << 20


class Record:
    __slots__ = ("at", "kind", "is_durable", "inode", "offset", "length", "seconds", "path", "other", "data")


def read_journal(path):
    """The records in order. `at` is a record's place in the journal, `seconds` its moment on the monotonic clock. A last
    record that is not complete (the process was killed) is left out."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return []
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    records, at = [], 0
    while at + _HEAD.size <= len(content):
        size, kind, durable, first, second, _, high, low, offset, length, nanoseconds = _HEAD.unpack_from(content, at)
        if at + size > len(content):
            break
        record = Record()
        record.at, record.kind, record.is_durable = at, kind, bool(durable)
        record.inode, record.offset, record.length = high << 32 | low, offset, length
        record.seconds = nanoseconds / 1e9
        names = at + _HEAD.size
        record.path = bytes(content[names:names + first]).decode()
        record.other = bytes(content[names + first:names + first + second]).decode()
        record.data = content[names + first + second:at + size]
        records.append(record)
        at += size
    return records


class _File:
    """What is durable of a file, as a sparse file of its own, and what came later."""

    def __init__(self, folder, serial):
        self.base = folder / str(serial)
        self.base.touch()
        self.pending = []

    def sync(self, begun):
        count = 0
        while count < len(self.pending) and self.pending[count].at < begun:
            count += 1
        if count:
            with open(self.base, "r+b") as file:
                for record in self.pending[:count]:
                    _apply(file.fileno(), record)
            del self.pending[:count]

    def write(self, path, random, chance):
        _copy_sparse(self.base, path)
        if self.pending:
            with open(path, "r+b") as file:
                for record in self.pending:
                    _apply_perhaps(file.fileno(), record, random, chance)


class _Directory:
    def __init__(self):
        self.durable = {}   # name → _File or _Directory
        self.live = {}
        self.pending = []   # (place in the journal, function of a dictionary)

    def change(self, at, step):
        step(self.live)
        self.pending.append((at, step))

    def sync(self, begun):
        while self.pending and self.pending[0][0] < begun:
            self.pending.pop(0)[1](self.durable)

    def write(self, path, random, chance):
        path.mkdir(exist_ok=True)
        entries = dict(self.durable)
        happened = random.choice((0, len(self.pending), random.randint(0, len(self.pending))))
        for _, step in self.pending[:happened]:
            step(entries)
        for name, node in entries.items():
            node.write(path / name, random, chance)

    def files(self):
        """All files that an image may still show."""
        states = [self.durable, self.live]
        entries = dict(self.durable)
        for _, step in self.pending:
            step(entries)
            states.append(dict(entries))
        for node in {id(node): node for state in states for node in state.values()}.values():
            if isinstance(node, _Directory):
                yield from node.files()
            else:
                yield node


class Disk:
    """The files below the recorded root. `folder` holds what is durable, `root` was empty when recording began."""

    def __init__(self, folder, root):
        self.folder = Path(folder)
        self.folder.mkdir()
        self.root = _Directory()
        self._nodes = {os.stat(root).st_ino: self.root}
        self._files = {}
        self._serial = 0

    def advance(self, record):
        kind = record.kind
        if kind in (WRITE, ZEROS, RESIZE, EXTEND):
            self._nodes[record.inode].pending.append(record)
        elif kind == SYNC:
            node = self._nodes[record.inode]
            node.sync(record.offset)
            if isinstance(node, _Directory):
                self._forget_files()
        elif kind == CREATE:
            self._serial += 1
            self._link(record, _File(self.folder, self._serial))
        elif kind == MKDIR:
            self._link(record, _Directory())
        elif kind in (UNLINK, RMDIR):
            directory, name = self._parent(record.path)
            directory.change(record.at, lambda entries: entries.pop(name))
        elif kind == RENAME:
            directory, name = self._parent(record.path)
            other, new = self._parent(record.other)
            if other is not directory:
                raise NotImplementedError(f"a rename between directories: {record.path} to {record.other}")

            def move(entries):
                entries[new] = entries.pop(name)
            directory.change(record.at, move)

    def _link(self, record, node):
        directory, name = self._parent(record.path)
        self._nodes[record.inode] = node

        def link(entries):
            entries[name] = node
        directory.change(record.at, link)

    def _parent(self, path):
        directory = self.root
        *folders, name = path.split("/")
        for folder in folders:
            directory = directory.live[folder]
        return directory, name

    def _forget_files(self):
        kept = {node.base for node in self.root.files()}
        for base in self.folder.iterdir():
            if base not in kept:
                base.unlink()

    def image(self, folder, seed, under_way=None):
        """A possible state of the disk if the machine stopped now, `under_way` having begun. Some images keep or lose
        everything unsynced."""
        choices = random.Random(seed)
        chance = choices.choice((0.0, 1.0, 0.5, choices.random()))
        shutil.rmtree(folder, ignore_errors=True)
        is_write = under_way is not None and under_way.kind in (WRITE, ZEROS, RESIZE, EXTEND)
        if is_write:
            begun = copy.copy(under_way)
            begun.is_durable = False        # only at its return
            self._nodes[under_way.inode].pending.append(begun)
        self.root.write(Path(folder), choices, chance)
        if is_write:
            self._nodes[under_way.inode].pending.pop()


def _apply(descriptor, record):
    if record.kind == WRITE:
        _write(descriptor, record.data, record.offset)
    elif record.kind == ZEROS:
        _write_zeros(descriptor, record.offset, record.length)
    elif record.kind == RESIZE:
        os.ftruncate(descriptor, record.length)
    else:
        _grow(descriptor, record.length)


def _apply_perhaps(descriptor, record, random, chance):
    if record.is_durable or random.random() < chance:
        _apply(descriptor, record)
    elif record.kind == WRITE and chance > 0 and random.random() < 0.5:
        first = record.offset - record.offset % SECTOR_BYTES
        for sector in range(first, record.offset + record.length, SECTOR_BYTES):
            if random.random() < chance:
                start = max(sector, record.offset) - record.offset
                end = min(sector + SECTOR_BYTES, record.offset + record.length) - record.offset
                _write(descriptor, record.data[start:end], record.offset + start)


def _write(descriptor, data, offset):
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError("a short write")


def _grow(descriptor, size):
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)


def _extents(descriptor, start, end):
    """The parts of a range that hold data."""
    while start < end:
        try:
            data = os.lseek(descriptor, start, os.SEEK_DATA)
        except OSError:
            return
        if data >= end:
            return
        hole = min(os.lseek(descriptor, data, os.SEEK_HOLE), end)
        yield data, hole
        start = hole


def _write_zeros(descriptor, offset, length):
    for start, end in list(_extents(descriptor, offset, offset + length)):
        for at in range(start, end, _CHUNK_BYTES):
            _write(descriptor, bytes(min(_CHUNK_BYTES, end - at)), at)
    _grow(descriptor, offset + length)


def _copy_sparse(source, target):
    with open(source, "rb") as reader, open(target, "wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        os.ftruncate(writer.fileno(), size)
        for start, end in _extents(reader.fileno(), 0, size):
            for at in range(start, end, _CHUNK_BYTES):
                _write(writer.fileno(), os.pread(reader.fileno(), min(_CHUNK_BYTES, end - at), at), at)
