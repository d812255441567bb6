"""Runs of Kubeflow Pipelines v2: with metadata that its launcher wrote into the same store, and without."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from mdstore.client.client import Client
from mdstore.client.connect import connect
from mdstore.values import EventType
from mdstore.wire import mlmd, service
from mdstore_writer import replay
from mdstore_writer.interpret import interpret
from mdstore_writer.kubeflow_tasks import LauncherExecution
from mdstore_writer.observe import Observer
from mdstore_writer.records import Records
from tests.contents import contents
from tests.writer.recordings import EXAMPLES, Event, events, observed, run

RUN_ID: Final = "2ea06acd-1f52-4ce3-972c-c1c0cec15b9a"
WORKFLOW: Final = "lineage-demo-n4tj8"

# What Kubeflow's driver and launcher wrote in this very run (read from its metadata calls): id -> group, task, state.
TASKS: Final = {
    29: (None, "", "RUNNING"),
    30: (29, "inner", "RUNNING"),
    31: (29, "make", "COMPLETE"),
    32: (29, "importer", "COMPLETE"),
    33: (30, "make", "COMPLETE"),
    34: (29, "train", "COMPLETE"),
    35: (29, "condition-3", "RUNNING"),
    36: (35, "make-2", "COMPLETE"),
    37: (30, "train", "COMPLETE"),
    38: (29, "for-loop-2", "RUNNING"),
    39: (38, "for-loop-2", "RUNNING"),
    40: (38, "for-loop-2", "RUNNING"),
    41: (39, "score", "COMPLETE"),
    42: (40, "score", "COMPLETE"),
}
GROUPS: Final = {29, 30, 35, 38, 39, 40}
# The edges of the same calls.
EDGES: Final = {
    ("make", "OUTPUT", "data", "system.Dataset", "make"),
    ("inner/make", "OUTPUT", "data", "system.Dataset", "inner/make"),
    ("train", "INPUT", "data", "system.Dataset", "make"),
    ("train", "OUTPUT", "metrics", "system.Metrics", "train"),
    ("train", "OUTPUT", "model", "system.Model", "train"),
    ("condition-3/make-2", "OUTPUT", "data", "system.Dataset", "condition-3/make-2"),
    ("inner/train", "INPUT", "data", "system.Dataset", "inner/make"),
    ("inner/train", "OUTPUT", "metrics", "system.Metrics", "inner/train"),
    ("inner/train", "OUTPUT", "model", "system.Model", "inner/train"),
    ("for-loop-2/for-loop-2#0/score", "INPUT", "model", "system.Model", "train"),
    ("for-loop-2/for-loop-2#1/score", "INPUT", "model", "system.Model", "train"),
    ("for-loop-2/for-loop-2#0/score", "OUTPUT", "out", "system.Dataset", "for-loop-2/for-loop-2#0/score"),
    ("for-loop-2/for-loop-2#1/score", "OUTPUT", "out", "system.Dataset", "for-loop-2/for-loop-2#1/score"),
}


def paths(records: Records) -> dict[str, str]:
    """External id -> groups and task, with iterations."""
    by_id = {record.key.external_id: record for record in records.executions}

    def path(external_id: str) -> str:
        told = by_id[external_id].properties
        if "parent" not in told:
            return ""
        iteration = f"#{told['iteration_index']}" if "iteration_index" in told else ""
        return f"{path(str(told['parent']))}/{told['task_name']}{iteration}".lstrip("/")

    return {external_id: path(external_id) for external_id in by_id}


def test_the_lineage_is_what_kubeflow_itself_recorded() -> None:
    records = run("kfp-lineage-demo", WORKFLOW)
    path = paths(records)
    types = {artifact.external_id: artifact.type for artifact in records.artifacts}
    makers = {e.artifact: path[e.execution.external_id] for e in records.events if e.type is EventType.OUTPUT}

    found = {
        (path[e.execution.external_id], e.type.name, e.path, types[e.artifact], makers[e.artifact])
        for e in records.events
        if e.path != "main-logs"
    }

    assert found == EDGES
    assert [
        (path[use.execution.external_id], use.type, use.path, use.uri, use.default_type) for use in records.uses
    ] == [("importer", EventType.OUTPUT, "artifact", "minio://mlpipeline/imported/base.csv", "system.Dataset")]
    groups = {"", "inner", "condition-3", "for-loop-2", "for-loop-2/for-loop-2#0", "for-loop-2/for-loop-2#1"}
    assert {path[r.key.external_id] for r in records.executions} == groups | {"importer"} | {edge[0] for edge in EDGES}
    assert {r.state.name for r in records.executions if r.state} == {"COMPLETE"}
    assert [context.key for context in records.contexts] == [
        ("system.Pipeline", "lineage-demo"),
        ("system.PipelineRun", RUN_ID),
    ]


def test_a_failed_step_of_2_17() -> None:
    (known,) = observed(events("kfp217-failing-demo")).values()
    records = interpret(known)
    path = paths(records)

    failed = {path[r.key.external_id]: r.properties for r in records.executions if r.state and r.state.name == "FAILED"}

    assert set(failed) == {"", "bad"}
    # The step exits with 7, its launcher, which is what Argo sees, with 1.
    assert failed["bad"]["exit_code"] == 1
    assert failed["bad"]["message"] == "main: Error (exit code 1)"


def test_nothing_is_recorded_before_kubeflows_root_driver_is_done() -> None:
    """It keeps `pipeline_root` in the contexts when it makes them, and does not when it finds them."""
    for position, event in enumerate(events("kfp-lineage-demo")):
        known = observed(events("kfp-lineage-demo")[: position + 1]).get(WORKFLOW)
        if known is None:
            continue
        driver = next((n for n in known.workflow.nodes.values() if n.display_name == "root-driver"), None)
        if driver is not None and driver.phase == "Succeeded":
            assert position > 5
            return
        assert interpret(known) == Records(), event["type"]


# As the launcher's store would say.
WRITTEN: Final = {
    number: LauncherExecution(
        type="system.DAGExecution"
        if number in GROUPS
        else ("system.ImporterExecution" if task == "importer" else "system.ContainerExecution"),
        task=task,
        parent=parent,
        iteration=number - 39 if parent == 38 else None,
    )
    for number, (parent, task, _) in TASKS.items()
}


def test_a_run_that_is_watched_while_it_runs_is_at_no_moment_recorded_beside_kubeflow() -> None:
    """Drivers write their tasks some time before their nodes tell the ids."""
    observer = Observer("here")
    seen = 0
    for event in events("kfp-lineage-demo"):
        observer.observe(event, "test")
        for known in observer.runs():
            # All is written already or, the other extreme, only what nodes tell to be over.
            over = {task.display_name for task in known.workflow.nodes.values() if task.is_over}
            late = {
                number: one
                for number, one in WRITTEN.items()
                if one.parent is None or one.task in over or f"{one.task}-driver" in over or one.iteration is not None
            }
            for written in (WRITTEN, late):
                records = interpret(known, written)
                assert [record for record in records.executions if record.key.store_id is None] == []
                assert (records.artifacts, records.events, records.uses) == ((), (), ())
                seen += len(records.executions)
    assert seen > 1000


def from_the_cache(event: Event) -> Event:
    """The event as if each task had been found in Kubeflow's cache: no node tells an id, and nothing ran."""
    changed: dict[str, Any] = json.loads(json.dumps(event))
    nodes = changed["object"].get("status", {}).get("nodes", {})
    for name, node in list(nodes.items()):
        if node.get("templateName") in {"system-container-impl", "system-container-executor"}:
            del nodes[name]
        elif node.get("templateName") == "system-container-driver":
            for parameter in node.get("outputs", {}).get("parameters", ()):
                parameter["value"] = {"pod-spec-patch": "", "cached-decision": "true"}.get(parameter["name"], "true")
    return changed


