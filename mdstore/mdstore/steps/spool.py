"""Requests that could not be sent, kept in files until the store is back.

A file belongs to one writer at a time, who holds its lock. It is only ever appended to: a first line that says what it
is, then records, each a head (length, CRC-32) and an `IngestRequest`. Every append is on disk before it returns. A kill
in the middle of one leaves a torn record at the end, which readers leave out and say so.

What was sent of a file stands in a second one, `<name>.sent`, as an offset. It may be behind and never ahead: records
are idempotent, so sending one again changes nothing, and losing one is what must not happen.
"""

import contextlib
import fcntl
import json
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from mdstore.wire import ingestion

SUFFIX: Final = ".spool"
_UNNAMED: Final = ".new"
"""Of a file that gets its name at once, unless its process is killed."""
REFUSED: Final = ".refused"
"""Of files with what a store did not take: they have the same form, and are never sent by themselves."""
MOST_BYTES: Final = 64 * 1024 * 1024
"""In one folder; `MDSTORE_SPOOL_MAX_BYTES` says another number."""
_RESERVED: Final = 0.9
"""What only says how a step went on must leave the rest for starts and ends."""
_YOUNG_S: Final = 60.0
_MAGIC: Final = "mdstore-spool-1"
_HEAD: Final = struct.Struct("<II")


class SpoolFull(Exception):
    """The folder holds as much as it may."""


class InUse(Exception):
    """Another process holds the file."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds."""

    path: Path
    store: str | None
    """The URL that its records are meant for; None when the writer was told of none."""
    started_ms: int
    records: int
    unsent: int
    torn_bytes: int
    """Behind the last whole record."""
    size_bytes: int


def folder(environment_folder: str | None) -> Path:
    """Where files are: as told, else `$XDG_STATE_HOME/mdstore/spool`, or below the temporary folder without a home.

    Raises:
        OSError: none of these can be written.
    """
    if environment_folder:
        found = Path(environment_folder)
        found.mkdir(parents=True, exist_ok=True)
        return found
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    user = os.getuid() if hasattr(os, "getuid") else 0
    for place in (Path(state), Path(tempfile.gettempdir(), f"mdstore-{user}")):
        found = place / "mdstore" / "spool"
        with contextlib.suppress(OSError):
            found.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.access(found, os.W_OK):
                return found
    raise PermissionError(f"no folder for what cannot be sent: {state} is not writable; set MDSTORE_SPOOL")


