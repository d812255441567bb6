"""Stopping a read that nobody waits for any more.

A query may run for minutes. Its thread and its connection belong to whoever is still there, so a caller that goes away
takes its query along. Writes are never stopped: one that has begun is finished.
"""

import threading
from collections.abc import Callable, Iterator
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
        self._interrupt: Callable[[], None] | None = None
        self._stopped = False

    def stop(self) -> None:
        """End the query that is running with `Cancelled`, and let no further one begin."""
        with self._lock:
            self._stopped = True
            if self._interrupt is not None:
                self._interrupt()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def check(self) -> None:
        """Raise `Cancelled` when stopped."""
        if self._stopped:
            raise Cancelled("the caller is gone, so the query was stopped")

    @contextmanager
    def covering(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Inside the block, `stop` calls `interrupt`, which may come from another thread, and outside it does not."""
        with self._lock:
            self._interrupt = interrupt
        try:
            self.check()
            yield
        finally:
            # Under the lock: after this, a late `stop` must not hit whoever gets the connection next.
            with self._lock:
                self._interrupt = None


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
