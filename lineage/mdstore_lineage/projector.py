"""Follows a store's change feed into a lineage graph.

One loop in one thread applies commits; a second thread waits for the feed, so that the next batch gathers while the
last one is written: a lone commit is visible at once, and a long log goes in large transactions. The graph keeps its
position in the same transaction as what led to it, so this can be killed at any moment and goes on from there.

What the graph holds must be the beginning of what the store says. Each connection begins by comparing the commit at the
graph's position; where the store has none there, or another one (a new database, a restored backup), the graph is
cleared and projected from the beginning. Until it is where the store was then, it answers no questions.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from mdstore.client.client import Client
from mdstore.errors import (
    Aborted,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
)
from mdstore.wire import changes
from mdstore_lineage.graph import LineageGraph

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
LOOK_UP_EVERY_S: Final = 0.2
"""How soon the end is noticed while nothing happens."""
BATCH_CHANGES: Final = 2000
"""Commits are gathered for one transaction up to so many changes, as far as they are there."""
REPORT_EVERY_S: Final = 5.0
RESPONSES_AHEAD: Final = 8
"""Messages of the feed that wait in memory, of some megabytes at most each."""

TEMPORARY: Final = (Unavailable, DeadlineExceeded, Cancelled, Aborted, ResourceExhausted, Internal, OutOfRange)
"""What may be over at the next try. The last one: the log was compacted over the position while it was read."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    store_id: str | None
    position: int
    hash: bytes
    until: int


@dataclass(frozen=True, slots=True)
class _Connected:
    """The first thing that comes from a store."""

    clear_because: str | None
    """Why the graph is not the beginning of what the store says; None when it is."""
    head: int
    """The store's newest position."""


_Feed: TypeAlias = Iterator[_Connected | changes.FollowResponse]
_Inbox: TypeAlias = queue.Queue[_Connected | changes.FollowResponse | Exception]


class Projector:
    """Keeps one graph following one store. Threads: `run` in one, once."""

    def __init__(
        self,
        connect: Callable[[], Client],
        graph: LineageGraph,
        *,
        is_stopping: Callable[[], bool],
        batch_changes: int = BATCH_CHANGES,
    ) -> None:
        """Put the parts together.

        Args:
            connect: a new client of the store, which is closed when its connection is lost.
            graph: where to; nobody else applies to it.
            is_stopping: asked several times a second; once it says yes, `run` returns.
            batch_changes: see `BATCH_CHANGES`.
        """
        self._connect = connect
        self._graph = graph
        self._is_stopping = is_stopping
        self._batch_changes = batch_changes
        self._trouble: str | None = None
        self._pause_s = FIRST_PAUSE_S
        self._position = 0
        self._is_behind = True
        self._report_at = 0.0

    def run(self) -> None:
        """Follow until told to stop, waiting for a store that is not there.

        Raises:
            FailedPrecondition: another projector follows a store into this graph.
            MetadataError: what no waiting helps against: the store has no change feed, the graph's file is damaged.
        """
        with self._graph.claim():
            while not self._is_stopping():
                try:
                    with self._connect() as client:
                        self._follow(client)
                except TEMPORARY as error:
                    self._wait_after(error)

    def _follow(self, client: Client) -> None:
        graph = self._graph
        checkpoint = _Checkpoint(graph.store_id, graph.position, graph.position_hash, graph.until)
        inbox: _Inbox = queue.Queue(RESPONSES_AHEAD)
        is_over = threading.Event()
        threading.Thread(
            target=_fetch, args=(_feed(client, checkpoint), inbox, is_over), name="feed", daemon=True
        ).start()
        try:
            while not self._is_stopping():
                try:
                    first = inbox.get(timeout=LOOK_UP_EVERY_S)
                except queue.Empty:
                    continue
                match first:
                    case Exception():
                        raise first
                    case _Connected():
                        self._begin(checkpoint, first)
                    case _:
                        self._project(first, inbox)
        finally:
            # The thread may be waiting for room in the inbox, or for the feed, which the client's end ends.
            is_over.set()
            _empty(inbox)

    def _begin(self, checkpoint: _Checkpoint, connected: _Connected) -> None:
        because = connected.clear_because
        if because is not None:
            log.warning(
                "cleared the graph", because=because, store_id=checkpoint.store_id, position=checkpoint.position
            )
        if because is not None or checkpoint.position == 0:
            self._graph.clear(until=connected.head)
        self._trouble = None
        self._is_behind = True
        self._position = self._graph.position
        log.info("following the store", position=self._position)

    def _project(self, first: changes.FollowResponse, inbox: _Inbox) -> None:
        """Apply what has arrived, in one transaction."""
        commits = list(first.commits)
        left = self._batch_changes - _count_changes(first)
        failed: Exception | None = None
        while left > 0 and failed is None:
            try:
                more = inbox.get_nowait()
            except queue.Empty:
                break
            match more:
                case Exception():
                    failed = more
                case changes.FollowResponse():
                    commits += more.commits
                    left -= _count_changes(more)
        self._apply(commits, first.store_id)
        self._report(len(commits), first.head_seq)
        if failed is not None:
            raise failed

    def _apply(self, commits: list[changes.Commit], store_id: str) -> None:
        if not commits:
            return
        while True:
            try:
                self._graph.apply(commits, store_id=store_id)
            except FailedPrecondition as error:
                # Somebody else has changed the graph. Beginning again compares it with the store.
                raise Aborted(str(error)) from error
            except (Unavailable, ResourceExhausted) as error:
                self._wait_after(error)
                if self._is_stopping():
                    return
            else:
                self._trouble = None
                self._pause_s = FIRST_PAUSE_S
                self._position = commits[-1].seq
                return

    def _report(self, commits: int, head: int) -> None:
        """Say how far it is: now and then while the graph is behind the store, and once when it no longer is."""
        log.debug("projected", commits=commits, position=self._position)
        if self._is_behind and self._position >= head:
            self._is_behind = False
            log.info("caught up", position=self._position)
        elif self._is_behind and time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + REPORT_EVERY_S
            log.info("catching up", position=self._position, head=head)

    def _wait_after(self, error: Exception) -> None:
        """Say once what is the matter, and pause, longer each time."""
        kind = type(error).__name__
        if kind != self._trouble and not self._is_stopping():
            self._trouble = kind
            log.warning("waiting", because=str(error))
        until = time.monotonic() + self._pause_s
        while (left := until - time.monotonic()) > 0 and not self._is_stopping():
            time.sleep(min(left, LOOK_UP_EVERY_S))
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)


