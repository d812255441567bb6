"""The embedded lineage graph: how fast it is written, and how long its answers take.

The store: a chain of 2,000 levels of 18 executions, each level using what the one before it made, and after it
executions that each use two artifacts of the recent past and make one. A third of all use one same artifact too.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.tables import Figure, Sheet
from mdstore.values import ArtifactId, ExecutionId
from mdstore.wire import changes, mlmd
from mdstore_lineage.graph import ArtifactNode, Closure, Direction, ExecutionNode, Limits, LineageGraph
from mdstore_lineage.opening import open_graph

LEVELS, WIDTH = 2000, 18
HUB, FIRST = 1, 2
BATCH = 250
"""Commits of eight changes each: what the projector puts into one transaction when it is behind."""


def run(executions: int) -> Iterator[Sheet]:
    """Measure; gives two sheets."""
    with tempfile.TemporaryDirectory(prefix="mdstore-bench-") as folder:
        file = Path(folder) / "lineage.db"
        graph = open_graph(f"sqlite:///{file}")
        sheet = Sheet(
            title=f"Lineage graph of {executions:,} executions: writing",
            headings=("what", "events", "seconds", "events/s", "MB"),
        )
        for row in writes(graph, executions, file):
            speed = Figure(row["events"] / row["seconds"], digits=0)
            size = Figure(row["bytes"] / 1e6 or None, digits=0)
            sheet.rows.append((row["what"], Figure(row["events"], digits=0), Figure(row["seconds"]), speed, size))
        yield sheet
        sheet = Sheet(
            title=f"Lineage graph of {executions:,} executions: answers, ms",
            headings=("question", "median", "p95", "nodes", "edges"),
        )
        for what, times, question in questions(graph, executions):
            row = ask(times, question)
            counts = Figure(row["nodes"], digits=0), Figure(row["edges"], digits=0)
            sheet.rows.append((what, Figure(row["median"]), Figure(row["p95"]), *counts))
        yield sheet
        graph.close()


def writes(graph: LineageGraph, executions: int, file: Path) -> Iterator[dict[str, Any]]:
    events, seconds = 0, 0.0
    for batch in batched(log(executions), BATCH):
        events += sum(len(commit.changes.events) for commit in batch)
        seconds += applied(graph, batch)
    size = sum(path.stat().st_size for path in file.parent.iterdir())
    yield {"what": f"{BATCH} commits a transaction", "events": events, "seconds": seconds, "bytes": size}
    made = 50_000_000
    single = [
        changes.Commit(seq=graph.position + 1 + number, changes=step(made + number, [HUB, FIRST], made + number))
        for number in range(2000)
    ]
    events, seconds = 3 * len(single), sum(applied(graph, [commit]) for commit in single)
    yield {"what": "one commit a transaction", "events": events, "seconds": seconds, "bytes": 0}


def applied(graph: LineageGraph, commits: list[changes.Commit]) -> float:
    started = time.perf_counter()
    graph.apply(commits, store_id="bench")
    return time.perf_counter() - started


def questions(graph: LineageGraph, executions: int) -> Iterator[tuple[str, int, Callable[[], object]]]:
    dice = random.Random(2)
    unlimited = Limits(nodes=10_000_000, seconds=60)
    top, hub = ArtifactNode(ArtifactId(FIRST)), ArtifactNode(ArtifactId(HUB))
    bottom = ArtifactNode(ArtifactId(FIRST + min(LEVELS * WIDTH, executions)))
    some = [ExecutionNode(ExecutionId(dice.randint(executions // 2, executions))) for _ in range(200)]

    def upstream(hops: int) -> Callable[[], Closure]:
        return lambda: graph.closure([dice.choice(some)], Direction.UPSTREAM, limits=Limits(hops=hops))

    def downstream(limits: Limits) -> Callable[[], Closure]:
        return lambda: graph.closure([hub], Direction.DOWNSTREAM, limits=limits)

    yield "the artifact's producer", 500, lambda: graph.neighbours([bottom], Direction.UPSTREAM)
    yield "5 hops upstream", 300, upstream(5)
    yield "10 hops upstream", 300, upstream(10)
    yield "2,000 levels upstream", 5, lambda: graph.closure([bottom], Direction.UPSTREAM, limits=unlimited)
    yield (
        "the same, and each looked at",
        5,
        lambda: looked_at(graph.closure([bottom], Direction.UPSTREAM, limits=unlimited)),
    )
    yield "hub: everything downstream", 3, downstream(unlimited)
    yield "hub: 10,000 nodes", 10, downstream(Limits())
    yield "hub: 100 nodes", 100, downstream(Limits(nodes=100))
    yield "3 paths through 2,000 levels", 5, lambda: graph.paths(top, bottom, limits=unlimited, most=3)
    yield "runs of 100 executions", 200, lambda: graph.runs_of(some[:100])
    yield "position", 500, lambda: graph.position


def looked_at(closure: Closure) -> Closure:
    """The answer once its nodes, distances and edges are objects, which they become when they are needed."""
    assert sum(closure.hops[node] for node in closure.nodes) > 0
    assert all(edge.artifact_id for edge in closure.edges)
    return closure


def ask(times: int, question: Callable[[], object]) -> dict[str, Any]:
    took = []
    answer: object = None
    for _ in range(times):
        started = time.perf_counter()
        answer = question()
        took.append((time.perf_counter() - started) * 1000)
    nodes, edges = len(getattr(answer, "nodes", ())), len(getattr(answer, "edges", ()))
    return {"median": median(took), "p95": quantiles(took, n=20)[-1], "nodes": nodes, "edges": edges}


def log(executions: int) -> Iterator[changes.Commit]:
    """The store's history."""
    dice = random.Random(1)
    first = changes.Changes(
        artifact_types=[mlmd.ArtifactType(id=1, name="Dataset")],
        execution_types=[mlmd.ExecutionType(id=2, name="Train")],
        context_types=[mlmd.ContextType(id=3, name="system.PipelineRun")],
        artifacts=[mlmd.Artifact(id=HUB, type_id=1), mlmd.Artifact(id=FIRST, type_id=1)],
        contexts=[mlmd.Context(id=1, type_id=3, name="run")],
    )
    yield changes.Commit(seq=1, changes=first)
    for number in range(1, executions + 1):
        made = FIRST + number
        level, place = divmod(number - 1, WIDTH)
        if level == 0:
            inputs = {FIRST}
        elif level < LEVELS:
            before = FIRST + 1 + (level - 1) * WIDTH
            inputs = {before + place, before + dice.randrange(WIDTH)}
        else:
            inputs = {made - dice.randint(1, 500), made - dice.randint(1, 500)}
        if number % 3 == 0:
            inputs.add(HUB)
        yield changes.Commit(seq=number + 1, changes=step(number, sorted(inputs), made))


def step(execution: int, inputs: list[int], output: int) -> changes.Changes:
    """One execution as a store logs it."""
    part = changes.Changes(created_execution_ids=[execution], created_artifact_ids=[output])
    part.executions.add(id=execution, type_id=2, name=f"execution-{execution}")
    part.artifacts.add(id=output, type_id=1, name=f"artifact-{output}", uri=f"s3://bucket/{output}")
    for artifact in inputs:
        used = part.events.add(artifact_id=artifact, execution_id=execution, type=mlmd.Event.INPUT)
        used.path.steps.add(key="data")
    came = part.events.add(artifact_id=output, execution_id=execution, type=mlmd.Event.OUTPUT)
    came.path.steps.add(key="model")
    part.associations.add(execution_id=execution, context_id=1)
    part.attributions.add(artifact_id=output, context_id=1)
    return part


def batched(commits: Iterator[changes.Commit], size: int) -> Iterator[list[changes.Commit]]:
    batch: list[changes.Commit] = []
    for commit in commits:
        batch.append(commit)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
