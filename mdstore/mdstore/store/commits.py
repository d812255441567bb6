"""The one thread that writes: it takes what waits, does it in one transaction, and commits once for all.

That is what makes full durability cheap: the disk is waited for once per group and not once per request. Each operation
runs behind a savepoint, so one that fails takes nothing of the others along.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from mdstore.errors import Aborted, DeadlineExceeded, Internal, MetadataError, Unavailable
from mdstore.store import change_log
from mdstore.store.database import Database
from mdstore.store.dialects import Row
from mdstore.store.reconciling import Reconciler
from mdstore.store.requests import KEEP_S, Answers, Call, forget_old
from mdstore.store.rpcs import Operation
from mdstore.store.transaction import Transaction, now_ms
from mdstore.wire import changes

log = structlog.get_logger()


class _NothingDone(Exception):
    """A transaction that the database ended."""

    def __init__(self, error: MetadataError, *, retry: bool) -> None:
        """Take what callers are told, and whether it may end better another time."""
        super().__init__(str(error))
        self.error = error
        self.retry = retry


GROUP: Final = 64
"""Requests in one transaction, at most."""


ATTEMPTS: Final = 5
"""How often a request is tried whose transaction lost against another program's."""


@dataclass(slots=True, eq=False)
class _Job:
    operation: Operation
    request: Any
    deadline: float | None
    call: Call | None = None
    future: "Future[Any]" = field(default_factory=Future)
    response: Any = None
    error: BaseException | None = None
    entry: change_log.Entry | None = None
    is_repeat: bool = False
    """Somebody was given this response before."""

    def answer(self) -> Any:
        """The response as a message of its own."""
        if not self.is_repeat:
            return self.response
        copy = type(self.response)()
        copy.CopyFrom(self.response)
        return copy