def test_hits_of_kubeflows_cache_are_found_by_their_names() -> None:
    workflows = [event for event in events("kfp-lineage-demo") if event["object"]["kind"] == "Workflow"]
    known = observed(map(from_the_cache, workflows))[WORKFLOW]

    states = {
        record.key.store_id: record.state and record.state.name for record in interpret(known, WRITTEN).executions
    }

    assert states == {
        number: "COMPLETE" if number in GROUPS or task == "importer" else "CACHED"
        for number, (_, task, _) in TASKS.items()
    }


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return connect(f"sqlite:///{tmp_path / 'store.db'}")


def write_as_kubeflow(client: Client, *, died: int) -> None:
    """What Kubeflow wrote into its store, under the same ids; the launcher of `died` did not live to tell the end."""

    def type_id(kind: str, name: str) -> int:
        request = service.PutTypesRequest()
        getattr(request, f"{kind}_types").add(name=name)
        response = client.put_types(request)
        return int(getattr(response, f"{kind}_type_ids")[0])

    contexts = client.put_contexts(
        service.PutContextsRequest(
            contexts=[
                mlmd.Context(type_id=type_id("context", "system.Pipeline"), name="lineage-demo"),
                mlmd.Context(
                    type_id=type_id("context", "system.PipelineRun"),
                    name=RUN_ID,
                    custom_properties={"pipeline_root": mlmd.Value(string_value="minio://mlpipeline/v2/artifacts")},
                ),
            ]
        )
    ).context_ids
    other = type_id("execution", "somebody.elses")
    client.put_executions(
        service.PutExecutionsRequest(executions=[mlmd.Execution(type_id=other, name=f"other {n}") for n in range(28)])
    )
    for number, (parent, task, state) in TASKS.items():
        type_name = "system.DAGExecution" if number in GROUPS else "system.ContainerExecution"
        execution = mlmd.Execution(
            type_id=type_id("execution", "system.ImporterExecution" if task == "importer" else type_name),
            last_known_state=mlmd.Execution.State.Value("RUNNING" if number == died else state),
        )
        execution.custom_properties["task_name"].string_value = task
        if parent is None:
            execution.name = f"run/{RUN_ID}"
        else:
            execution.custom_properties["parent_dag_id"].int_value = parent
        if parent == 38:
            execution.custom_properties["iteration_index"].int_value = number - 39
        # The contexts are told whole, as Kubeflow does.
        stored = client.get_contexts_by_id(service.GetContextsByIDRequest(context_ids=contexts)).contexts
        request = service.PutExecutionRequest(execution=execution, contexts=stored)
        assert client.put_execution(request).execution_id == number