def _feed(client: Client, checkpoint: _Checkpoint) -> _Feed:
    position = max(1, checkpoint.position)
    # What is compared and what comes behind it are of one call: between two, the log could be compacted.
    messages = client.follow(position)
    try:
        first = next(messages, None)
        because = None if checkpoint.position == 0 else _why_not_the_same(first, checkpoint)
    except OutOfRange:
        first, because = None, "the store's log was compacted, and begins behind the graph's position"
    except InvalidArgument:
        if position == 1:
            raise
        first, because = None, "the store's log ends before the graph's position"
    if because is not None:
        messages = client.follow(1)
        first = next(messages, None)
    yield _Connected(because, 0 if first is None else first.head_seq)
    if first is not None:
        # The commit at the position is in the graph already, where it changes nothing.
        yield first
        yield from messages


def _why_not_the_same(found: changes.FollowResponse | None, checkpoint: _Checkpoint) -> str | None:
    """Why the graph is not a beginning of the store's history, or None."""
    if found is None or not found.commits:
        return "the store's log ends before the graph's position"
    if found.store_id != checkpoint.store_id:
        return f"it is another store: {found.store_id}"
    if found.commits[0].hash != checkpoint.hash:
        return "the store has another history, as after restoring a backup"
    if checkpoint.position < checkpoint.until and found.head_seq < checkpoint.until:
        return "the store's log ends before the position to which the graph was being rebuilt"
    return None


def _fetch(feed: _Feed, inbox: _Inbox, is_over: threading.Event) -> None:
    """Move what comes from the feed into the inbox until either is over."""
    try:
        for message in feed:
            if is_over.is_set():
                return
            inbox.put(message)
        inbox.put(Unavailable("the store has ended the feed"))
    except Exception as error:
        # To be raised in the thread that applies; once that is gone, the error is the client's end.
        if not is_over.is_set():
            inbox.put(error)


def _empty(inbox: _Inbox) -> None:
    while True:
        try:
            inbox.get_nowait()
        except queue.Empty:
            return


def _count_changes(response: changes.FollowResponse) -> int:
    return sum(len(values) for commit in response.commits for _, values in commit.changes.ListFields())
