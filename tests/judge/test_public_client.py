"""The public `ml_metadata` client reads what the writer wrote, and GraphQL shows what it writes."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests import system
from tests.judge.driver import judge
from tests.system import System

pytestmark = [pytest.mark.judge, pytest.mark.slow]

MODEL = "s3://artifacts/models/churn/churn-train-nov18/model.csv"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system.running(tmp_path_factory.mktemp("demo"), "--demo") as running:
        yield running


@pytest.fixture(scope="module")
def read(demo: System) -> Mapping[str, Any]:
    return judge("read", port=demo.grpc_port)


@pytest.fixture(scope="module")
def written(demo: System) -> Mapping[str, Any]:
    return judge("write", port=demo.grpc_port, input_uri=MODEL)


def named(nodes: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (found,) = [node for node in nodes if node["properties"].get("display_name") == name or node.get("name") == name]
    return found


def test_the_types_are_those_that_kubeflow_pipelines_clients_look_for(read: Mapping[str, Any]) -> None:
    assert {"system.PipelineRun", "system.Pipeline"} <= read["types"]["context"].keys()
    assert {"system.ContainerExecution", "system.DAGExecution"} <= read["types"]["execution"].keys()


def test_a_run_has_its_pipeline_its_artifacts_and_its_executions(read: Mapping[str, Any]) -> None:
    run = named(read["contexts"], "churn-release-nov18")

    assert run["type"] == "system.PipelineRun"
    assert run["properties"]["state"] == "SUCCEEDED"
    assert "s3://artifacts/metrics/churn/churn-release-nov18/metrics.json" in run["artifacts"]


def test_an_execution_has_its_state_and_its_events(read: Mapping[str, Any]) -> None:
    (publish,) = [
        execution
        for execution in read["executions"]
        if ["OUTPUT", MODEL] in execution["events"] and execution["type"] == "system.ContainerExecution"
    ]

    assert publish["state"] == "COMPLETE"
    assert [kind for kind, _ in publish["events"]].count("INPUT") == 1


def test_what_the_client_writes_is_in_graphql(demo: System, written: Mapping[str, Any]) -> None:
    query = """query ($uri: String!) { artifact(uri: $uri) {
      name type state
      producer {
        name type state customProperties
        inputs { nodes { uri } }
        run { name type pipeline { name type } }
        runArtifacts: run { artifacts(first: 10) { nodes { name } } }
      }
    } }"""
    found = demo.eventually(
        lambda: demo.ask(query, uri="s3://acme/models/tuned.csv")["artifact"],
        lambda artifact: artifact is not None and artifact["producer"] is not None,
    )

    producer = found.pop("producer")
    assert found == {"name": "tuned-model", "type": "acme.Model", "state": "LIVE"}
    assert producer["run"] == {
        "name": "tuning-nov20",
        "type": "pipeline_run",
        "pipeline": {"name": "tuning", "type": "pipeline"},
    }
    assert producer["name"] == "tune-by-hand"
    assert producer["type"] == "acme.Tuning"
    assert producer["state"] == "COMPLETE"
    assert producer["customProperties"] == {"who": "Ada"}
    assert producer["inputs"]["nodes"] == [{"uri": MODEL}]
    assert {artifact["name"] for artifact in producer["runArtifacts"]["artifacts"]["nodes"]} == {
        "model", "tuned-model", "tuning-report",
    }  # fmt: skip
    assert written["artifact_ids"][0] == written["used_id"]


@pytest.mark.usefixtures("written")
def test_lineage_reaches_from_what_the_client_wrote_into_what_the_writer_wrote(demo: System) -> None:
    query = """query ($uri: String!) { artifact(uri: $uri) { lineage { truncated runs { name } } } }"""
    found = demo.eventually(
        lambda: demo.ask(query, uri="s3://acme/models/tuned.csv")["artifact"],
        lambda artifact: artifact is not None and len(artifact["lineage"]["runs"]) > 1,
    )["lineage"]

    assert found["truncated"] is False
    assert {"tuning-nov20", "churn-train-nov18", "customers-data-nov18"} <= {run["name"] for run in found["runs"]}
