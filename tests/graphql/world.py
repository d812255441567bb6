"""A small world of four runs whose lineage crosses runs, recorded as an observer does, and projected.

day:     extract → raw    split: raw → train, test
first:   features: train → features    fit (tried twice): features → model
second:  features (from the cache) → features    fit, which failed: features → nothing
fraud:   profile: raw → profile     (another pipeline, another team)
"""

from pathlib import Path
from typing import Final

import mdstore
from mdstore.client.client import Client
from mdstore.values import EventType, ExecutionState
from mdstore.wire import ingestion
from mdstore_lineage.graph import LineageGraph
from mdstore_lineage.opening import open_graph

PIPELINE: Final = "system.Pipeline"
RUN: Final = "system.PipelineRun"
STEP: Final = "system.ContainerExecution"
DAY_MS: Final = 86_400_000


def key(external_id: str) -> ingestion.NodeKey:
    return ingestion.NodeKey(external_id=external_id)


def named(type_name: str, name: str) -> ingestion.NodeKey:
    return ingestion.NodeKey(type=type_name, name=name)


class Telling:
    """Puts together what an observer reports."""

    def __init__(self) -> None:
        self.request = ingestion.IngestRequest(origin="test")
        self.clock = 0

    def pipeline(self, name: str) -> None:
        self.request.contexts.add(key=named(PIPELINE, name), type=PIPELINE, name=name)

    def run(self, name: str, pipeline: str, state: str, started_at: str, **properties: str) -> None:
        record = self.request.contexts.add(key=named(RUN, f"uid-{name}"), type=RUN, name=f"uid-{name}")
        told = {"display_name": name, "state": state, "started_at": started_at, **properties}
        for property_name, value in told.items():
            record.custom_properties[property_name].string_value = value
        record.custom_properties["parameters"].struct_value.update({"rate": 0.1, "day": name})
        record.custom_properties["labels"].struct_value.update({"team": pipeline})
        self.request.parents.add(context=named(PIPELINE, pipeline), member=named(RUN, f"uid-{name}"))

    def artifact(self, name: str, type_name: str, uri: str, produced_at: str = "") -> None:
        record = self.request.artifacts.add(key=key(f"a/{name}"), type=type_name, uri=uri, state=2)
        record.custom_properties["display_name"].string_value = name
        if produced_at:
            record.custom_properties["produced_at"].string_value = produced_at

    def step(
        self,
        run: str,
        task: str,
        state: ExecutionState,
        *,
        uses: tuple[str, ...] = (),
        makes: tuple[str, ...] = (),
        attempt: int = 0,
        type_name: str = STEP,
        **properties: str,
    ) -> None:
        me = f"e/{run}/{task}/{attempt}"
        record = self.request.executions.add(key=key(me), type=type_name, state=state)
        for name, value in {"display_name": task, "task_name": task, **properties}.items():
            if name == "exit_code":
                record.custom_properties[name].int_value = int(value)
            else:
                record.custom_properties[name].string_value = value
        record.custom_properties["attempt"].int_value = attempt
        self.request.associations.add(context=named(RUN, f"uid-{run}"), member=key(me))
        for artifacts, kind in ((uses, EventType.INPUT), (makes, EventType.OUTPUT)):
            for artifact in artifacts:
                self.clock += 1000
                event = self.request.events.add(execution=key(me), artifact=key(f"a/{artifact}"), type=kind)
                event.path.steps.add(key=artifact)
                event.time_ms = DAY_MS + self.clock
                self.request.attributions.add(context=named(RUN, f"uid-{run}"), member=key(f"a/{artifact}"))


def told() -> ingestion.IngestRequest:
    """The whole story."""
    tell = Telling()
    for pipeline in ("customers", "churn", "fraud"):
        tell.pipeline(pipeline)
    tell.run("day", "customers", "SUCCEEDED", "2026-11-18T08:00:00.000Z", finished_at="2026-11-18T08:05:00.000Z")
    tell.run("first", "churn", "SUCCEEDED", "2026-11-18T09:00:00.000Z")
    tell.run("second", "churn", "FAILED", "2026-11-19T09:00:00.000Z", message="fit failed")
    tell.run("fraud", "fraud", "RUNNING", "2026-11-18T10:00:00.000Z")
    for name, type_name, uri, at in (
        ("raw", "system.Dataset", "s3://data/2026/raw.csv", "2026-11-18T08:01:00.000Z"),
        ("train", "system.Dataset", "s3://data/2026/train.csv", "2026-11-18T08:04:00.000Z"),
        ("test", "system.Dataset", "s3://data/2026/test.csv", "2026-11-18T08:04:00.000Z"),
        ("features", "system.Dataset", "s3://features/churn.csv", "2026-11-18T09:01:00.000Z"),
        ("model", "system.Model", "s3://models/churn/model.csv", "2026-11-18T09:03:00.000Z"),
        ("profile", "system.Artifact", "s3://features/fraud.csv", ""),
    ):
        tell.artifact(name, type_name, uri, at)
    done, failed, cached = ExecutionState.COMPLETE, ExecutionState.FAILED, ExecutionState.CACHED
    # A cache hit that the store hears of before the execution that really made the artifact.
    tell.step("second", "features", cached, makes=("features",))
    tell.step("day", "extract", done, makes=("raw",), started_at="2026-11-18T08:00:30.000Z")
    tell.step("day", "split", done, uses=("raw",), makes=("train", "test"))
    tell.step("first", "features", done, uses=("train",), makes=("features",))
    tell.step("first", "fit", failed, uses=("features",), exit_code="143", message="preempted", reason="Evicted")
    tell.step("first", "fit", done, uses=("features",), makes=("model",), attempt=1)
    tell.step("second", "fit", failed, uses=("features",), exit_code="1")
    tell.step("fraud", "profile", done, uses=("raw",), makes=("profile",))
    return tell.request


def project(client: Client, graph: LineageGraph) -> int:
    """Bring the graph up to the store; the position it has then."""
    for message in client.follow(graph.position + 1, once=True):
        if message.commits:
            graph.apply(message.commits, store_id=message.store_id)
    return graph.position


def make(folder: Path, *, projected: bool = True) -> tuple[str, str]:
    """A store and its graph in a folder; their URLs."""
    database, graph_url = f"sqlite:///{folder / 'metadata.db'}", f"sqlite:///{folder / 'lineage.db'}"
    with mdstore.connect(database) as client:
        client.ingest(told())
        graph = open_graph(graph_url)
        if projected:
            project(client, graph)
        graph.close()
    return database, graph_url
