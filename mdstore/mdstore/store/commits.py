"""The one thread that writes: it takes what waits, does it in one transaction, and commits once for all.

That is what makes full durability cheap: the disk is waited for once per group and not once per request. The requests
of a group share their statements, too: what they will ask for is read before, and what they write is written at last,
one statement a table. An operation that fails then takes only rows along that were not written yet.

Where the database itself refuses something, that is not enough: the group is rolled back and done again with care, each
operation behind a savepoint and its rows written at once, so that the one to blame is known and takes nothing of the
others along.
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
from mdstore.store.dialects import POOL_SIZE, Dialect, Row
from mdstore.store.operations import ahead
from mdstore.store.operations.ahead import Foresee
from mdstore.store.reconciling import Reconciler
from mdstore.store.requests import KEEP_S, Answers, Call, forget_old
from mdstore.store.rpcs import Operation
from mdstore.store.transaction import Refused, Transaction, now_ms
from mdstore.wire import changes

log = structlog.get_logger()


class _NothingDone(Exception):
    """A transaction that the database ended."""

    def __init__(self, error: MetadataError, *, retry: bool) -> None:
        """Take what callers are told, and whether it may end better another time."""
        super().__init__(str(error))
        self.error = error
        self.retry = retry


class _WithCare(Exception):
    """The transaction must be done again with care, to know which operation is to blame."""


GROUP: Final = 64
"""Requests in one transaction, at most."""


MOST_CAREFUL: Final = 6
"""2 to the power of this is how many groups are done with care after others had to be done again."""

ATTEMPTS: Final = 5
"""How often a request is tried whose transaction lost against another program's."""

RETRY_S: Final = 5.0
"""A transaction that lost after so long waited for a lock, and all that is queued with it: it is not tried again."""


class _Answer(Future[Any]):
    """What becomes of a request. One that is given up is let go at once, though its place in the queue stays."""

    request: Any = None

    def cancel(self) -> bool:
        is_cancelled = super().cancel()
        if is_cancelled:
            self.request = None
        return is_cancelled


