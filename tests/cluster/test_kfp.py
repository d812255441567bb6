"""Kubeflow Pipelines 2.0.5 run for real, with this project's server in the place of its metadata server.

Its pipelines are those of `pipelines/`. They run once on SQLite, with the writer, lineage and GraphQL beside, and once
on MariaDB with the flags of Kubeflow's own Deployment, on a database that the original server began.
"""

import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.cluster import kubeflow, metadata
from tests.cluster.driver import Cluster
from tests.cluster.kubeflow import Kubeflow, Run
from tests.cluster.metadata import MetadataServer
from tests.up.processes import until

pytestmark = [pytest.mark.cluster, pytest.mark.mariadb, pytest.mark.judge, pytest.mark.timeout(900)]

Recorded = Mapping[str, Any]

DAG: Final = "system.DAGExecution"
TASK: Final = "system.ContainerExecution"
IMPORTER: Final = "system.ImporterExecution"
IMPORTED: Final = "minio://mlpipeline/imported/base.csv"

# Groups and task -> type, parameters that went in, parameters that came out.
CHURN: Final[Mapping[str, tuple[str, Mapping[str, object] | None, Mapping[str, object] | None]]] = {
    "": (DAG, {"rows": 5, "note": 'quote " and \\ and ü'}, None),
    "importer": (IMPORTER, None, None),
    "make": (TASK, {"rows": 5}, {"count": "5"}),
    "train": (TASK, {"note": 'quote " and \\ and ü'}, {"Output": 3}),
    "condition-3": (DAG, {"pipelinechannel--make-count": "5"}, None),
    "condition-3/make-2": (TASK, {"rows": 2}, {"count": "2"}),
    "condition-4": (DAG, {"pipelinechannel--make-count": "5"}, None),
    "for-loop-2": (DAG, {"pipelinechannel--loop-item-param-1": ["a", "b"]}, None),
    "for-loop-2/for-loop-2#0": (DAG, {"pipelinechannel--loop-item-param-1": "a"}, None),
    "for-loop-2/for-loop-2#0/score": (TASK, {"part": "a"}, {}),
    "for-loop-2/for-loop-2#1": (DAG, {"pipelinechannel--loop-item-param-1": "b"}, None),
    "for-loop-2/for-loop-2#1/score": (TASK, {"part": "b"}, {}),
    "evaluation": (DAG, {"rows": 3}, None),
    "evaluation/make": (TASK, {"rows": 3}, {"count": "3"}),
    "evaluation/score": (TASK, {"part": "all"}, {}),
}
# Task and output -> type, what its URI ends with. Tasks of one name share a URI: that is how 2.0 makes them.
MADE: Final = {
    ("importer", "artifact"): ("system.Dataset", IMPORTED),
    ("make", "data"): ("system.Dataset", "make/data"),
    ("train", "model"): ("system.Model", "train/model"),
    ("train", "metrics"): ("system.Metrics", "train/metrics"),
    ("condition-3/make-2", "data"): ("system.Dataset", "make-2/data"),
    ("for-loop-2/for-loop-2#0/score", "out"): ("system.Dataset", "score/out"),
    ("for-loop-2/for-loop-2#1/score", "out"): ("system.Dataset", "score/out"),
    ("evaluation/make", "data"): ("system.Dataset", "make/data"),
    ("evaluation/score", "out"): ("system.Dataset", "score/out"),
}
MODEL: Final = ("train", "model")
# Task and input -> whose output that is.
USED: Final = {
    ("train", "data"): ("make", "data"),
    ("train", "base"): ("importer", "artifact"),
    ("for-loop-2", "pipelinechannel--train-model"): MODEL,
    ("for-loop-2/for-loop-2#0", "pipelinechannel--train-model"): MODEL,
    ("for-loop-2/for-loop-2#1", "pipelinechannel--train-model"): MODEL,
    ("for-loop-2/for-loop-2#0/score", "model"): MODEL,
    ("for-loop-2/for-loop-2#1/score", "model"): MODEL,
    ("evaluation", "model"): MODEL,
    ("evaluation/score", "model"): MODEL,
}
LINEAGE: Final = """query ($of: [ID!]!) {
  lineage(of: $of, direction: UPSTREAM) {
    truncated
    nodes { __typename ... on Artifact { uri } ... on Execution { name run { name } } }
  }
}"""
RUNS: Final = """{ runs(first: 100) { nodes {
  name state executions(first: 100) { nodes { id name state } }
  outputArtifacts(first: 100) { nodes { id type uri } }
} } }"""