def test_what_kubeflow_wrote_is_enriched_and_not_doubled(client: Client) -> None:
    write_as_kubeflow(client, died=34)
    before = contents(client)

    for _ in range(2):
        replay.replay(client, [EXAMPLES / "kfp-lineage-demo"], cluster="here")

        after = contents(client)
        assert len(after["executions"]) == len(before["executions"]) == 28 + len(TASKS)
        assert after["artifacts"] == {}
        assert after["events"] == []
        assert after["contexts"].keys() == before["contexts"].keys()
    stored = {
        execution.id: execution
        for execution in client.get_executions_by_id(
            service.GetExecutionsByIDRequest(execution_ids=list(TASKS))
        ).executions
    }
    # The launcher of 34 died, and groups that Kubeflow leaves RUNNING are told how they ended.
    assert {mlmd.Execution.State.Name(e.last_known_state) for e in stored.values()} == {"COMPLETE"}
    train = stored[34].custom_properties
    assert train["task_name"].string_value == "train"
    assert train["image_digest"].string_value.startswith("sha256:")
    assert train["node"].string_value == "node-1"
    assert train["finished_at"].string_value == "2026-11-23T17:59:43.000Z"
    assert train["pod_name"].string_value == "lineage-demo-n4tj8-system-container-impl-2081584478"
    assert not stored[34].HasField("external_id")
    run_context = after["contexts"][f"system.PipelineRun {RUN_ID}"]["properties"]
    assert run_context["pipeline_root"] == "minio://mlpipeline/v2/artifacts"
    assert run_context["state"] == "SUCCEEDED"


def test_ids_of_another_store_hit_nobody(client: Client) -> None:
    """The recording tells ids 29 to 42. In this store they are others', or what an earlier replay wrote."""
    request = service.PutTypesRequest()
    request.execution_types.add(name="somebody.elses")
    (type_id,) = client.put_types(request).execution_type_ids
    client.put_executions(
        service.PutExecutionsRequest(executions=[mlmd.Execution(type_id=type_id, name=f"other {n}") for n in range(20)])
    )
    others = contents(client)["executions"]

    replay.replay(client, [EXAMPLES / "kfp-lineage-demo"], cluster="here")
    once = contents(client)
    replay.replay(client, [EXAMPLES / "kfp-lineage-demo"], cluster="here")

    assert contents(client) == once
    assert {name: e for name, e in once["executions"].items() if name in others} == others
    assert len(once["executions"]) == len(others) + len(TASKS)
