"""`memory`: what a server holds when it has just started, and while calls go on and on.

A mix as pipelines make it: most calls read one thing, some write, some list. Beside it is whatever could fill a cache:
filters that were never asked before, calls that fail, new types, keys of writes, clients that come and go. It ends
after so many calls or seconds; what was measured until then shows whether memory grows with the calls.
"""

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from bench import load, servers, world
from bench.calls import CALLS, PREFIX, Call
from bench.databases import bed
from bench.http2 import Connection
from bench.tables import Cell, Figure, Sheet
from mdstore.store.store import Store
from mdstore.wire import mlmd, nodes, service

IDLE_MIB: Final = 90
LATER_MIB: Final = 200
GROWTH_MIB: Final = 5
"""Goal: by which the last half of the calls may make it grow, for 100,000 calls."""
STEPS: Final = 10
CLIENTS: Final = 16
EXECUTIONS: Final = 1000
MIX: Final = {
    "1 execution by id": 0.4,
    "context by type+name": 0.1,
    "state, PutExecutions": 0.1,
    "PutExecution, 3 artifacts": 0.1,
    "tasks of a DAG (KFP)": 0.05,
    "a new filter": 0.1,
    "a filter that is none": 0.04,
    "a node that is not there": 0.04,
    "a write that is refused": 0.02,
    "a new type": 0.01,
    "a write with a key": 0.04,
}
"""Shares of the calls, by their names."""
NEW: Final = 400
"""Different messages of a client in a step."""
GUESTS: Final = 300
"""Clients in a step that come for one call."""


def _new_filters(_executions: int, dice: random.Random) -> list[Any]:
    found = []
    for _ in range(NEW):
        request = service.GetExecutionsRequest()
        request.options.max_result_size = 5
        number = dice.getrandbits(60)
        request.options.filter_query = dice.choice(
            (
                f"custom_properties.pod_name.string_value = 'pod-{number}'",
                f"custom_properties.p{number}.int_value > {number}",
                f"name LIKE 'n{number}%' OR id = {number % 1000}",
                f"contexts_c{number}.id = {number % 50}",
            )
        )
        found.append(request)
    return found


def _no_filters(_executions: int, dice: random.Random) -> list[Any]:
    found = []
    for _ in range(NEW):
        request = service.GetArtifactsRequest()
        request.options.filter_query = f"unknown_{dice.getrandbits(60)} = 1 AND ("
        found.append(request)
    return found


def _absent(_executions: int, dice: random.Random) -> list[Any]:
    return [service.GetContextTypeRequest(type_name=f"none {dice.getrandbits(60)}") for _ in range(NEW)]


def _refused(_executions: int, dice: random.Random) -> list[Any]:
    found = []
    for _ in range(NEW):
        request = service.PutArtifactsRequest()
        request.artifacts.add(type_id=2**31 - 1 - dice.getrandbits(20), name=str(dice.getrandbits(60)))
        found.append(request)
    return found


def _new_types(_executions: int, dice: random.Random) -> list[Any]:
    found = []
    for _ in range(NEW):
        request = service.PutArtifactTypeRequest()
        request.artifact_type.name = f"type {dice.getrandbits(60)}"
        request.artifact_type.properties["p"] = mlmd.INT
        found.append(request)
    return found


def _with_keys(_executions: int, dice: random.Random) -> list[Any]:
    found = []
    for _ in range(NEW):
        request = nodes.WriteRequest(idempotency_key=f"key {dice.getrandbits(60)}")
        request.artifacts.add(type="system.Artifact", name=str(dice.getrandbits(60)))
        found.append(request)
    return found


UNUSUAL: Final = (
    Call(name="a new filter", method="GetExecutions", make=_new_filters),
    Call(name="a filter that is none", method="GetArtifacts", make=_no_filters),
    Call(name="a node that is not there", method="GetContextType", make=_absent),
    Call(name="a write that is refused", method="PutArtifacts", make=_refused),
    Call(name="a new type", method="PutArtifactType", make=_new_types),
    Call(name="a write with a key", method="/mdstore.v1.Nodes/Write", make=_with_keys),
)


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
        Store.open(place.url("memory")).close()  # to begin the log is not what idle means
        with servers.store(place, "memory", seconds=60) as server:
            idle = _mib(server)
            _load(server.port, 0, 1, 0.1)
            first = _mib(server)
            began, count = time.monotonic(), 0
            for step in range(1, STEPS + 1):
                left = began + seconds * step / STEPS - time.monotonic()
                count += _load(server.port, step, most // STEPS, max(1.0, left))
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


def _load(port: int, step: int, calls: int, seconds: float) -> int:
    done = 0
    for call in (*CALLS, *UNUSUAL):
        if (share := MIX.get(call.name)) is None:
            continue
        job = load.Job(
            port=port,
            method=call.method if call.method.startswith("/") else PREFIX + call.method,
            requests=call.requests(EXECUTIONS, CLIENTS, seed=step),
            seconds=seconds * share,
            most_calls=max(1, int(calls * share)),
        )
        done += load.run(job).all_calls
    if step:
        done += _guests(port)
    return done


def _guests(port: int) -> int:
    request = service.GetExecutionsByIDRequest(execution_ids=[1]).SerializeToString()
    for _ in range(GUESTS):
        guest = Connection(port, f"{PREFIX}GetExecutionsByID")
        guest.send(request)
        while guest.receive() is None:
            pass
        guest.close()
    return GUESTS


def _mib(server: servers.Serving) -> float:
    return server.rss_bytes() / 2**20
