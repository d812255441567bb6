"""`memory`: what a server holds when it has just started, and while calls go on and on.

A mix as pipelines make it: most calls read one thing, some write, some list. It ends after so many calls or seconds;
what was measured until then shows whether memory grows with the calls.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Final

from bench import load, servers, world
from bench.calls import CALLS, PREFIX
from bench.databases import bed
from bench.tables import Cell, Figure, Sheet

IDLE_MIB: Final = 90
LATER_MIB: Final = 200
GROWTH_MIB: Final = 5
"""Goal: by which the last half of the calls may make it grow, for 100,000 calls."""
STEPS: Final = 10
CLIENTS: Final = 16
EXECUTIONS: Final = 1000
MIX: Final = {
    "1 execution by id": 0.5,
    "context by type+name": 0.2,
    "state, PutExecutions": 0.1,
    "PutExecution, 3 artifacts": 0.1,
    "tasks of a DAG (KFP)": 0.1,
}
"""Shares of the calls, by their names."""


def run(engines: Sequence[str], *, calls: int, seconds: float) -> Iterator[Sheet]:
    """Measure; gives one sheet.

    Args:
        engines: databases, of `ENGINES`.
        calls: that a server gets at most.
        seconds: for which it gets them at most.
    """
    sheet = Sheet(
        title=f"Memory of the server, MiB: {calls:,} calls of {CLIENTS} clients, or {seconds:g} s",
        headings=(
            *("database", "idle (goal)", "first answer", "calls made"),
            *(f"after {100 * step // STEPS} %" for step in range(1, STEPS)),
            *("at the end (goal)", "growth for 100,000 calls, last half"),
        ),
    )
    for engine in engines:
        sheet.rows.append(_row(engine, calls, seconds))
    yield sheet


def _row(engine: str, most: int, seconds: float) -> tuple[Cell, ...]:
    made: list[int] = []
    memory: list[float] = []
    with bed(engine) as place:
        world.build(place, "memory", EXECUTIONS)
        with servers.store(place, "memory", seconds=60):
            pass  # the log is begun, which is not what idle means
        with servers.store(place, "memory", seconds=60) as server:
            idle = _mib(server)
            _load(server.port, 1, 0.1)
            first = _mib(server)
            began, count = time.monotonic(), 0
            for step in range(1, STEPS + 1):
                left = began + seconds * step / STEPS - time.monotonic()
                count += _load(server.port, most // STEPS, max(1.0, left))
                made.append(count)
                memory.append(_mib(server))
    half = STEPS // 2 - 1
    growth = (memory[-1] - memory[half]) / max(1, made[-1] - made[half]) * 100_000
    return (
        engine,
        Figure(idle, at_most=IDLE_MIB, digits=0),
        Figure(first, digits=0),
        Figure(count, digits=0),
        *(Figure(value, digits=0) for value in memory[:-1]),
        Figure(memory[-1], at_most=LATER_MIB, digits=0),
        Figure(growth, at_most=GROWTH_MIB, digits=1),
    )


def _load(port: int, calls: int, seconds: float) -> int:
    done = 0
    for call in CALLS:
        if (share := MIX.get(call.name)) is None:
            continue
        job = load.Job(
            port=port,
            method=PREFIX + call.method,
            requests=call.requests(EXECUTIONS, CLIENTS, seed=calls),
            seconds=seconds * share,
            most_calls=max(1, int(calls * share)),
        )
        done += load.run(job).all_calls
    return done


def _mib(server: servers.Serving) -> float:
    return server.rss_bytes() / 2**20
