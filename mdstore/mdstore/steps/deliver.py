"""Gets a step's requests to the store: at once when it answers, else by way of the spool.

One request after the other: while anything is in the spool, what is new goes behind it. What a store refuses, and would
refuse for ever, is set aside, so that it does not keep the rest from being sent.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from mdstore.client.client import Client
from mdstore.client.connect import connect
from mdstore.client.once import idempotency_key
from mdstore.client.retry import NEVER
from mdstore.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MetadataError,
    NotFound,
    OutOfRange,
    Unavailable,
)
from mdstore.steps import spool
from mdstore.steps.spool import InUse, Reader, SpoolFull, Writer
from mdstore.wire import ingestion

log: Final = logging.getLogger("mdstore")

REFUSALS: Final = (InvalidArgument, NotFound, AlreadyExists, OutOfRange)
"""Errors that the same request would meet again."""
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_SMALL_BYTES: Final = 500
"""A property that every database holds."""


@dataclass(slots=True)
class Sent:
    """What became of the records of one file."""

    sent: int = 0
    refused: int = 0
    torn_bytes: int = 0
    is_complete: bool = False
    """Nothing is left."""


def drain(reader: Reader, ingest: Callable[[ingestion.IngestRequest], object], *, until: float | None = None) -> Sent:
    """Send what was not sent of a file, in order.

    Args:
        reader: of a file that the caller holds.
        ingest: sends one request.
        until: when to stop (`time.monotonic`); None for the end of the file.

    Raises:
        MetadataError: the store cannot be reached; what was sent until then is remembered.
    """
    result = Sent()
    # What was refused before and is again must stay where it is.
    is_aside = reader.path.suffix == spool.REFUSED
    for request in reader.records():
        if until is not None and time.monotonic() >= until:
            return result
        try:
            _ingest_what_stands(ingest, request)
        except REFUSALS as error:
            result.refused += 1
            if is_aside:
                continue
            aside = spool.set_aside(reader.path, request, str(error))
            log.warning("the store refuses a record of %s: %s; it is kept in %s", reader.path, error, aside)
        else:
            result.sent += 1
        if not is_aside:
            reader.done()
    result.torn_bytes = reader.torn_bytes
    if result.torn_bytes:
        log.warning(
            "the last %d bytes of %s are half a record: its process was killed while it wrote; they are left out",
            result.torn_bytes, reader.path,
        )  # fmt: skip
    result.is_complete = not (is_aside and result.refused)
    return result


def _ingest_what_stands(ingest: Callable[[ingestion.IngestRequest], object], request: ingestion.IngestRequest) -> None:
    """Send a request; when it is refused, at least what the step came to, and then raise the refusal.

    A step that has ended must not stay RUNNING because something that it named on its last line cannot be kept.
    """
    try:
        ingest(request)
    except REFUSALS:
        if any(execution.HasField("state") for execution in request.executions):
            with suppress(*REFUSALS):
                ingest(_bare(request))
        raise


def _bare(request: ingestion.IngestRequest) -> ingestion.IngestRequest:
    bare = ingestion.IngestRequest()
    bare.CopyFrom(request)
    for what in ("uses", "artifacts", "events", "attributions"):
        bare.ClearField(what)
    for execution in bare.executions:
        for properties in (execution.custom_properties, execution.default_custom_properties):
            for name in [name for name, value in properties.items() if value.ByteSize() > _SMALL_BYTES]:
                del properties[name]
    return bare


def replay(path: Path, client: Client, *, timeout_s: float | None = None, until: float | None = None) -> Sent:
    """Send a file whose writer is gone, and take it away when nothing is left in it.

    Raises:
        InUse: its writer lives, or another process sends it.
        MetadataError: the store cannot be reached; the same again goes on from there.
        ValueError: it is no spool file.
        OSError: it cannot be read.
    """
    with Reader.holding(path) as reader:
        result = drain(reader, lambda request: client.ingest(request, timeout=timeout_s), until=until)
        if result.is_complete:
            spool.remove(path)
        return result


class Sender:
    """Sends the requests of a step and of those inside it. Threads may share one."""

    def __init__(
        self,
        store: str | Client | None,
        *,
        folder: Callable[[], Path],
        most_bytes: int,
        timeout_s: float,
        is_strict: bool,
    ) -> None:
        """Nothing is opened before the first request.

        Args:
            store: its URL, or a client, which stays the caller's; None when it is not known: then all is spooled.
            folder: gives the spool's folder.
            most_bytes: that may be in that folder.
            timeout_s: for one call of `send` or `finish`.
            is_strict: errors go to the caller, and nothing is spooled.
        """
        self._url = store if isinstance(store, str) else None
        self._client = None if isinstance(store, str) else store
        self._owns_client = isinstance(store, str)
        self._folder = folder
        self._most_bytes = most_bytes
        self._timeout_s = timeout_s
        self._is_strict = is_strict
        self._spool: Writer | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._not_before = 0.0
        self._dropped = 0
        self._why_dropped = ""
        self._is_away = False
        self._pid = os.getpid()
        self._locks: dict[int, threading.Lock] = {}
        """By process."""

    @classmethod
    def of_environment(
        cls, environment: Mapping[str, str], store: str | Client | None, *, timeout_s: float, is_strict: bool
    ) -> Self:
        """One whose store, unless it is given, and spool are what the environment names."""
        most = environment.get("MDSTORE_SPOOL_MAX_BYTES", "")
        return cls(
            store if store is not None else environment.get("MDSTORE_STORE") or None,
            folder=partial(spool.folder, environment.get("MDSTORE_SPOOL") or None),
            most_bytes=int(most) if most.isascii() and most.isdigit() else spool.MOST_BYTES,
            timeout_s=timeout_s,
            is_strict=is_strict,
        )

    def send(self, request: ingestion.IngestRequest, *, is_important: bool) -> None:
        """Send a request, or put it on disk, in at most about `timeout_s`.

        Raises:
            MetadataError: the store does not take it, and the sender is strict.
            SpoolFull: neither store nor disk takes it.
            OSError: likewise.
        """
        until = time.monotonic() + self._timeout_s
        with self._alone():
            if self._is_strict:
                _ingest_what_stands(lambda sent: self._ingest(sent, until), request)
                return
            if self._waits() and self._may_try():
                # Before anything is added: a full spool takes no more, and is not to stay full when the store is back.
                self._send_kept(until)
            if not self._waits() and self._may_try():
                try:
                    _ingest_what_stands(lambda sent: self._ingest(sent, until), request)
                except REFUSALS as error:
                    self._set_aside(request, error)
                    return
                except Exception as error:
                    self._went_away(error)
                else:
                    self._came_back()
                    return
            self._keep(request, is_important)

    def finish(self) -> None:
        """Once more send what is kept, then what others left behind, in at most about `timeout_s`; then close."""
        until = time.monotonic() + self._timeout_s
        with self._alone():
            try:
                if not self._is_strict:
                    self._send_kept(until)
                    self._send_left_behind(until)
            finally:
                self._close()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Inside the block, no other thread of this process sends.

        A child that was forked within a step has a lock of its own, since nobody is left there to give back the one
        that another thread of its parent's may have held; and its parent goes on using connection and file, alone.
        """
        pid = os.getpid()
        with self._locks.setdefault(pid, threading.Lock()):
            if pid != self._pid:
                self._pid = pid
                if self._spool is not None:
                    # Else the file would be in use as long as this process lives.
                    self._spool.close()
                    self._spool = None
                if self._owns_client:
                    self._client = None
            yield

    def _waits(self) -> bool:
        return self._spool is not None and self._spool.unsent() is not None

    def _may_try(self) -> bool:
        return (self._url is not None or self._client is not None) and time.monotonic() >= self._not_before

    def _ingest(self, request: ingestion.IngestRequest, until: float) -> None:
        if self._client is None:
            if self._url is None:
                raise Unavailable("which store? Say store=URL, or set MDSTORE_STORE")
            try:
                self._client = connect(self._url, retry=NEVER)
            except InvalidArgument as error:
                # Of the URL, which can be put right; not of the request, which would be set aside.
                raise FailedPrecondition(str(error)) from error
        # A key that the code around the step gave is for a write of its own.
        with idempotency_key(""):
            self._client.ingest(request, timeout=max(0.01, until - time.monotonic()))

    def _writer(self) -> Writer:
        if self._spool is None:
            self._spool = Writer(self._folder(), self._url, most_bytes=self._most_bytes)
        return self._spool

    def _keep(self, request: ingestion.IngestRequest, is_important: bool) -> None:
        now_ms = time.time_ns() // 1_000_000
        for use in request.uses:
            # By the time that this is sent there may be newer versions than the one that was used.
            use.as_of_ms = use.as_of_ms or use.time_ms or now_ms
        try:
            self._writer().append(request.SerializeToString(), is_important=is_important)
        except (SpoolFull, OSError) as error:
            self._dropped += 1
            if self._dropped > 1 and str(error) == self._why_dropped:
                return  # said once, and counted at the end
            self._why_dropped = str(error)
            raise
        if self._url is None and self._client is None and not self._is_away:
            self._is_away = True
            log.warning("no store is named: set MDSTORE_STORE. What is logged is kept in %s", self._writer().path)
        elif self._is_away:
            log.debug("kept in %s", self._writer().path)

    def _send_kept(self, until: float) -> None:
        reader = None if self._spool is None else self._spool.unsent()
        if self._spool is None or reader is None or (self._url is None and self._client is None):
            return
        try:
            result = drain(reader, lambda request: self._ingest(request, until), until=until)
        except Exception as error:
            self._went_away(error)
            return
        if result.is_complete:
            log.info("the store is back: %d records were sent", result.sent)
            self._spool.finish()
            self._came_back()

    def _send_left_behind(self, until: float) -> None:
        """Files of processes that are gone and that meant the same store."""
        if self._url is None or self._is_away:
            return
        try:
            found = spool.files(self._folder())
        except OSError:
            return
        for path in found:
            if time.monotonic() >= until:
                return
            try:
                if spool.store_of(path) != self._url or self._client is None:
                    continue
                replay(path, self._client, timeout_s=max(0.01, until - time.monotonic()), until=until)
            except (InUse, ValueError, OSError):
                continue
            except MetadataError as error:
                log.debug("what %s holds cannot be sent now: %s", path, error)
                return

    def _set_aside(self, request: ingestion.IngestRequest, error: Exception) -> None:
        aside = spool.set_aside(self._folder() / f"{time.time_ns():020d}-refused.spool", request, str(error))
        log.warning("the store refuses what was logged: %s; it is kept in %s", error, aside)

    def _went_away(self, error: Exception) -> None:
        self._not_before = time.monotonic() + self._pause_s
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
        if not self._is_away:
            self._is_away = True
            log.warning("the store cannot be reached (%s): what is logged is kept until it can", error)

    def _came_back(self) -> None:
        self._is_away = False
        self._not_before, self._pause_s = 0.0, _FIRST_PAUSE_S

    def _close(self) -> None:
        if self._dropped:
            log.warning("%d records were dropped, because the spool took no more: %s", self._dropped, self._why_dropped)
        if self._spool is not None:
            if self._spool.path is not None:
                log.warning("not everything that was logged reached the store; the rest is in %s", self._spool.path)
            self._spool.close()
            self._spool = None
        if self._owns_client and self._client is not None:
            self._client.close()
            self._client = None
