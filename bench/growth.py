"""`growth`: the same calls on stores of 1,000 to 1,000,000 executions; the largest lists; the start on a large store.

In process, so that the network's share, which does not grow, hides nothing. All sizes are open at once and take turns
within a repetition. Stores of 100,000 executions and more are kept in a folder for the next time.
"""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import servers, world
from bench.calls import CALLS, MORE_CALLS, PREFIX, Call, page, tasks_of
from bench.databases import Bed, bed
from bench.http2 import Connection
from bench.tables import Figure, Sheet
from bench.timing import Times, timed
from mdstore.store.store import Store
from mdstore.wire import service

KEPT_FROM: Final = 100_000
"""Executions of the smallest store that is worth keeping."""
GOAL: Final = 1.5
CALLS_EACH: Final = 25
"""Of one kind on one store in one repetition."""
ORDERS: Final = ("CREATE_TIME", "LAST_UPDATE_TIME", "ID")
STARTS: Final = 5


def run(engines: Sequence[str], sizes: Sequence[int], *, repeats: int, data: Path) -> Iterator[Sheet]:
    """Measure; gives sheets.

    Args:
        engines: databases, of `ENGINES`.
        sizes: numbers of executions, ascending.
        repeats: of each kind of call.
        data: a folder for large stores.
    """
    for engine in engines:
        with ExitStack() as stack:
            kept = stack.enter_context(bed(engine, data)) if sizes[-1] >= KEPT_FROM else None
            fresh = stack.enter_context(bed(engine)) if kept is None or engine == "sqlite" else kept
            places = {size: kept if kept is not None and size >= KEPT_FROM else fresh for size in sizes}
            for size, place in places.items():
                prepare(place, size, data)
            with ExitStack() as stores:
                opened = {
                    size: stores.enter_context(Store.open(place.url(name(size)))) for size, place in places.items()
                }
                yield _calls(places, opened, repeats)
                yield _lists(places[sizes[-1]], sizes[-1], opened[sizes[-1]], repeats)
            yield _starts(engine, places)


def name(size: int) -> str:
    """Of the database with so many executions."""
    return f"w{size}"


def prepare(place: Bed, size: int, data: Path) -> None:
    """Fill a store and log what is in it, unless that was done another time and kept in the folder `data`."""
    whole = data / f"{place.engine}-{name(size)}-{world.VERSION}"
    if size >= KEPT_FROM and whole.exists():
        return
    world.build(place, name(size), size)
    Store.open(place.url(name(size))).close()
    if size >= KEPT_FROM:
        whole.touch()


def _calls(places: dict[int, Bed], stores: dict[int, Store], repeats: int) -> Sheet:
    smallest, largest = min(stores), max(stores)
    engine = places[largest].engine
    sheet = Sheet(
        title=f"Growth, {engine}: ms a call in process, medians of {repeats} times {CALLS_EACH} calls",
        headings=(
            "call",
            "database",
            *(f"{size:,}" for size in stores),
            f"{largest:,} / {smallest:,} (goal)",
            "the same of CPU",
        ),
    )
    for call in (*CALLS, *MORE_CALLS):
        times = {size: Times() for size in stores}
        for repetition in range(repeats + 1):
            for size, store in stores.items():
                requests = call.make(size, random.Random(f"{repetition}/{call.name}"))[:CALLS_EACH]
                # The first time fills caches and prepares statements, and does not count.
                timed(places[size], store, call, requests, times[size] if repetition else None)
        ratio = times[largest].wall() / times[smallest].wall()
        cpu = times[largest].cpu_ms() / times[smallest].cpu_ms()
        figures = (Figure(times[size].wall(), digits=3) for size in stores)
        sheet.rows.append((call.name, engine, *figures, Figure(ratio, at_most=GOAL), Figure(cpu)))
    return sheet


def _lists(place: Bed, size: int, store: Store, repeats: int) -> Sheet:
    engine, members = place.engine, size // world.PIPELINES
    sheet = Sheet(
        title=f"Lists, {engine}, {size:,} executions: ms, medians",
        headings=("list", "database", "in the database (goal)", "in all"),
    )
    dice = random.Random(3)

    def row(title: str, requests: Sequence[Any], method: str, goal: float) -> None:
        call = Call(name=title, method=method, make=lambda *_: list(requests))
        timed(place, store, call, requests)
        times = Times()
        for _ in range(repeats):
            timed(place, store, call, requests, times)
        database = Figure(times.database(), at_most=goal, digits=3)
        sheet.rows.append((title, engine, database, Figure(times.wall(), digits=3)))

    for order in ORDERS:
        for ascending in (True, False):
            requests = [page(context, order, ascending=ascending, size=100) for context in range(1, world.PIPELINES)]
            title = f"first 100 of a context of {members:,}, {order} {'asc' if ascending else 'desc'}"
            row(title, requests, "GetExecutionsByContext", 5)
    runs = [dice.randint(1, world.runs(size)) for _ in range(25)]
    hot = [tasks_of(run, world.run_context(run)) for run in runs]
    row("tasks of a DAG in its run (KFP)", hot, "GetExecutionsByContext", 1)
    wide = [tasks_of(run, (run - 1) % world.PIPELINES + 1) for run in runs]
    row(f"tasks of a DAG in a context of {members:,}", wide, "GetExecutionsByContext", 1)
    return sheet


def _starts(engine: str, places: dict[int, Bed]) -> Sheet:
    sheet = Sheet(
        title=f"Start, {engine}: seconds from the start of the process to the first answer, medians of {STARTS}",
        headings=("executions", "database", "seconds (goal)", "CPU seconds", "idle MiB (goal)"),
    )
    request = service.GetExecutionsByIDRequest(execution_ids=[1]).SerializeToString()
    for size, place in places.items():
        seconds, cpu, memory = [], [], []
        for _ in range(STARTS):
            began = time.perf_counter()
            with servers.store(place, name(size), seconds=120) as server:
                connection = Connection(server.port, PREFIX + "GetExecutionsByID")
                connection.send(request)
                while (status := connection.receive()) is None:
                    pass
                assert status == "OK", status
                seconds.append(time.perf_counter() - began)
                cpu.append(server.cpu_s())
                connection.close()
                memory.append(server.rss_bytes() / 2**20)
        figures = (
            Figure(median(seconds), at_most=1.5),
            Figure(median(cpu)),
            Figure(median(memory), at_most=90, digits=0),
        )
        sheet.rows.append((f"{size:,}", engine, *figures))
    return sheet
