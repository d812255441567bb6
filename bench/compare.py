"""`calls`: mdstore beside the original library, call by call, on each database.

F opens a store for every call, as the original server does; P keeps its stores open. See peer.py.
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

OURS: Final = "mdstore"
F: Final = "F"
P: Final = "P"
READS_IN: Final = {"sqlite": 2, "postgresql": 4, "mariadb": 4}
WRITES_IN: Final = {"sqlite": 1, "postgresql": 4, "mariadb": 4}
"""In how many processes each peer is fastest on two cores when it has several clients; else one is. On SQLite, several
that write are in each other's way and fail with ABORTED."""
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
                reading = processes or (READS_IN[engine] if number > 1 else 1)
                writing = processes or (WRITES_IN[engine] if number > 1 else 1)
                with ExitStack() as stack:
                    ours = stack.enter_context(servers.store(place, OURS, seconds=120))
                    peers = {
                        count: {
                            F: stack.enter_context(servers.peer(place, F.lower(), "fresh", processes=count)),
                            P: stack.enter_context(servers.peer(place, P.lower(), "kept", processes=count)),
                        }
                        for count in {reading, writing}
                    }
                    for call in chosen:
                        serving = {OURS: ours, **peers[writing if call.writes else reading]}
                        targets = {name: Target(server, place, executions) for name, server in serving.items()}
                        found = measure(targets, call, clients=number, repeats=repeats, seconds=seconds)
                        sheet.rows.append(_row(place, call, number, found))
                        load_us += [loaded.client_cpu_us for loaded in found[OURS].loads]
        sheet.notes = [
            f"Durability: {DURABILITY[engine]}.",
            f"CPU: of the server + of the database's server. The load took {median(load_us):.0f} µs a call.",
            _processes_note(engine, processes),
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


def _processes_note(engine: str, processes: int) -> str:
    reads, writes = processes or READS_IN[engine], processes or WRITES_IN[engine]
    return f"Processes of each peer when it has several clients: {reads} for reads, {writes} for writes."
