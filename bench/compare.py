"""`calls`: mdstore beside the original library, call by call, on each database.

F opens a store for every call, as the original server does; P keeps its stores open. The library's binding lets only
one call of a process work at a time, so F, whose model works at several, is given several processes when it has
several clients; P is measured both ways. See peer.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Final

from bench import servers, world
from bench.calls import CALLS, Call
from bench.databases import DURABILITY, Bed, bed
from bench.paired import Measured, Target, measure
from bench.tables import Figure, Sheet
from mdstore.store.store import Store

OURS: Final = "mdstore"
F: Final = "F"
P: Final = "P"
SEVERAL: Final = "P in several processes"
READS_IN: Final = {"sqlite": 2, "postgresql": 4, "mariadb": 4}
WRITES_IN: Final = {"sqlite": 1, "postgresql": 4, "mariadb": 4}
"""In how many processes a peer is fastest on two cores when it has several clients; else one is. On SQLite, several
that write are in each other's way and fail with ABORTED."""
P99_OF_F: Final = 0.25
"""Goal for PutExecution's 99th percentile at 64 clients."""
HEADINGS: Final = (
    *("call", "database", "clients", "mdstore/s", "F/s", "P/s", "x F (goal)", "x P (goal)", "x P, several (goal)"),
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
    """Measure; gives a sheet for each database and number of clients.

    Args:
        engines: databases, of `ENGINES`.
        clients: numbers of clients.
        repeats: of each load, on each server.
        seconds: that each load lasts.
        executions: in the stores.
        only: parts of names of calls; none for all.
        processes: of the peers that have several, in place of what was fastest.
    """
    chosen = [call for call in CALLS if not only or any(part in call.name for part in only)]
    for engine in engines:
        with bed(engine) as place:
            for name in (OURS, F, P):
                world.build(place, name.lower(), executions)
            Store.open(place.url(OURS.lower())).close()  # a server would begin the log beside the first calls
            for number in clients:
                sheet = Sheet(
                    title=f"Calls, {engine}, {number} client(s): medians of {repeats} pairs of {seconds:g} s",
                    headings=HEADINGS,
                )
                load_us: list[float] = []
                with ExitStack() as stack:
                    ours = stack.enter_context(servers.store(place, OURS, seconds=120))
                    peers = {
                        (name, count): stack.enter_context(servers.peer(place, name.lower(), mode, processes=count))
                        for name, mode in ((F, "fresh"), (P, "kept"))
                        for count in {
                            1,
                            *(_count(engine, number, processes, writes=writes) for writes in (True, False)),
                        }
                    }
                    for call in chosen:
                        several = _count(engine, number, processes, writes=call.writes)
                        serving = {OURS: ours, F: peers[F, several], P: peers[P, 1]}
                        if several > 1:
                            serving[SEVERAL] = peers[P, several]
                        targets = {name: Target(server, place, executions) for name, server in serving.items()}
                        found = measure(targets, call, clients=number, repeats=repeats, seconds=seconds)
                        sheet.rows.append(_row(place, call, number, found))
                        load_us += [loaded.client_cpu_us for loaded in found[OURS].loads]
                sheet.notes = [
                    f"Stores of {executions:,} executions. Durability: {DURABILITY[engine]}.",
                    f"CPU: of the server + of the database's server. The load took {median(load_us):.0f} µs a call.",
                    _processes_note(engine, number, processes),
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
        Figure(ours.times(found.get(SEVERAL, kept)), at_least=call.times_p),
        Figure(ours.p50_ms()),
        Figure(ours.p99_ms(), at_most=fresh.p99_ms() * P99_OF_F if is_judged else None),
        Figure(fresh.p99_ms()),
        *(one.cpu() for one in (ours, fresh, kept)),
        "; ".join(failures),
    ]


def _count(engine: str, clients: int, given: int, *, writes: bool) -> int:
    """In how many processes the peers that have several are."""
    if clients == 1:
        return 1
    return given or (WRITES_IN if writes else READS_IN)[engine]


def _processes_note(engine: str, clients: int, processes: int) -> str:
    reads, writes = (_count(engine, clients, processes, writes=which) for which in (False, True))
    return f"P is in one process; F and 'P, several' are in {reads} when they read, and in {writes} when they write."
