"""`calls`: mdstore beside the original library, call by call, on each database.

F opens a store for every call, as the original server does; P keeps its stores open. See peer.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from statistics import median
from typing import Final

from bench import servers, world
from bench.calls import CALLS, Call
from bench.databases import DURABILITY, Bed, bed
from bench.paired import Measured, Target, measure
from bench.servers import Serving
from bench.tables import Figure, Sheet

OURS: Final = "mdstore"
F: Final = "F"
P: Final = "P"
PROCESSES: Final = {
    "sqlite": {1: 1, 16: 1, 64: 1},
    "postgresql": {1: 1, 16: 2, 64: 2},
    "mariadb": {1: 1, 16: 2, 64: 2},
}
"""In how many processes the peers are fastest here, by database and number of clients: see `--processes`."""
P99_OF_F: Final = 0.25
"""Goal for PutExecution's 99th percentile at 64 clients."""
HEADINGS: Final = (
    *("call", "database", "clients", "mdstore/s", "F/s", "P/s", "x F (goal)", "x P (goal)"),
    *("p50 ms", "p99 ms", "F's p99 ms", "CPU µs a call: mdstore", "F", "P", "failures"),
)


def run(
    engines: Sequence[str],
    clients: Sequence[int],
    *,
    repeats: int,
    seconds: float,
    executions: int,
    only: Sequence[str] = (),
    processes: int = 0,
) -> Iterator[Sheet]:
    """Measure; gives a sheet for each database.

    Args:
        engines: databases, of `ENGINES`.
        clients: numbers of clients.
        repeats: of each load, on each server.
        seconds: that each load lasts.
        executions: in the stores.
        only: parts of names of calls; none for all.
        processes: of each peer, in place of `PROCESSES`.
    """
    chosen = [call for call in CALLS if not only or any(part in call.name for part in only)]
    for engine in engines:
        sheet = Sheet(
            title=f"Calls, {engine}: {executions:,} executions, medians of {repeats} pairs of {seconds:g} s",
            headings=HEADINGS,
        )
        load_us: list[float] = []
        with bed(engine) as place:
            for name in (OURS, F, P):
                world.build(place, name.lower(), executions)
            for number in clients:
                count = processes or PROCESSES[engine].get(number, 2)
                with ExitStack() as stack:
                    started: dict[str, AbstractContextManager[Serving]] = {
                        OURS: servers.store(place, OURS, seconds=120),
                        F: servers.peer(place, F.lower(), "fresh", processes=count),
                        P: servers.peer(place, P.lower(), "kept", processes=count),
                    }
                    targets = {
                        name: Target(stack.enter_context(server), place, executions) for name, server in started.items()
                    }
                    for call in chosen:
                        found = measure(targets, call, clients=number, repeats=repeats, seconds=seconds)
                        sheet.rows.append(_row(place, call, number, found))
                        load_us += [loaded.client_cpu_us for loaded in found[OURS].loads]
        counts = ", ".join(f"{processes or PROCESSES[engine].get(n, 2)} at {n} clients" for n in clients)
        sheet.notes = [
            f"Durability: {DURABILITY[engine]}.",
            f"CPU: of the server + of the database's server. The load took {median(load_us):.0f} µs a call.",
            f"Processes of each peer: {counts}.",
        ]
        yield sheet


def _row(place: Bed, call: Call, clients: int, found: dict[str, Measured]) -> list[str | Figure]:
    ours, fresh, kept = found[OURS], found[F], found[P]
    is_judged = call is CALLS[0] and clients == 64
    failures = [f"{name}: {code} {count}" for name, one in found.items() for code, count in one.failures().items()]
    return [
        call.name,
        place.engine,
        str(clients),
        *(Figure(one.per_second(), digits=0) for one in (ours, fresh, kept)),
        Figure(ours.times(fresh), at_least=call.times_f.get(place.engine, {}).get(clients)),
        Figure(ours.times(kept), at_least=call.times_p),
        Figure(ours.p50_ms()),
        Figure(ours.p99_ms(), at_most=fresh.p99_ms() * P99_OF_F if is_judged else None),
        Figure(fresh.p99_ms()),
        *(one.cpu() for one in (ours, fresh, kept)),
        "; ".join(failures),
    ]