class Writer:
    """Appends to one file, which is made at the first record. Threads: one at a time."""

    def __init__(self, folder: Path, store: str | None, *, most_bytes: int = MOST_BYTES) -> None:
        """Write into `folder`, for the store at a URL."""
        self._folder = folder
        self._store = store
        self._most_bytes = most_bytes
        self._descriptor: int | None = None
        self._end = 0
        self.path: Path | None = None

    def append(self, request: bytes, *, is_important: bool) -> None:
        """Put a serialized `IngestRequest` on disk.

        Raises:
            SpoolFull: the folder is full; what is not important stops a little earlier.
            OSError: the disk does not take it. The file is as before.
        """
        record = _HEAD.pack(len(request), zlib.crc32(request)) + request
        limit = self._most_bytes if is_important else self._most_bytes * _RESERVED
        if _bytes_in(self._folder) + len(record) > limit:
            raise SpoolFull(f"{self._folder} holds its {self._most_bytes} bytes: run `mdstore spool replay`")
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        try:
            _write(self._descriptor, record)
            os.fsync(self._descriptor)
        except OSError:
            # Half a record in the middle would hide all that follow.
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(record)

    def _open(self) -> None:
        name = f"{time.time_ns():020d}-{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        path = self._folder / name
        # It gets its name, and its lock with it, once its first line is there: whoever is killed here leaves no spool.
        unnamed = path.with_suffix(_UNNAMED)
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            _lock(descriptor, unnamed)
            first = {"format": _MAGIC, "store": self._store, "started_ms": time.time_ns() // 1_000_000}
            line = json.dumps(first).encode() + b"\n"
            _write(descriptor, line)
            os.fsync(descriptor)
            unnamed.rename(path)
            _sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            unnamed.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
        self._descriptor, self._end, self.path = descriptor, len(line), path

    def unsent(self) -> "Reader | None":
        """What of this file was not sent, to send it and `Reader.done`; None when there is nothing."""
        if self._descriptor is None or self.path is None:
            return None
        return Reader(self.path, self._descriptor)

    def finish(self) -> None:
        """Everything was sent: take the file away. The next record begins another one."""
        if self.path is not None:
            remove(self.path)
        self.close()

    def close(self) -> None:
        """Let go of the file; what is in it stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = self.path = None


class Reader:
    """The records of one file that were not sent, in order; `done` after each. Used by the file's holder only."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Read through a descriptor of the holder's."""
        self.path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self.head, self._begin = _first_line(path, descriptor)
        self._at = self._begin
        self._next = self._begin

    @classmethod
    @contextlib.contextmanager
    def holding(cls, path: Path) -> Iterator[Self]:
        """Take a file whose writer is gone.

        Raises:
            InUse: its writer lives, or another one sends it.
            ValueError: it is no spool file.
            OSError: it cannot be read.
        """
        descriptor = os.open(path, os.O_RDWR)
        try:
            _lock(descriptor, path)
            if not path.exists():
                raise InUse(f"{path} was sent meanwhile")
            yield cls(path, descriptor)
        finally:
            os.close(descriptor)

    @property
    def store(self) -> str | None:
        """The URL that the records are meant for."""
        store = self.head.get("store")
        return store if isinstance(store, str) else None

    def records(self, *, all_of_them: bool = False) -> Iterator[ingestion.IngestRequest]:
        """The requests that were not sent yet; each is to be sent, then `done` is to be called."""
        offset = self._begin if all_of_them else max(self._begin, _read_sent(self.path))
        while True:
            self._at = offset
            head = os.pread(self._descriptor, _HEAD.size, offset)
            if len(head) < _HEAD.size:
                return
            length, crc = _HEAD.unpack(head)
            if offset + _HEAD.size + length > self._size:
                return
            content = os.pread(self._descriptor, length, offset + _HEAD.size)
            if len(content) < length or zlib.crc32(content) != crc:
                return
            offset += _HEAD.size + length
            self._next = offset
            yield ingestion.IngestRequest.FromString(content)

    def done(self) -> None:
        """The last record was sent."""
        # Without room for this it is sent again, and a full disk is emptied all the same.
        with contextlib.suppress(OSError):
            _write_sent(self.path, self._next)

    @property
    def torn_bytes(self) -> int:
        """After `records` has ended: how much behind the last whole record cannot be read."""
        return self._size - self._at


def files(folder: Path) -> list[Path]:
    """The spool files in a folder, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def leftovers(folder: Path) -> list[Path]:
    """Files of processes that were killed at a bad moment, and that hold nothing to send."""
    marks = [mark for mark in folder.glob(f"*{SUFFIX}.sent") if not mark.with_suffix("").exists()]
    return sorted([*filter(_has_no_writer, folder.glob(f"*{_UNNAMED}")), *marks])


def _has_no_writer(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        _lock(descriptor, path)
    except InUse:
        return False
    else:
        # A writer makes its file and takes the lock afterwards. One that is so young may be about to.
        return time.time() - os.fstat(descriptor).st_mtime > _YOUNG_S
    finally:
        os.close(descriptor)


def contents(path: Path) -> Contents:
    """What a file holds, whoever holds it.

    Raises:
        ValueError: it is no spool file.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        reader = Reader(path, descriptor)
        everything = sum(1 for _ in reader.records(all_of_them=True))
        torn = reader.torn_bytes
        unsent = sum(1 for _ in reader.records())
        started = reader.head.get("started_ms")
        return Contents(
            path=path,
            store=reader.store,
            started_ms=started if isinstance(started, int) else 0,
            records=everything,
            unsent=unsent,
            torn_bytes=torn,
            size_bytes=os.fstat(descriptor).st_size,
        )
    finally:
        os.close(descriptor)


def store_of(path: Path) -> str | None:
    """The URL of the store that a file is meant for; raises as `contents`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return Reader(path, descriptor).store
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Take away a file that was sent."""
    path.unlink(missing_ok=True)
    _sent_file(path).unlink(missing_ok=True)


def set_aside(path: Path, request: ingestion.IngestRequest, reason: str) -> Path:
    """Keep a request that a store refused, beside the file that it was in; returns where."""
    aside = path.with_suffix(REFUSED)
    content = request.SerializeToString()
    is_new = not aside.exists()
    with aside.open("ab") as file:
        if is_new:
            first = {"format": _MAGIC, "store": None, "reason": reason, "started_ms": time.time_ns() // 1_000_000}
            file.write(json.dumps(first).encode() + b"\n")
        file.write(_HEAD.pack(len(content), zlib.crc32(content)) + content)
        file.flush()
        os.fsync(file.fileno())
    return aside


def _first_line(path: Path, descriptor: int) -> tuple[dict[str, object], int]:
    start = os.pread(descriptor, 64 * 1024, 0)
    line, newline, _ = start.partition(b"\n")
    try:
        head = json.loads(line)
    except ValueError:
        head = None
    if not newline or not isinstance(head, dict) or head.get("format") != _MAGIC:
        raise ValueError(f"{path} is no file of mdstore's spool, or was cut off in its first line")
    return head, len(line) + 1


def _sent_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sent")


def _read_sent(path: Path) -> int:
    try:
        text = _sent_file(path).read_text()
    except (OSError, UnicodeDecodeError):
        return 0
    # Written at once and of one length: anything else was cut off, and then all is sent again.
    return int(text) if len(text) == 20 and text.isascii() and text.isdigit() else 0


def _write_sent(path: Path, offset: int) -> None:
    # Not forced to disk: when the machine goes down, some records are sent again, which changes nothing.
    descriptor = os.open(_sent_file(path), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, f"{offset:020d}".encode(), 0)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _bytes_in(folder: Path) -> int:
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((SUFFIX, REFUSED)):
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
    return total


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(f"{path} is in use by another process") from None


def _sync_folder(folder: Path) -> None:
    """So that the file's name is on disk as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