class Committer:
    """The writer thread of one database. Threads: any may submit."""

    def __init__(
        self,
        database: Database,
        on_commit: Callable[[int], None],
        on_group: Callable[[int, float], None] = lambda _size, _seconds: None,
        *,
        keep_answers_s: float = KEEP_S,
    ) -> None:
        """Start the thread.

        Args:
            database: stays open; the caller closes it.
            on_commit: called on the thread with the newest position after each commit that changed it.
            on_group: called on the thread with the size of each group and the seconds that its transaction took.
            keep_answers_s: how long a write with an idempotency key is answered again as it was.
        """
        self._database = database
        self._keep_answers_s = keep_answers_s
        self._on_commit = on_commit
        self._on_group = on_group
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        # Between looking whether the store is open and queuing, it must not be closed: nobody would do the job.
        self._accepting = threading.Lock()
        self._dialect = database.dialect
        self._connection: Any = database.connect()
        self._head: change_log.Head | None = None
        self._reconciler = Reconciler()
        self._swept = False
        """Whether the transaction that is open holds a sweep."""
        self._thread = threading.Thread(target=self._work, name="mdstore-writer", daemon=True)
        self._thread.start()

    def waiting(self) -> int:
        """How many operations wait for their turn."""
        return self._jobs.qsize()

    def submit(
        self, operation: Operation, request: Any, deadline: float | None = None, call: Call | None = None
    ) -> "Future[Any]":
        """Queue an operation; the future has its response once it is on disk, or its error.

        An operation whose future is cancelled, or whose `deadline` (of `time.monotonic`) has passed, before its turn
        is not done. With a `call`, it is not done either when it was done before and its answer is remembered.
        """
        job = _Job(operation, request, deadline, call)
        with self._accepting:
            if not self._closed:
                self._jobs.put(job)
                return job.future
        job.future.set_exception(Unavailable("the store is closed, or shutting down"))
        return job.future

    def reconcile(self) -> "Future[Any]":
        """Queue a whole sweep for what other programs have written; the future is done once its commits are on disk."""
        return self.submit(_sweep, None)

    def close(self) -> None:
        """Do what is queued, refuse what comes, and end the thread."""
        with self._accepting:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            going = True
            while going:
                job = self._jobs.get()
                group: list[_Job] = []
                while True:
                    if job is None:
                        going = False
                        break
                    if not job.future.set_running_or_notify_cancel():
                        pass
                    elif job.deadline is not None and time.monotonic() >= job.deadline:
                        job.future.set_exception(DeadlineExceeded("the deadline passed before the turn of this write"))
                    else:
                        group.append(job)
                    if len(group) >= GROUP:
                        break
                    try:
                        job = self._jobs.get_nowait()
                    except queue.Empty:
                        break
                if group:
                    self._commit_whatever_happens(group)
        finally:
            if self._connection is not None:
                self._disconnect()

    def _commit_whatever_happens(self, group: list[_Job]) -> None:
        try:
            self._commit(group)
        except Exception as error:
            # A listener's fault, or ours: without this thread every later write would wait for ever.
            log.exception("writer_failed", error=str(error))
            for job in group:
                if not job.future.done():
                    job.future.set_exception(Internal(f"the writer failed: {error}"))

    def _commit(self, group: list[_Job], attempt: int = 1) -> None:
        began = time.perf_counter()
        try:
            newest = self._transact(group)
        except _NothingDone as failed:
            error = failed.error
            if not failed.retry:
                pass
            elif len(group) > 1:
                # One of them may be to blame, and must not take the others along.
                for job in group:
                    self._commit([job])
                return
            elif attempt < ATTEMPTS:
                time.sleep(random.uniform(0, 0.002 * 2**attempt))  # noqa: S311 (no secret)
                self._commit(group, attempt + 1)
                return
            for job in group:
                job.future.set_exception(error)
            return
        except Exception as error:
            for job in group:
                job.future.set_exception(job.error or error)
            return
        self._on_group(len(group), time.perf_counter() - began)
        for job in group:
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.answer())
        if newest is not None:
            # Only now: a head that was not committed must not be built upon.
            self._head = newest
            self._on_commit(newest.seq)

    def _transact(self, group: Sequence[_Job]) -> change_log.Head | None:
        """Do all in one transaction; returns the new head, or None when nothing was changed.

        Raises:
            _NothingDone: the database would not have it, so that it may be tried again.
        """
        dialect = self._dialect
        row = self._begin()
        locked = None if row is None else change_log.Head(row[0], bytes(row[1]), row[2])
        connection = self._connection
        try:
            newest = self._run(connection, group, locked)
        except BaseException:
            self._roll_back()
            raise
        try:
            dialect.commit(connection)
        except dialect.errors as error:
            failure = dialect.error(error)
            self._roll_back()
            if isinstance(failure, Unavailable):
                raise Unavailable(f"{failure}; whether this was written is not known") from error
            raise failure from error
        return newest

    def _roll_back(self) -> None:
        if self._swept:
            self._reconciler.forget()
        with suppress(*self._dialect.errors):
            self._dialect.rollback(self._connection)

    def _begin(self) -> Row | None:
        """Begin, on a new connection when the old one is lost."""
        dialect = self._dialect
        for last in (False, True):
            try:
                if self._connection is None:
                    self._connection = self._database.connect()
                return dialect.begin_write(self._connection)
            except dialect.errors as error:
                failure = dialect.error(error)
                if dialect.is_lost(self._connection):
                    self._disconnect()
                    if not last:
                        continue
                else:
                    with suppress(*dialect.errors):
                        dialect.rollback(self._connection)
                raise _NothingDone(failure, retry=False) from error
            except MetadataError as error:
                raise _NothingDone(error, retry=False) from error
        raise AssertionError("the last attempt returns or raises")

    def _disconnect(self) -> None:
        with suppress(*self._dialect.errors):
            self._connection.close()
        self._connection = None

    def _run(self, connection: Any, group: Sequence[_Job], locked: change_log.Head | None) -> change_log.Head | None:
        """Run the operations and write the log behind `locked`, or the head that was last known."""
        dialect = self._dialect
        tx = Transaction(connection, dialect, now_ms)
        alone = len(group) == 1
        try:
            swept = self._reconcile(connection, tx, locked, whole=any(job.operation is _sweep for job in group))
            answers = Answers(tx, self._keep_answers_s)
            for number, job in enumerate(group):
                job.error = job.entry = None
                job.is_repeat = False
                if not alone:
                    dialect.savepoint(connection, first=number == 0 and not self._swept)
                tx.changes = changes.Changes()
                tx.origin, tx.actor = "mlmd", ""
                try:
                    _do(tx, job, answers)
                except Exception as error:
                    if isinstance(error, Aborted | Unavailable) and isinstance(error.__cause__, dialect.errors):
                        # The transaction as a whole is over, whatever this operation was.
                        raise _NothingDone(error, retry=True) from error
                    job.error = error
                    if alone:
                        raise
                    dialect.rollback_to_savepoint(connection)
                    tx.forget()
                else:
                    job.entry = change_log.Entry(tx.origin, tx.actor, tx.changes)
                    if job.call is not None and not job.is_repeat:
                        answers.add(job.call, job.request, job.response, changed=bool(tx.changes.ByteSize()))
                    tx.earlier.append(tx.changes)
            newest = _append(tx, group, swept or locked or self._head) or swept
            answers.write()
            return newest
        except dialect.errors as error:
            raise _NothingDone(dialect.error(error), retry=True) from error
        except MetadataError as error:
            if not alone and isinstance(error.__cause__, dialect.errors):
                raise _NothingDone(error, retry=True) from error
            raise

    def _reconcile(
        self, connection: Any, tx: Transaction, locked: change_log.Head | None, *, whole: bool
    ) -> change_log.Head | None:
        """Log what others have written, before the group's operations; returns the new head if there was any."""
        version = self._dialect.foreign_version(connection)
        newest = locked or self._head
        self._swept = whole or self._reconciler.is_due(version, newest.seq if newest is not None else None)
        if not self._swept:
            return None
        sweep = self._reconciler.whole if whole else self._reconciler.small
        self._dialect.savepoint(connection, first=True)
        try:
            return sweep(tx, locked, version)
        except Exception as error:
            # Somebody else's rows must not keep ours from being written.
            self._dialect.rollback_to_savepoint(connection)
            tx.forget()
            self._reconciler.failed(version)
            log.exception("reconciling_failed", error=str(error))
            return None


