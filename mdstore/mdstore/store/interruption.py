"""Stopping a read that nobody waits for any more.

A query may run for minutes. Its thread and its connection belong to whoever is still there, so a caller that goes away
takes its query along. Writes are never stopped: one that has begun is finished.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

from mdstore.errors import Cancelled

STEPS: Final = 20_000
"""Of SQLite's machine, between two looks at the clock: about a millisecond."""


class Interruption:
    """Stops one read. Threads: any may call `stop`; the others are for the thread that reads."""

    def __init__(self) -> None:
        """Nothing is stopped yet."""
        self._lock = threading.Lock()
        self._connection: Any = None
        self._stopped = False

    def stop(self) -> None:
        """End the query that is running with `Cancelled`, and let no further one begin."""
        with self._lock:
            self._stopped = True
            if self._connection is not None:
                _interrupt(self._connection)

    def check(self) -> None:
        """Raise `Cancelled` when stopped."""
        if self._stopped:
            raise Cancelled("the caller is gone, so the query was stopped")

    @contextmanager
    def covering(self, connection: Any) -> Iterator[None]:
        """Inside the block, `stop` reaches what runs on the driver's connection, and outside it does not."""
        with self._lock:
            self._connection = connection
        try:
            self.check()
            yield
        finally:
            # Under the lock: after this, a late `stop` must not hit whoever gets the connection next.
            with self._lock:
                self._connection = None


def _interrupt(connection: Any) -> None:
    # sqlite3 and apsw call it interrupt, psycopg cancel; both are made to be called from another thread.
    interrupt = getattr(connection, "interrupt", None) or getattr(connection, "cancel", None)
    if interrupt is not None:
        interrupt()


class TimeLimit:
    """Ends queries on one SQLite connection with `Cancelled` once they take too long."""

    def __init__(self, connection: Any) -> None:
        """Watch over a connection that one thread uses."""
        self._until = float("inf")
        connection.set_progress_handler(self._is_over, STEPS)

    def begin(self, seconds: float) -> None:
        """What runs from now on may take so long."""
        self._until = monotonic() + seconds

    def _is_over(self) -> bool:
        return monotonic() > self._until