@pytest.fixture(scope="module")
def kfp(cluster: Cluster) -> Iterator[Kubeflow]:
    with kubeflow.running(cluster) as running:
        yield running


def asked(url: str, query: str, **variables: object) -> Any:
    """What GraphQL answers."""
    answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=30).json()
    assert not answer.get("errors"), answer["errors"]
    return answer["data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Three runs after their end: what each side says of them."""

    first: str
    again: str
    failing: str
    runs: Mapping[str, Run]
    """As Kubeflow's API server says."""
    recorded: Mapping[str, Recorded]
    calls: Counter[tuple[str, str]]
    graphql: Mapping[str, Any]
    upstream: Mapping[str, Any]
    """Of the models of the first run and of its repetition."""
    database: str


@pytest.fixture(scope="module")
def told(cluster: Cluster, kfp: Kubeflow, tmp_path_factory: pytest.TempPathFactory) -> Told:
    folder = tmp_path_factory.mktemp("kfp")
    database = f"sqlite:///{folder / 'metadata.db'}"
    with contextlib.ExitStack() as running:
        server = running.enter_context(MetadataServer(environment={"MDSTORE_DATABASE": database}))
        url = running.enter_context(
            metadata.beside(metadata.URL, database, folder, cluster.writer_kubeconfig, kubeflow.NAMESPACE)
        )
        first, failing = kfp.submit("churn"), kfp.submit("failing")
        runs = {first: kfp.end(first)}
        again = kfp.submit("churn")
        runs |= {run_id: kfp.end(run_id) for run_id in (failing, again)}

        def all_over() -> Any:
            seen = asked(url, RUNS)["runs"]["nodes"]
            return seen if sorted(run["state"] for run in seen) == ["FAILED", "SUCCEEDED", "SUCCEEDED"] else None

        nodes = until("three runs that are over in GraphQL", all_over, seconds=60)
        models = [
            artifact["id"]
            for run in nodes
            for artifact in run["outputArtifacts"]["nodes"]
            if run["name"] == "churn" and artifact["type"] == "system.Model"
        ]
        return Told(
            first=first,
            again=again,
            failing=failing,
            runs=runs,
            recorded=server.runs(),
            calls=server.calls(),
            graphql={"runs": nodes},
            upstream=asked(url, LINEAGE, of=sorted(set(models)))["lineage"],
            database=database,
        )


def made(run: Recorded) -> dict[tuple[str, str], int]:
    """Task and output -> artifact."""
    return {
        (task, name): artifact
        for task, execution in run["executions"].items()
        for name, artifact in execution["outputs"].items()
    }


def used(run: Recorded) -> dict[tuple[str, str], int]:
    """Task and input -> artifact."""
    return {
        (task, name): artifact
        for task, execution in run["executions"].items()
        for name, artifact in execution["inputs"].items()
    }


def verified(database: str) -> str:
    """What `mdstore log verify` says of a database in which nothing is wrong."""
    command = [sys.executable, "-m", "mdstore", "log", "verify", "--database", database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kubeflow_runs_its_pipelines_to_their_ends(told: Told) -> None:
    assert {run_id: run["state"] for run_id, run in told.runs.items()} == {
        told.first: "SUCCEEDED",
        told.again: "SUCCEEDED",
        told.failing: "FAILED",
    }
    assert set(told.recorded) == set(told.runs)
    for run_id, run in told.recorded.items():
        assert run["properties"]["pipeline_root"].endswith(f"/{run['pipelines'][0]}/{run_id}")
        assert run["properties"]["namespace"] == kubeflow.NAMESPACE
    assert told.recorded[told.failing]["pipelines"] == ["failing"]


def test_each_task_is_recorded_once_in_its_group_with_its_parameters(told: Told) -> None:
    for run_id in (told.first, told.again):
        run = told.recorded[run_id]
        assert run["twice"] == []
        assert {
            task: (
                execution["type"],
                execution["properties"].get("inputs"),
                execution["properties"].get("outputs") if execution["type"] == TASK else None,
            )
            for task, execution in run["executions"].items()
        } == CHURN
        assert run["executions"]["for-loop-2"]["properties"]["iteration_count"] == 2
    failing = told.recorded[told.failing]
    assert failing["twice"] == []
    assert set(failing["executions"]) == {"", "importer", "make", "train", "fail"}


def states(run: Recorded) -> dict[str, str]:
    return {task: execution["state"] for task, execution in run["executions"].items()}


def test_states_tell_what_ran_what_came_from_the_cache_and_what_failed(told: Told) -> None:
    expected = dict.fromkeys(CHURN, "COMPLETE") | {"condition-4": "CANCELED"}
    assert states(told.recorded[told.first]) == expected
    cached = {task: "CACHED" for task, (kind, *_) in CHURN.items() if kind == TASK}
    assert states(told.recorded[told.again]) == expected | cached
    assert states(told.recorded[told.failing]) == {
        "": "FAILED",
        "importer": "COMPLETE",
        "make": "COMPLETE",
        "train": "COMPLETE",
        "fail": "FAILED",
    }


def test_artifacts_have_what_steps_said_of_them_and_edges_have_names(told: Told) -> None:
    run = told.recorded[told.first]
    found = made(run)
    root = run["properties"]["pipeline_root"]
    assert {place: run["artifacts"][str(artifact)]["type"] for place, artifact in found.items()} == {
        place: type_name for place, (type_name, _) in MADE.items()
    }
    assert {place: run["artifacts"][str(artifact)]["uri"] for place, artifact in found.items()} == {
        place: uri if uri == IMPORTED else f"{root}/{uri}" for place, (_, uri) in MADE.items()
    }
    assert used(run) == {place: found[producer] for place, producer in USED.items()}
    # All that was made is the run's, and nothing else.
    assert {int(artifact) for artifact in run["artifacts"]} == set(found.values())
    assert len(set(found.values())) == len(MADE)
    assert {artifact["state"] for artifact in run["artifacts"].values()} == {"LIVE"}
    model = run["artifacts"][str(found[MODEL])]["properties"]
    assert model == {"display_name": "model", "framework": "none", "rows": 5}
    metrics = run["artifacts"][str(found["train", "metrics"])]["properties"]
    assert metrics == {"display_name": "metrics", "mean": 3}
    assert run["artifacts"][str(found["importer", "artifact"])]["properties"]["origin"] == "warehouse"


def test_what_comes_from_the_cache_are_the_artifacts_of_the_first_run(told: Told) -> None:
    first, again = told.recorded[told.first], told.recorded[told.again]
    assert made(again) == made(first)
    assert used(again) == used(first)
    assert again["artifacts"] == first["artifacts"]
    assert {
        task: int(execution["properties"]["cached_execution_id"])
        for task, execution in again["executions"].items()
        if execution["type"] == TASK
    } == {task: execution["id"] for task, execution in first["executions"].items() if execution["type"] == TASK}


def test_what_a_failed_step_used_is_recorded(told: Told) -> None:
    failing = told.recorded[told.failing]
    failed = failing["executions"]["fail"]
    assert failed["inputs"] == {"model": failing["executions"]["train"]["outputs"]["model"]}
    assert failed["outputs"] == {}
    # The writer's, from the pod: the launcher, which is what the pod runs, ends with 1 when the step ends with 7.
    assert failed["properties"]["exit_code"] == 1


def test_every_call_was_answered_as_mlmd_answers_it(told: Told) -> None:
    assert {code for _, code in told.calls} <= {"OK", "NOT_FOUND"}, told.calls
    # Types that nobody had made yet. A context that is not there is OK and empty.
    missing = {method for method, code in told.calls if code == "NOT_FOUND"}
    assert missing <= {"GetContextType", "GetArtifactType", "GetExecutionType"}, told.calls
    assert {
        "GetArtifactsByURI",
        "GetContextsByArtifact",
        "GetExecutionsByContext",
        "PutArtifacts",
        "PutExecution",
        "PutParentContexts",
    } <= {method for method, code in told.calls if code == "OK"}
    assert "commits" in verified(told.database)


def test_lineage_says_where_the_model_came_from(told: Told) -> None:
    by_name = {
        (run["name"], run["state"]): {(one["name"], one["state"]) for one in run["executions"]["nodes"]}
        for run in told.graphql["runs"]
    }
    assert ("fail", "FAILED") in by_name["failing", "FAILED"]
    assert not told.upstream["truncated"]
    nodes = told.upstream["nodes"]
    executions = {(node["run"]["name"], node["name"]) for node in nodes if node["__typename"] == "Execution"}
    assert executions == {("churn", "train"), ("churn", "make"), ("churn", "importer")}
    root = told.recorded[told.first]["properties"]["pipeline_root"]
    uris = {node["uri"] for node in nodes if node["__typename"] == "Artifact"}
    assert uris == {IMPORTED, f"{root}/make/data", f"{root}/train/model"}


class Gate:
    """What the step of `gated` asks whether it may end."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.open = threading.Event()
        gate = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gate.asked.set()
                self.send_response(200 if gate.open.is_set() else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        # The address of the node, which pods reach.
        self._server = ThreadingHTTPServer(("10.88.0.1", 0), Answer)
        self.url = f"http://10.88.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_mariadb_goes_over_from_the_original_server_and_is_killed_while_a_step_works(
    cluster: Cluster, kfp: Kubeflow, tmp_path: Path
) -> None:
    kfp.database.execute("", "CREATE DATABASE metadb")
    flags = {
        "database": "metadb",
        "host": "127.0.0.1",
        "port": kfp.database.port,
        "user": "mdstore",
        "password": "secret",
    }
    given = [f"--mysql_config_{name}={value}" for name, value in flags.items()]
    with contextlib.ExitStack() as ending:
        gate, closed = (ending.enter_context(contextlib.closing(Gate())) for _ in range(2))
        gate.open.set()
        with metadata.original(kfp.database, "metadb"):
            first = kfp.submit("gated", gate=gate.url)
            assert kfp.end(first)["state"] == "SUCCEEDED"

        server = ending.enter_context(MetadataServer(*given, "--enable_database_upgrade=true"))
        killed = kfp.submit("gated", gate=closed.url)
        assert closed.asked.wait(240), cluster.kubectl("get", "pods", "--namespace", kubeflow.NAMESPACE)
        before = server.runs()
        server.kill()
        server.start()
        assert server.runs() == before
        closed.open.set()
        # What the original has recorded is found in the cache.
        again = kfp.submit("gated", gate=gate.url)
        assert {kfp.end(run_id)["state"] for run_id in (killed, again)} == {"SUCCEEDED"}
        recorded, calls = server.runs(), server.calls()

        # A writer that comes when all is over, and GraphQL from the same database.
        url = ending.enter_context(
            metadata.beside(
                metadata.URL, kfp.database.url("metadb"), tmp_path, cluster.writer_kubeconfig, kubeflow.NAMESPACE
            )
        )

        def all_over() -> bool:
            found = [run["state"] for run in asked(url, RUNS)["runs"]["nodes"] if run["name"] == "gated"]
            return found == ["SUCCEEDED"] * 3

        until("three runs that are over in GraphQL", all_over, seconds=60)
        late = server.runs()

    assert before[killed]["executions"]["wait"]["state"] == "RUNNING"
    # With no writer beside, the run itself stays RUNNING for ever: Kubeflow does not write its end.
    ran = {"": "RUNNING", "wait": "COMPLETE", "copy": "COMPLETE"}
    assert {run_id: states(run) for run_id, run in recorded.items()} == {
        first: ran,
        killed: ran,
        again: {"": "RUNNING", "wait": "CACHED", "copy": "CACHED"},
    }
    assert made(recorded[again]) == made(recorded[first])
    for run in (recorded[first], recorded[killed]):
        assert used(run) == {("copy", "data"): made(run)["wait", "data"]}
    for run_id, run in recorded.items():
        assert states(late[run_id]) == states(run) | {"": "COMPLETE"}
        assert (late[run_id]["twice"], made(late[run_id]), used(late[run_id])) == ([], made(run), used(run))
    assert {code for _, code in calls} <= {"OK", "NOT_FOUND"}, calls
    assert "commits" in verified(kfp.database.url("metadb"))
