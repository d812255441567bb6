"""A live cluster into a store: lists, then watches from there, and starts again whenever something fails.

One thread per kind and namespace lists and watches, and puts what it hears into one bounded queue; the main thread
alone observes, interprets and records. When the store is away, the queue fills, the watches stop reading, and the
API server keeps what comes meanwhile; nothing is confirmed to anybody, so nothing can be lost: after a restart a
new list has the newest state of everything that is still there.
"""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from mdstore.client.client import Client
from mdstore.errors import MetadataError
from mdstore_writer import patience
from mdstore_writer.argo import mapping, text
from mdstore_writer.cluster import RESOURCES, Cluster, Gone, Interrupted, Resource
from mdstore_writer.lost import close_lost
from mdstore_writer.observe import Observer, Unreadable
from mdstore_writer.record import Recorder
from mdstore_writer.settings import WriterSettings

log = structlog.get_logger()

QUEUE_EVENTS: Final = 5_000
IDLE_S: Final = 0.2
"""How often the main thread looks up when nothing happens."""
BATCH_EVENTS: Final = 1_000
FORGET_EVERY_S: Final = 10.0
STOP_S: Final = 2.0
"""The last flush may take so long."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """One event of one watch."""

    event: Mapping[str, Any]
    source: str


@dataclass(frozen=True, slots=True)
class _Listed:
    """All Workflows that are there now; those known but not among them were deleted while nobody watched."""

    namespace: str | None
    uids: frozenset[str]


class Watcher:
    """Keeps a store up to date with a cluster until it is told to stop."""

    def __init__(
        self,
        client: Client,
        cluster: Cluster,
        settings: WriterSettings,
        namespaces: Sequence[str],
        stop: threading.Event,
    ) -> None:
        """`namespaces`: empty for all of them. `stop` ends `run`."""
        self._cluster = cluster
        self._settings = settings
        self._scopes: Sequence[str | None] = tuple(namespaces) or (None,)
        self._stop = stop
        self._observer = Observer(settings.cluster)
        self._client = client
        self._recorder = Recorder(client, self._observer, remembers_open_runs=True)
        self._lists: list[_Listed] = []
        self._queue: queue.Queue[_Heard | _Listed] = queue.Queue(QUEUE_EVENTS)
        self._forget_at = 0.0

    def run(self) -> None:
        """Watch until stopped; what was heard by then is recorded first, if the store takes it in time."""
        for resource in RESOURCES:
            for namespace in self._scopes:
                threading.Thread(
                    target=self._follow, args=(resource, namespace), name=f"watch-{resource.plural}", daemon=True
                ).start()
        log.info("watching", cluster=self._cluster.address, namespaces=[scope or "all" for scope in self._scopes])
        while not self._stop.is_set():
            self._take()
            self._record()
            self._forget()
        self._take()
        deadline = time.monotonic() + STOP_S
        try:
            patience.patiently(self._recorder.flush, for_s=max(0.0, deadline - time.monotonic()))
        except MetadataError as error:
            log.warning("stopped before all was recorded; the next start lists it again", error=str(error))
        log.info("stopped")

    # The main thread

    def _take(self) -> None:
        """Observe what is in the queue; wait a moment when that is nothing."""
        try:
            self._hear(self._queue.get(timeout=IDLE_S))
            # What comes within the interval goes into the same request.
            until = time.monotonic() + self._settings.flush_interval_ms / 1000
            for _ in range(BATCH_EVENTS):
                self._hear(self._queue.get(timeout=max(0.0, until - time.monotonic())))
        except queue.Empty:
            pass

    def _hear(self, heard: _Heard | _Listed) -> None:
        if isinstance(heard, _Listed):
            for uid, (namespace, name) in self._observer.live_workflows().items():
                if uid not in heard.uids and heard.namespace in {None, namespace}:
                    log.info("found deleted", workflow=name, namespace=namespace)
                    self._observer.missing(uid)
            self._lists.append(heard)
            return
        try:
            self._observer.observe(heard.event, heard.source)
        except Unreadable as error:
            log.warning("passed over an event", source=heard.source, reason=str(error))

    def _record(self) -> None:
        """Record what changed, and decide what waited long enough; try until the store takes it."""
        for pause in patience.pauses():
            try:
                self._recorder.flush()
                self._close_lost()
                if self._recorder.is_waiting():
                    self._recorder.settle(older_than_s=self._settings.settle_s)
            except patience.PASSING as error:
                log.warning("store is away, trying again", error=str(error), pause_s=round(pause, 1))
                if self._stop.wait(pause):
                    return
            else:
                return

    def _close_lost(self) -> None:
        """Close what an earlier life saw begin and a new list does not hold."""
        while self._lists:
            listed = self._lists[0]
            there = listed.uids | self._observer.live_workflows().keys()
            for run in close_lost(self._client, self._settings.cluster, listed.namespace, there):
                log.info("closed a run that went away unseen", workflow=run.workflow, namespace=run.namespace)
            self._lists.pop(0)

    def _forget(self) -> None:
        if time.monotonic() >= self._forget_at:
            self._recorder.forget_gone(older_than_s=self._settings.forget_after_s)
            self._forget_at = time.monotonic() + FORGET_EVERY_S

    # One thread each

    def _follow(self, resource: Resource, namespace: str | None) -> None:
        """List and watch one collection for ever."""
        source = f"watch of {resource.plural}" + (f" in {namespace}" if namespace else "")
        pauses = patience.pauses()
        version: str | None = None
        while not self._stop.is_set():
            try:
                if version is None:
                    version = self._list(resource, namespace, source)
                for event in self._cluster.watch(resource, namespace, version):
                    self._queue.put(_Heard(event, source))
                    metadata = mapping(mapping(event.get("object")).get("metadata"))
                    version = text(metadata.get("resourceVersion")) or version
                    pauses = patience.pauses()
            except Gone as error:
                # Only a new list can tell what was missed. Going on with the watch would lose deletions in silence.
                log.info("listing again", source=source, reason=str(error))
                version = None
                self._stop.wait(next(pauses))
            except Interrupted as error:
                pause = next(pauses)
                log.warning("watch interrupted", source=source, reason=str(error), pause_s=round(pause, 1))
                self._stop.wait(pause)
            except Exception:
                # A fault of ours. Without this thread a kind of object would go unseen while all looks well.
                log.exception("watch failed, listing again", source=source)
                version = None
                self._stop.wait(next(pauses))

    def _list(self, resource: Resource, namespace: str | None, source: str) -> str:
        found, version = self._cluster.list(resource, namespace)
        for item in found:
            self._queue.put(_Heard({"type": "ADDED", "object": item}, source))
        if resource.kind == "Workflow":
            uids = (text(mapping(item.get("metadata")).get("uid")) for item in found)
            self._queue.put(_Listed(namespace, frozenset(uid for uid in uids if uid is not None)))
        log.info("listed", source=source, objects=len(found), version=version)
        return version
