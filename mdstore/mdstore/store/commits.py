"""The one thread that writes: it takes what waits, does it in one transaction, and commits once for all.

That is what makes full durability cheap: the disk is waited for once per group and not once per request. Each operation
runs behind a savepoint, so one that fails takes nothing of the others along.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from mdstore.errors import (
    Aborted,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    MetadataError,
    ResourceExhausted,
    Unavailable,
)
from mdstore.store import change_log
from mdstore.store.database import Database
from mdstore.store.reconciling import Reconciler, foreign_version
from mdstore.store.requests import KEEP_S, Answers, Call, forget_old
from mdstore.store.rpcs import Operation
from mdstore.store.transaction import Transaction, now_ms
from mdstore.wire import changes

log = structlog.get_logger()

GROUP: Final = 64
"""Requests in one transaction, at most."""


def as_metadata_error(error: sqlite3.Error) -> MetadataError:
    """What a failure of the database means to the caller."""
    message = str(error)
    match getattr(error, "sqlite_errorname", "").partition("_")[2].partition("_")[0]:
        case "BUSY" | "LOCKED":
            return Aborted(f"the database is busy: {message}; try again")
        case "FULL":
            return ResourceExhausted(f"the disk is full: {message}")
        case "READONLY":
            return FailedPrecondition(f"the database cannot be written: {message}")
        case "IOERR" | "CANTOPEN" | "CORRUPT" | "NOTADB":
            return Unavailable(f"the database cannot be used: {message}")
        case "INTERRUPT":
            return Cancelled("the query was stopped: its caller is gone, or it took too long")
        case "TOOBIG":
            return ResourceExhausted(f"a value is too large for the database: {message}")
    return Internal(f"the database failed: {message}")


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
        self._connection = database.connect()
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
        connection = self._connection
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
                    self._commit(connection, group)
        finally:
            connection.close()

    def _commit(self, connection: Any, group: list[_Job]) -> None:
        began = time.perf_counter()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                newest = self._run(connection, group)
                connection.execute("COMMIT")
            except BaseException:
                if self._swept:
                    self._reconciler.forget()
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except Exception as error:
            failure = as_metadata_error(error) if isinstance(error, sqlite3.Error) else error
            for job in group:
                job.future.set_exception(job.error or failure)
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

    def _run(self, connection: Any, group: Sequence[_Job]) -> change_log.Head | None:
        """Run the operations and write the log; returns the new head, or None when nothing was changed."""
        tx = Transaction(connection, self._database.dialect, now_ms)
        swept = self._reconcile(connection, tx, whole=any(job.operation is _sweep for job in group))
        alone = len(group) == 1
        answers = Answers(tx, self._keep_answers_s)
        for job in group:
            if not alone:
                connection.execute("SAVEPOINT operation")
            tx.changes = changes.Changes()
            tx.origin, tx.actor = "mlmd", ""
            try:
                self._do(tx, job, answers)
            except Exception as error:
                job.error = as_metadata_error(error) if isinstance(error, sqlite3.Error) else error
                if alone:
                    raise
                connection.execute("ROLLBACK TO operation")
                connection.execute("RELEASE operation")
                tx.forget()
            else:
                if not alone:
                    connection.execute("RELEASE operation")
                job.entry = change_log.Entry(tx.origin, tx.actor, tx.changes)
                if job.call is not None and not job.is_repeat:
                    answers.add(job.call, job.request, job.response, changed=bool(tx.changes.ByteSize()))
                tx.earlier.append(tx.changes)
        newest = _append(tx, group, swept or self._head) or swept
        answers.write()
        return newest

    def _do(self, tx: Transaction, job: _Job, answers: Answers) -> None:
        found = answers.find(job.call, job.request) if job.call is not None else None
        if found is None:
            job.response = job.operation(tx, job.request)
        else:
            job.response, job.is_repeat = found, True

    def _reconcile(self, connection: Any, tx: Transaction, *, whole: bool) -> change_log.Head | None:
        """Log what others have written, before the group's operations; returns the new head if there was any."""
        version = foreign_version(connection, self._database.dialect)
        self._swept = whole or self._reconciler.is_due(version)
        if not self._swept:
            return None
        sweep = self._reconciler.whole if whole else self._reconciler.small
        connection.execute("SAVEPOINT sweep")
        try:
            found = sweep(tx, None, version)
        except Exception as error:
            # Somebody else's rows must not keep ours from being written.
            connection.execute("ROLLBACK TO sweep")
            self._reconciler.failed(version)
            log.exception("reconciling_failed", error=str(error))
            found = None
        connection.execute("RELEASE sweep")
        return found


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