@dataclass(slots=True, eq=False)
class _Job:
    operation: Operation
    deadline: float | None
    call: Call | None = None
    foresee: Foresee | None = None
    future: _Answer = field(default_factory=_Answer)
    response: Any = None
    error: BaseException | None = None
    entry: change_log.Entry | None = None
    is_repeat: bool = False
    """Somebody was given this response before."""

    @property
    def request(self) -> Any:
        """As it was submitted."""
        return self.future.request

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
        self._careful = self._failed = 0
        """How many groups more are done with care at once, and how many lately had to be."""
        self._thread = threading.Thread(target=self._work, name="mdstore-writer", daemon=True)
        self._thread.start()

    def waiting(self) -> int:
        """How many operations wait for their turn."""
        return self._jobs.qsize()

    def submit(
        self,
        operation: Operation,
        request: Any,
        deadline: float | None = None,
        call: Call | None = None,
        foresee: Foresee | None = None,
    ) -> "Future[Any]":
        """Queue an operation; the future has its response once it is on disk, or its error.

        With `foresee`, what the operation will ask for is read before it runs. An operation whose future is cancelled,
        or whose `deadline` (of `time.monotonic`) has passed, before its turn is not done. With a `call`, it is not done
        either when it was done before and its answer is remembered.
        """
        job = _Job(operation, deadline, call, foresee)
        job.future.request = request
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
                # What is done keeps no memory while nothing comes.
                del group, job
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
            elif attempt < ATTEMPTS and time.perf_counter() - began < RETRY_S:
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
        """Do all in one transaction, with care if needed; returns the new head, or None when nothing was changed.

        Raises:
            _NothingDone: the database would not have it, so that it may be tried again.
        """
        if self._careful:
            self._careful -= 1
            return self._try(group, with_care=True)
        try:
            newest = self._try(group, with_care=False)
        except _WithCare:
            if len(group) > 1:
                # Where much is refused, going back costs more than taking care.
                self._failed = min(self._failed + 1, MOST_CAREFUL)
                self._careful = 2**self._failed
            return self._try(group, with_care=True)
        if len(group) > 1:
            self._failed = 0
        return newest

    def _try(self, group: Sequence[_Job], *, with_care: bool) -> change_log.Head | None:
        """Do all in one transaction.

        Raises:
            _WithCare: not `with_care`, and an operation is to blame.
            _NothingDone: the database would not have it, so that it may be tried again.
        """
        begun = self._begin(group, with_care=with_care)
        tx, row = begun.tx, begun.head
        locked = None if row is None else change_log.Head(row[0], bytes(row[1]), row[2])
        try:
            newest = self._run(begun, group, locked, with_care=with_care)
        except Refused as refused:
            self._roll_back()
            if isinstance(refused.error, Aborted | Unavailable):
                raise _NothingDone(refused.error, retry=True) from refused
            raise _WithCare from refused
        except BaseException:
            self._roll_back()
            raise
        try:
            tx.finish()
        except Refused as refused:
            self._roll_back()
            match refused.error:
                case Unavailable() as error:
                    unknown = Unavailable(f"{error}; whether this was written is not known")
                    unknown.retry_after_ms = error.retry_after_ms
                    raise unknown from refused
                case Aborted() as error:
                    raise _NothingDone(error, retry=True) from refused
                case _ if not with_care:
                    raise _WithCare from refused
                case error:
                    raise error from refused
        except BaseException:
            self._roll_back()
            raise
        return newest

    def _roll_back(self) -> None:
        if self._swept:
            self._reconciler.forget()
        self._end_whatever_is_open()

    def _end_whatever_is_open(self) -> None:
        try:
            self._dialect.rollback(self._connection)
        except self._dialect.errors:
            # In whatever state it is, a new one is not.
            self._disconnect()

    def _begin(self, group: Sequence[_Job], *, with_care: bool) -> "_Begun":
        """Begin, on a new connection when the old one is lost, and read ahead unless `with_care`."""
        dialect = self._dialect
        # It may have been lost while nobody used it, and so may those in the pool: at last one is made.
        for last in (*[False] * (POOL_SIZE + 1), True):
            try:
                if self._connection is None:
                    self._connection = self._database.connect()
                tx = Transaction(self._connection, dialect, now_ms)
                if with_care:
                    return _Begun(tx, dialect.begin_write(self._connection))
                reading = _read_ahead(tx, group)
                return _Begun(tx, *dialect.begin_write_and_ask(self._connection, reading.texts), reading)
            except dialect.errors as error:
                failure = dialect.error(error)
                if dialect.is_lost(self._connection):
                    self._disconnect()
                    if not last:
                        continue
                else:
                    self._end_whatever_is_open()
                raise _NothingDone(failure, retry=False) from error
            except MetadataError as error:
                raise _NothingDone(error, retry=False) from error
        raise AssertionError("the last attempt returns or raises")

    def _disconnect(self) -> None:
        with suppress(*self._dialect.errors):
            self._connection.close()
        self._connection = None

    def _run(
        self, begun: "_Begun", group: Sequence[_Job], locked: change_log.Head | None, *, with_care: bool
    ) -> change_log.Head | None:
        """Run the operations and write the log behind `locked`, or the head that was last known."""
        dialect = self._dialect
        tx = begun.tx
        alone = len(group) == 1
        savepoints = with_care and not alone
        try:
            if not all(job.foresee for job in group):
                dialect.plan_for_values(tx.cursor.connection)
            swept = self._reconcile(tx, locked, whole=any(job.operation is _sweep for job in group))
            answers = Answers(tx, self._keep_answers_s)
            if not with_care:
                tx.writes_late = True
                begun.learn(dialect)
            for number, job in enumerate(group):
                job.error = job.entry = None
                job.is_repeat = False
                if savepoints:
                    dialect.savepoint(tx.cursor.connection, first=number == 0 and not self._swept)
                tx.begin_operation()
                try:
                    _do(tx, job, answers)
                except Refused:
                    raise
                except Exception as error:
                    caused_by_database = isinstance(error.__cause__ or error, dialect.errors)
                    if isinstance(error, Aborted | Unavailable) and caused_by_database:
                        # The transaction as a whole is over, whatever this operation was.
                        raise _NothingDone(error, retry=True) from error
                    job.error = error
                    if alone and caused_by_database and not with_care:
                        # What somebody else has written meanwhile is seen when it is done once more.
                        raise _WithCare from error
                    if alone:
                        raise
                    if savepoints:
                        dialect.rollback_to_savepoint(tx.cursor.connection)
                        tx.forget()
                    elif caused_by_database or not tx.drop_operation():
                        raise _WithCare from error
                else:
                    tx.end_operation()
                    job.entry = change_log.Entry(tx.origin, tx.actor, tx.changes)
                    if job.call is not None and not job.is_repeat:
                        answers.add(job.call, job.request, job.response, changed=bool(tx.changes.ByteSize()))
            newest = _append(tx, group, swept or locked or self._head, is_locked=locked is not None) or swept
            answers.write()
            return newest
        except dialect.errors as error:
            raise _NothingDone(dialect.error(error), retry=True) from error
        except MetadataError as error:
            if isinstance(error.__cause__, dialect.errors) and (not alone or isinstance(error, Aborted | Unavailable)):
                raise _NothingDone(error, retry=True) from error
            raise

    def _reconcile(self, tx: Transaction, locked: change_log.Head | None, *, whole: bool) -> change_log.Head | None:
        """Log what others have written, before the group's operations; returns the new head if there was any."""
        connection = tx.cursor.connection
        version = self._dialect.foreign_version(connection)
        newest = locked or self._head
        self._swept = whole or self._reconciler.is_due(version, newest.seq if newest is not None else None)
        if not self._swept:
            return None
        sweep = self._reconciler.whole if whole else self._reconciler.small
        self._dialect.plan_for_values(connection)
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


