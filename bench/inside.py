"""`inside`: one kind of call after the other in this process, without the network: where its time goes.

Processor time of this process alone, so a busy machine changes little; the database server's is the figure beside it.
Round trips are calls of the driver: what begins and ends a transaction counts too.
"""

import cProfile
import io
import pstats
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from bench import world
from bench.calls import CALLS, MORE_CALLS, PREFIX, Call
from bench.databases import Bed, bed
from bench.servers import database_cpu_s
from bench.tables import Figure, Sheet
from bench.timing import timed
from mdstore.store.commits import _Job
from mdstore.store.store import Store

DRIVER: Final = {
    "sqlite": ("<method 'execute' of", "<method 'executemany' of"),
    "postgresql": ("wait",),
    "mariadb": ("_execute_command",),
}
"""Functions of the drivers that are called once for each round trip."""
ROUNDS: Final = 4


def run(engines: Sequence[str], *, executions: int, only: Sequence[str] = (), functions: int = 0) -> Iterator[Sheet]:
    """Measure; gives a sheet for each database.

    Args:
        engines: databases, of `ENGINES`.
        executions: in the stores.
        only: parts of names of calls; none for all.
        functions: how many lines of a profile to note for each call.
    """
    chosen = [call for call in (*CALLS, *MORE_CALLS) if not only or any(part in call.name for part in only)]
    for engine in engines:
        sheet = Sheet(
            title=f"Inside, {engine}: {executions:,} executions, one call at a time in process",
            headings=(
                "call",
                "database",
                "calls/s",
                "CPU µs",
                "database's CPU µs",
                "round trips",
                "ms",
                "ms in database",
            ),
        )
        with bed(engine) as place:
            world.build(place, "inside", executions)
            with Store.open(place.url("inside")) as store:
                for call in chosen:
                    figures, profile = _measure(place, store, call, executions)
                    sheet.rows.append((call.name, engine, *figures))
                    if functions:
                        sheet.notes += [f"--- {call.name}", _text(profile, functions)]
        yield sheet


def _measure(place: Bed, store: Store, call: Call, executions: int) -> tuple[list[Figure], pstats.Stats]:
    path = PREFIX + call.method
    requests = call.make(executions, random.Random(1))
    for request in requests:
        store.call(path, request)
    began, cpu, database = time.perf_counter(), time.process_time(), database_cpu_s(place)
    for _ in range(ROUNDS):
        for request in requests:
            store.call(path, request)
    count = ROUNDS * len(requests)
    cpu, database, elapsed = time.process_time() - cpu, database_cpu_s(place) - database, time.perf_counter() - began
    times = timed(place, store, call, requests)
    profile = _profiled(store, call, requests)
    trips = sum(
        numbers[0]
        for (_, _, function), numbers in profile.stats.items()  # type: ignore[attr-defined]  # not in its stub
        if any(function == known or function.startswith(f"{known} ") for known in DRIVER[place.engine])
    )
    return [
        Figure(count / elapsed, digits=0),
        Figure(cpu / count * 1e6, digits=0),
        Figure(database / count * 1e6, digits=0),
        Figure(trips / len(requests), digits=1),
        Figure(times.wall(), digits=3),
        Figure(times.database(), digits=3),
    ], profile


def _profiled(store: Store, call: Call, requests: Sequence[Any]) -> pstats.Stats:
    rpc = store.find(PREFIX + call.method)
    profile = cProfile.Profile()
    with profile:
        for request in requests:
            if call.writes:
                # What the writer's thread does: a profile sees only its own.
                job = _Job(rpc.operation, request, None, foresee=rpc.foresee)
                store._committer._commit([job])
                job.future.result()
            else:
                store.read(rpc, request)
    return pstats.Stats(profile)


def _text(profile: pstats.Stats, functions: int) -> str:
    text = io.StringIO()
    profile.stream = text  # type: ignore[attr-defined]  # not in its stub
    profile.sort_stats("tottime").print_stats(functions)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip())