def _do(tx: Transaction, job: _Job, answers: Answers) -> None:
    found = answers.find(job.call, job.request) if job.call is not None else None
    if found is None:
        job.response = job.operation(tx, job.request)
    else:
        job.response, job.is_repeat = found, True


def _sweep(tx: Transaction, _request: Any) -> None:
    """Stands in a job for a whole sweep, which runs before all operations of its group; forgets old answers."""
    forget_old(tx)


def _append(tx: Transaction, group: Sequence[_Job], known: change_log.Head | None) -> change_log.Head | None:
    """One commit of the log for neighbours that come from the same source."""
    entries: list[change_log.Entry] = []
    place: list[tuple[_Job, int]] = []
    for job in group:
        if job.entry is None or not job.entry.changes.ByteSize():
            continue
        last = entries[-1] if entries else None
        if (
            last is not None
            and (last.origin, last.actor) == (job.entry.origin, job.entry.actor)
            # What is deleted comes last in a commit: who takes a name that a deletion has set free comes after it.
            and not (last.changes.deleted_artifacts or last.changes.deleted_executions or last.changes.deleted_contexts)
        ):
            last.changes.MergeFrom(job.entry.changes)
        else:
            entries.append(job.entry)
        place.append((job, len(entries)))
    newest = change_log.append(tx, entries, known)
    if newest is not None:
        for job, number in place:
            if hasattr(job.response, "seq") and not job.is_repeat:
                job.response.seq = newest.seq - len(entries) + number
    return newest
