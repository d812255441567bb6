"""Calls in this process, without the network: how long they take, and how much of that is in the database.

Processor time is this process's alone, so that a busy machine changes little. "In the database" is the time in
the driver: from handing it a query to having its rows, and what begins and ends a transaction.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from bench.calls import PREFIX, Call
from bench.databases import Bed
from bench.servers import database_cpu_s
from mdstore.store.store import Store

_WORK: Final = (
    *("fetch", "fetch_all", "begin_read_and_ask", "ask_once", "ask_and_end", "write", "write_all", "finish", "create"),
    *("ask_for_ids", "begin_read", "begin_write", "begin_write_and_ask", "savepoint", "commit", "rollback"),
)
"""Methods of a dialect that wait for the database; one call at a time, so one thread is in them."""


@dataclass(slots=True)
class Times:
    """Of some calls, in milliseconds, one after the other."""

    wall_ms: list[float] = field(default_factory=list)
    database_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    """Processor time of all of them, the database's server's included."""

    def wall(self) -> float:
        """Median."""
        return median(self.wall_ms)

    def database(self) -> float:
        """Median."""
        return median(self.database_ms)

    def cpu_ms(self) -> float:
        """Mean."""
        return self.cpu_s / len(self.wall_ms) * 1000


def timed(place: Bed, store: Store, call: Call, requests: Sequence[Any], into: Times | None = None) -> Times:
    """Make these calls of one kind, one at a time."""
    times = Times() if into is None else into
    cpu = time.process_time() + database_cpu_s(place)
    for request in requests:
        with in_database(store) as spent:
            began = time.perf_counter()
            store.call(PREFIX + call.method, request)
            times.wall_ms.append((time.perf_counter() - began) * 1000)
        times.database_ms.append(sum(spent) * 1000)
    times.cpu_s += time.process_time() + database_cpu_s(place) - cpu
    return times


@contextmanager
def in_database(store: Store) -> Iterator[list[float]]:
    """Inside the block, what the store waits for its database is added to the list, in seconds."""
    dialect: Any = store.database.dialect
    spent: list[float] = []
    depth = 0

    def watch(name: str) -> None:
        original = getattr(dialect, name)

        def watched(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            depth += 1
            began = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                depth -= 1
                # Some of these call others.
                if not depth:
                    spent.append(time.perf_counter() - began)

        setattr(dialect, name, watched)

    names = [name for name in _WORK if hasattr(dialect, name)]
    for name in names:
        watch(name)
    try:
        yield spent
    finally:
        for name in names:
            delattr(dialect, name)
