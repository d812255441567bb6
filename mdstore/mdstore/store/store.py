"""One open store: its database, its writer thread, its readers, and who waits for new commits."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, Self

import structlog

from mdstore.errors import InvalidArgument, MetadataError, OutOfRange, Unavailable, Unimplemented
from mdstore.store import bootstrapping, change_log, compaction, pages
from mdstore.store.bootstrapping import Bootstrap
from mdstore.store.commits import Committer
from mdstore.store.database import Database, open_database
from mdstore.store.dialects import POOL_SIZE
from mdstore.store.interruption import Interruption
from mdstore.store.operations import history
from mdstore.store.requests import KEEP_S, Call
from mdstore.store.rpcs import RPCS, Mode, Rpc
from mdstore.store.transaction import State, Transaction, now_ms
from mdstore.wire import changes

log = structlog.get_logger()

COMMITS_PER_MESSAGE: Final = 500
BYTES_PER_MESSAGE: Final = 2 * 1024 * 1024


class Store:
    """An open store. Threads: any may call; reads take a connection each, writes go to the one writer."""

    def __init__(self, database: Database, *, keep_answers_s: float = KEEP_S) -> None:
        """Work on an open database; `Store.open` opens one."""
        self.database = database
        self._listeners: list[Callable[[int], None]] = []
        self._group_listeners: list[Callable[[int, float], None]] = []
        self._bootstrap = Bootstrap()
        self._committer = Committer(database, self._notify, self._notify_group, keep_answers_s=keep_answers_s)

    @classmethod
    def open(
        cls, url: str, *, keep_answers_s: float = KEEP_S, create: bool = True, bootstraps_later: bool = False
    ) -> Self:
        """Open or create the database at `url`, and log what other programs have written.

        What was there before there was a log is logged first, page by page, which is some minutes for a million nodes.

        Args:
            url: as `open_database` takes it; raises as that does.
            keep_answers_s: how long a write with an idempotency key is answered again as it was.
            create: make a database that a server does not have.
            bootstraps_later: leave that to `doing_chores`, while the store is used.
        """
        store = cls(open_database(url, create=create), keep_answers_s=keep_answers_s)
        try:
            if not bootstraps_later:
                bootstrap(store)
            store.reconcile()
        except BaseException:
            store.close()
            raise
        return store

    def find(self, method: str) -> Rpc:
        """The RPC at a path such as "/ml_metadata.MetadataStoreService/PutArtifacts".

        Raises:
            Unimplemented: there is no such RPC (yet).
        """
        rpc = RPCS.get(method)
        if rpc is None:
            raise Unimplemented(f"{method.rpartition('/')[2]} is not implemented")
        return rpc

    def submit(self, rpc: Rpc, request: Any, deadline: float | None = None, call: Call | None = None) -> "Future[Any]":
        """Queue a write; the future is done once it is on disk. As `Committer.submit`."""
        # mdstore's own requests have a field for the key, which works on every way to the store.
        if key := getattr(request, "idempotency_key", ""):
            call = Call(idempotency_key=key)
        return self._committer.submit(rpc.operation, request, deadline, call, rpc.foresee)

    def reconcile(self) -> None:
        """Log what other programs have written to the database, and wait until that is on disk.

        Raises:
            Unavailable: the store is closed.
        """
        self._committer.reconcile().result()

    def bootstrap_step(self) -> bootstrapping.State:
        """Log a page of what the database held before it had a log, unless all is logged; wait until that is on disk.

        One at a time. Other writes may come between two.
        """
        done: bootstrapping.State = self._committer.submit(self._bootstrap.step, None).result()
        return done

    def writes_waiting(self) -> int:
        """How many writes wait for their turn."""
        return self._committer.waiting()

    def read(self, rpc: Rpc, request: Any, interruption: Interruption | None = None) -> Any:
        """Answer a read on this thread.

        Raises:
            Cancelled: it was stopped by `interruption`.
        """
        for _ in range(POOL_SIZE):
            with self.database.connection() as connection:
                try:
                    with read_transaction(connection, self.database) as tx:
                        return _answer(tx, rpc, request, interruption)
                except Unavailable:
                    if interruption is not None:
                        interruption.check()
                    # It may have been lost while nobody used it: the next one is younger, and at last one is made.
                    if tx.trips > 1 or not self.database.dialect.is_lost(connection):
                        raise
        with self.reading() as tx:
            return _answer(tx, rpc, request, interruption)

    def call(self, method: str, request: Any, call: Call | None = None) -> Any:
        """Answer any unary RPC on this thread, waiting for the disk when it writes."""
        rpc = self.find(method)
        return self.submit(rpc, request, call=call).result() if rpc.mode is Mode.WRITE else self.read(rpc, request)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A read transaction: all statements in it see one moment."""
        with reading(self.database) as tx:
            yield tx

    def on_commit(self, listener: Callable[[int], None]) -> Callable[[], None]:
        """Call `listener` with the newest position after each commit, on the writer's thread; returns how to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def on_group(self, listener: Callable[[int, float], None]) -> Callable[[], None]:
        """Call `listener` with each group's size and seconds, on the writer's thread; returns how to stop."""
        self._group_listeners.append(listener)
        return lambda: self._group_listeners.remove(listener)

    def _notify_group(self, size: int, seconds: float) -> None:
        for listener in tuple(self._group_listeners):
            listener(size, seconds)

    def _notify(self, seq: int) -> None:
        for listener in tuple(self._listeners):
            listener(seq)

    def head_seq(self) -> int:
        """The newest position."""
        with self.reading() as tx:
            return change_log.head(tx).seq

    def follow_page(self, from_seq: int, most: int = 0, *, behind: bytes = b"") -> changes.PackedFollowResponse:
        """The next commits, in a message of bounded size; without any when there are none.

        From position 1 on, a log that was compacted begins with its first commit, whatever its position.

        Args:
            from_seq: the first position.
            most: commits; 0 for as many as there is room for.
            behind: the hash of the commit before, if the caller has read it.

        Raises:
            InvalidArgument: `from_seq` is beyond the position after the newest.
            OutOfRange: the commit was compacted, or the one with the hash `behind` was, and others are in its place.
        """
        with self.reading() as tx:
            head = change_log.head(tx)
            response = changes.PackedFollowResponse(head_seq=head.seq, store_id=head.store_id)
            if from_seq > head.seq + 1:
                raise InvalidArgument(
                    f"the log ends at {head.seq}, before {from_seq}: was the database replaced? Begin at 1"
                )
            if from_seq > head.seq:
                return response
            size = 0
            expected = from_seq
            for commit in change_log.commits_from(
                tx, from_seq, most if 0 < most < COMMITS_PER_MESSAGE else COMMITS_PER_MESSAGE
            ):
                if commit.seq != expected and from_seq > 1:
                    raise OutOfRange(f"the log was compacted and begins at {commit.seq}, after {from_seq}: begin at 1")
                if behind and commit.seq == from_seq and not compaction.goes_on(tx, behind, commit):
                    raise OutOfRange(f"the log was compacted, and says before {from_seq} what was not read: begin at 1")
                expected = commit.seq + 1
                response.commits.append(commit)
                size += len(commit.changes)
                if size >= BYTES_PER_MESSAGE:
                    break
            return response

    def snapshot(self, at_seq: int) -> Iterator[changes.SnapshotResponse]:
        """Everything at one position, 0 for the newest, in pages.

        Raises:
            OutOfRange: the log has no such position (any more).
        """
        with self.reading() as tx:
            head = change_log.head(tx)
            seq = at_seq or head.seq
            compacted = compaction.newest(tx)
            first = compacted.seq if compacted is not None else min(1, head.seq)
            # Before that, the log did not know all that there was.
            bootstrapped = bootstrapping.state(tx).complete_from
            first = max(first, head.seq if bootstrapped is None else bootstrapped)
            if not first <= seq <= head.seq:
                raise OutOfRange(f"the store can be shown at the positions {first} to {head.seq}, not at {at_seq}")
            yield changes.SnapshotResponse(seq=seq, store_id=head.store_id)
            found = pages.everything(tx) if seq == head.seq else history.everything_at(tx, seq)
            for page in found:
                yield changes.SnapshotResponse(seq=seq, store_id=head.store_id, changes=page)

    def compact(self, seq: int, progress: Callable[[int], None] = lambda _pages: None) -> changes.Compaction:
        """Replace the log's commits up to `seq` by what the store held there, while others read and write.

        Args:
            seq: the newest position that is replaced.
            progress: told how many pages are ready, again and again.

        Raises:
            OutOfRange: the log has no such position, or was compacted that far already.
            FailedPrecondition: nothing is to be won, or what was there before the log is not all in it yet.
            Aborted: somebody else has begun to compact the log meanwhile.
        """
        with self.reading() as tx:
            compaction.check(tx, seq)
        # What somebody else wrote belongs behind the pages; and sweeps never look behind a compaction, whose position
        # the marks have passed then.
        self.reconcile()
        run = uuid.uuid4().hex
        do = self._committer.submit
        try:
            with self.reading() as tx:
                compaction.check(tx, seq)
                do(compaction.forget_parked, None).result()
                count = 0
                for count, page in enumerate(compaction.pages(tx, seq), start=1):
                    do(compaction.park, (run, count, page.SerializeToString())).result()
                    progress(count)
            return changes.Compaction.FromString(do(compaction.swap, (run, seq, count)).result())
        except BaseException:
            # Pages that nobody needs may be as large as the store.
            with suppress(MetadataError):
                do(compaction.forget_parked, run).result()
            raise

    def position_before(self, time_ms: int) -> int:
        """As `compaction.position_before`."""
        with self.reading() as tx:
            return compaction.position_before(tx, time_ms)

    def close(self) -> None:
        """Finish what is queued and close the database."""
        self._committer.close()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


SAID_EVERY_S: Final = 5.0


def bootstrap(store: Store, goes_on: Callable[[], bool] = lambda: True) -> None:
    """Log what the database held before it had a log, as long as `goes_on` says so, and tell how far it is."""
    began = said = time.monotonic()
    pages_done = 0
    while goes_on():
        done = store.bootstrap_step()
        now = time.monotonic()
        if done.is_done:
            if pages_done:
                log.info("bootstrapped", seq=done.complete_from, seconds=round(now - began, 1))
            return
        pages_done += 1
        if now - said >= SAID_EVERY_S:
            said = now
            log.info("bootstrapping", table=pages.PARTS[done.place.part], id=done.place.after, pages=pages_done)


@contextmanager
def reading(database: Database) -> Iterator[Transaction]:
    """A transaction that only reads, on a connection from the pool: all statements in it see one moment."""
    with database.reading() as connection:
        yield Transaction(connection, database.dialect, now_ms)


@contextmanager
def read_transaction(connection: Any, database: Database) -> Iterator[Transaction]:
    """The same on a connection of the caller's; begins with the first question, or not at all if that is the last."""
    tx = Transaction(connection, database.dialect, now_ms, begins_itself=True)
    try:
        yield tx
    finally:
        if tx.state is State.OPEN:
            database.end_read(connection)


def _answer(tx: Transaction, rpc: Rpc, request: Any, interruption: Interruption | None) -> Any:
    if interruption is None:
        return rpc.operation(tx, request)
    with tx.interruptible(interruption):
        return rpc.operation(tx, request)


class Bell:
    """Lets a thread sleep until something is committed."""

    def __init__(self, store: Store) -> None:
        """Listen to the store."""
        self._rung = threading.Event()
        self._stop = store.on_commit(lambda _: self._rung.set())

    def wait(self, seconds: float) -> None:
        """Until the next commit, or for so long."""
        self._rung.wait(seconds)
        self._rung.clear()

    def close(self) -> None:
        """Listen no more."""
        self._stop()