@dataclass(frozen=True, slots=True)
class _Begun:
    """A transaction that has begun."""

    tx: Transaction
    head: Row | None
    """The row of the head, where it is locked."""
    found: list[Sequence[Row]] | Exception = field(default_factory=list)
    """What was read ahead, or why it could not be."""
    reading: ahead.Reading | None = None

    def learn(self, dialect: Dialect) -> None:
        """Let the transaction know what was read ahead; raises why it could not be."""
        if isinstance(self.found, MetadataError):
            # Not even asked: it is too long, and one of the operations is to blame.
            raise _WithCare from self.found
        if isinstance(self.found, Exception):
            raise dialect.error(self.found) from self.found
        if self.reading is not None:
            self.reading.learn(self.found)


def _read_ahead(tx: Transaction, group: Sequence[_Job]) -> ahead.Reading:
    needs = ahead.Needs()
    for job in group:
        if job.foresee is not None:
            job.foresee(needs, job.request)
    return ahead.Reading(tx, needs, requests=len(group))


def _do(tx: Transaction, job: _Job, answers: Answers) -> None:
    found = answers.find(job.call, job.request) if job.call is not None else None
    if found is None:
        job.response = job.operation(tx, job.request)
    else:
        job.response, job.is_repeat = found, True


def _sweep(tx: Transaction, _request: Any) -> None:
    """Stands in a job for a whole sweep, which runs before all operations of its group; forgets old answers."""
    forget_old(tx)


def _append(
    tx: Transaction, group: Sequence[_Job], known: change_log.Head | None, *, is_locked: bool
) -> change_log.Head | None:
    """One commit of the log for neighbours that come from the same source."""
    entries: list[change_log.Entry] = []
    place: list[tuple[_Job, int]] = []
    size = 0
    for job in group:
        if job.entry is None or not (more := job.entry.changes.ByteSize()):
            continue
        last = entries[-1] if entries else None
        if (
            last is not None
            and (last.origin, last.actor) == (job.entry.origin, job.entry.actor)
            and not _ends(last.changes)
            and size + more <= change_log.PORTION_BYTES
        ):
            last.changes.MergeFrom(job.entry.changes)
            size += more
        else:
            entries.append(job.entry)
            size = more
        place.append((job, len(entries)))
    newest = change_log.append(tx, entries, known, is_locked=is_locked)
    if newest is not None:
        for job, number in place:
            if hasattr(job.response, "seq") and not job.is_repeat:
                job.response.seq = newest.seq - len(entries) + number
    return newest


def _ends(change: changes.Changes) -> bool:
    """Whether nothing may be added to a commit.

    What is deleted comes last in it: who takes a name that a deletion has set free comes after it. So does who holds
    what another one has released.
    """
    return bool(change.deleted_artifacts or change.deleted_executions or change.deleted_contexts or change.releases)
