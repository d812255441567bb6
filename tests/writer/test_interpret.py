"""What recorded workflows of Argo's are recorded as."""

import base64
import gzip
from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdstore.values import EventType, ExecutionState
from mdstore.vocabulary import CONTAINER_EXECUTION, DAG_EXECUTION, LOG
from mdstore_writer.interpret import interpret
from mdstore_writer.observe import Observer
from mdstore_writer.records import Records
from tests.writer.recordings import NAMES, Event, events, execution, observed, run, states


def links(records: Records, kind: EventType) -> set[tuple[str, str, str]]:
    """(task and attempt, input or output, location) of all events of one kind."""
    uris = {artifact.external_id: artifact.uri for artifact in records.artifacts}
    names = {
        record.key: f"{record.properties.get('display_name')}({record.properties.get('attempt')})"
        for record in records.executions
    }
    return {
        (names[event.execution], event.path, uris[event.artifact]) for event in records.events if event.type is kind
    }


def test_a_dag_with_artifacts() -> None:
    records = run("dag-artifacts")

    assert states(records) == {
        ("dag-artifacts", 0): "COMPLETE",
        ("make", 0): "COMPLETE",
        ("train", 0): "COMPLETE",
        ("evaluate", 0): "COMPLETE",
    }
    root = "s3://artifacts/dag-artifacts/dag-artifacts"
    assert {link for link in links(records, EventType.OUTPUT) if link[1] != "main-logs"} == {
        ("make(0)", "data", f"{root}-make-1827531743/data.tgz"),
        ("train(0)", "model", f"{root}-train-3776543609/model.tgz"),
        ("train(0)", "raw", "s3://artifacts/fixed/dag-artifacts/acc.txt"),
    }
    assert links(records, EventType.INPUT) == {
        ("train(0)", "data", f"{root}-make-1827531743/data.tgz"),
        ("evaluate(0)", "data", f"{root}-make-1827531743/data.tgz"),
        ("evaluate(0)", "model", f"{root}-train-3776543609/model.tgz"),
    }
    assert {artifact.type for artifact in records.artifacts if artifact.uri.endswith("/main.log")} == {LOG}
    train = execution(records, "train")
    assert train.properties["inputs"] == {"count": "5"}
    assert train.properties["outputs"] == {"accuracy": "0.93", "missing": "nothing"}
    assert (train.properties["started_at"], train.properties["finished_at"]) == (
        "2026-11-23T17:53:35.000Z",
        "2026-11-23T17:53:38.000Z",
    )
    assert train.properties["pod_name"] == "dag-artifacts-train-3776543609"
    assert train.properties["image"] == "localhost/busybox:1"
    assert str(train.properties["image_digest"]).startswith("sha256:d067d45f")
    assert train.properties["node"] == "node-1"
    assert train.type == CONTAINER_EXECUTION
    assert not records.uses
    assert not records.problems


def test_each_attempt_is_an_execution_and_the_retry_node_is_none() -> None:
    records = run("retry")

    assert states(records) == {
        ("retry", 0): "COMPLETE",
        ("flaky", 0): "FAILED",
        ("flaky", 1): "FAILED",
        ("flaky", 2): "COMPLETE",
    }
    for attempt in (0, 1):
        failed = execution(records, "flaky", attempt)
        assert failed.properties["message"] == "main: Error (exit code 3)"
        assert failed.properties["exit_code"] == 3
    assert execution(records, "flaky", 2).properties["exit_code"] == 0
    assert "message" not in execution(records, "flaky", 2).properties
    outputs = {event.execution for event in records.events if event.path == "attempt-file"}
    assert outputs == {execution(records, "flaky", attempt).key for attempt in (0, 1, 2)}


def test_a_failed_step_has_outputs_and_what_did_not_run_says_why() -> None:
    records = run("fail")

    assert states(records) == {
        ("fail", 0): "FAILED",
        ("good", 0): "COMPLETE",
        ("bad", 0): "FAILED",
        ("after-bad", 0): "CANCELED",
        ("if-bad-fails", 0): "COMPLETE",
        ("onExit", 0): "COMPLETE",
    }
    assert execution(records, "after-bad").properties["message"] == "omitted: depends condition not met"
    assert execution(records, "bad").properties["exit_code"] == 42
    assert ("bad(0)", "partial", "s3://artifacts/fail/fail-bad-3884927116/partial.tgz") in links(
        records, EventType.OUTPUT
    )


@pytest.mark.parametrize(
    ("step", "exit_code", "reason", "message"),
    [
        ("deadline", 143, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"),
        ("no-image", 137, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"),
        ("oom", 137, "OOMKilled", "main: OOMKilled (exit code 137)"),
        ("no-output", 0, None, "wait: Error (exit code 64): open /var/run/argo/outputs/artifacts/tmp/gone.tgz: "),
        ("bad-command", 64, None, "main: Error (exit code 64): failed to find name in PATH: "),
    ],
)
def test_trouble_is_recorded_with_its_reason(step: str, exit_code: int, reason: str | None, message: str) -> None:
    record = execution(run("trouble"), step)

    assert record.state is ExecutionState.FAILED
    assert record.properties["exit_code"] == exit_code
    assert record.properties.get("reason") == reason
    assert str(record.properties["message"]).startswith(message)


def test_an_image_that_cannot_be_had_is_told_although_the_deadline_ended_the_pod() -> None:
    assert execution(run("trouble"), "no-image").properties["waited_for"] == "ErrImageNeverPull"


def test_a_loop_and_its_items() -> None:
    records = run("loop")

    assert states(records) == {
        ("loop", 0): "COMPLETE",
        ("list", 0): "COMPLETE",
        **{(f"each({item})", 0): "COMPLETE" for item in ("0:x", "1:y", "2:z")},
        **{(f"fixed({item})", 0): "COMPLETE" for item in ("0:a", "1:b")},
        ("skipped", 0): "CANCELED",
        ("join", 0): "COMPLETE",
    }
    item = execution(records, "each(1:y)")
    assert (item.properties["task_name"], item.properties["iteration_index"]) == ("each", 1)
    assert execution(records, "list").properties["outputs"] == {"result": '["x","y","z"]'}


def test_a_loop_of_a_dag_is_a_group_around_its_items() -> None:
    records = run("story", "churn-train-nov18")

    loop = execution(records, "fit")
    assert (loop.type, loop.properties["iteration_count"]) == (DAG_EXECUTION, 3)
    items = [record for record in records.executions if record.properties.get("parent") == loop.key.external_id]
    assert sorted((str(i.properties["display_name"]), i.properties["attempt"]) for i in items) == [
        ("fit(0:0.01)", 0),
        ("fit(1:0.1)", 0),
        ("fit(1:0.1)", 1),
        ("fit(2:0.5)", 0),
    ]
    assert execution(records, "publish").properties["parent"] == records.executions[0].key.external_id


def test_a_cache_hit_made_nothing_and_points_at_what_was_there() -> None:
    records = run("memo-2-second", "memo-second")

    costly = execution(records, "costly")
    assert costly.state is ExecutionState.CACHED
    assert costly.properties["cache_key"] == "costly-7"
    assert "exit_code" not in costly.properties
    assert {event.execution for event in records.events} == {execution(records, "use").key}
    found = "s3://artifacts/memo-first/memo-first-costly-949997850/f.tgz"
    started = 1795456579000
    assert {(use.execution, use.type, use.path, use.uri, use.as_of_ms) for use in records.uses} == {
        (costly.key, EventType.OUTPUT, "f", found, started),
        (costly.key, EventType.OUTPUT, "main-logs", found.replace("f.tgz", "main.log"), started),
        # What comes out of the cache is the version that was found there, not what may be there later.
        (execution(records, "use").key, EventType.INPUT, "f", found, started),
    }


def test_a_pod_that_was_replaced_is_told_by_its_uid() -> None:
    victim = execution(run("pod-delete"), "victim")

    assert victim.state is ExecutionState.COMPLETE
    assert str(victim.properties["pod_uid"]).startswith("9dd931")
    assert victim.properties["replaced_pods"] == {"d95ca193-2b56-40fe-b0a2-dd15e41df5e3": "exit code 143"}
    assert victim.properties["exit_code"] == 0
    assert "reason" not in victim.properties


def test_a_run_that_was_deleted_while_it_ran_is_closed() -> None:
    records = run("workflow-delete")

    assert records.contexts[1].properties["state"] == "DELETED"
    assert states(records) == {("workflow-delete", 0): "CANCELED", ("victim", 0): "CANCELED"}
    victim = execution(records, "victim")
    assert victim.properties["message"] == "the workflow was deleted before this ended"
    # Only the task's result told of it: the workflow never did.
    assert [artifact.uri for artifact in records.artifacts] == [
        "s3://artifacts/workflow-delete/workflow-delete-long-344834813/main.log"
    ]


def test_a_workflow_that_its_controller_cannot_read_is_a_failed_run() -> None:
    records = run("invalid-spec")

    context = records.contexts[1]
    assert context.properties["state"] == "FAILED"
    assert context.properties["message"] == "cannot unmarshall spec: unrecognized type: string"
    assert states(records) == {("invalid-spec", 0): "FAILED"}


def test_a_run_and_its_pipeline() -> None:
    records = run("story", "customers-data-nov19-again")
    pipeline, context = records.contexts

    assert (pipeline.type, pipeline.name) == ("system.Pipeline", "pipelines/customers-data")
    assert pipeline.properties == {"display_name": "customers-data", "namespace": "pipelines"}
    uid = observed(events("story"))["customers-data-nov19-again"].workflow.uid
    assert (context.type, context.name) == ("system.PipelineRun", uid)
    assert context.properties == {
        "display_name": "customers-data-nov19-again",
        "cluster": "here",
        "workflow_name": "customers-data-nov19-again",
        "workflow_uid": uid,
        "state": "SUCCEEDED",
        "started_at": "2026-11-23T19:04:48.000Z",
        "finished_at": "2026-11-23T19:05:07.000Z",
        "parameters": {"day": "2026-11-19", "seed": "8"},
        "labels": {"team": "growth"},
        "resubmitted_from": "customers-data-nov19",
    }
    assert records.parents == ((context.key, pipeline.key),)
    assert {key for _, key in records.associations} == {context.key, pipeline.key}


# Order, repetition, and what Argo may write differently


@pytest.mark.parametrize("name", NAMES)
@given(random=st.randoms(use_true_random=False), repeated=st.integers(0, 30))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_order_and_repetition_change_nothing(name: str, random: Any, repeated: int) -> None:
    recorded = [event for event in events(name) if event["type"] != "ERROR"]
    expected = {key: interpret(known) for key, known in observed(recorded).items()}

    shuffled = recorded + random.choices(recorded, k=repeated)
    random.shuffle(shuffled)

    assert {key: interpret(known) for key, known in observed(shuffled).items()} == expected


@pytest.mark.parametrize("name", NAMES)
def test_states_only_move_forward(name: str) -> None:
    observer = Observer("here")
    reached: dict[str, ExecutionState] = {}
    for event in events(name):
        observer.observe(event, "test")
        for known in observer.take_changed():
            for record in interpret(known).executions:
                state = record.state or ExecutionState.UNKNOWN
                before = reached.get(record.key.external_id, ExecutionState.UNKNOWN)
                is_final = before >= ExecutionState.COMPLETE
                # A pod that is lost sends its node back to Pending: the store keeps what it has.
                assert state == before or not is_final, f"{record.key} was {before.name} and became {state.name}"
                reached[record.key.external_id] = state


def test_what_a_run_says_only_grows() -> None:
    """Nothing is told that has to be taken back: no event, no artifact and no property is gone later."""
    for name in NAMES:
        observer, told = Observer("here"), dict[str, set[object]]()
        for event in events(name):
            observer.observe(event, "test")
            for known in observer.take_changed():
                records = interpret(known)
                now: set[object] = {
                    *((event.execution, event.artifact, event.type, event.path) for event in records.events),
                    *((a.external_id, a.uri, a.type) for a in records.artifacts),
                    *((record.key, prop) for record in records.executions for prop in record.properties),
                    *((record.key, prop) for record in records.contexts for prop in record.properties),
                }
                lost = told.get(known.workflow.uid, set()) - now
                assert not lost, f"{name}: {lost}"
                told[known.workflow.uid] = now


def with_workflow(name: str, change: Any) -> Records:
    """The last state of a recording's workflow with something changed in it."""
    last: Any = deepcopy(
        next(e for e in reversed(events(name)) if e["object"].get("kind") == "Workflow" and "status" in e["object"])
    )
    change(last["object"])
    last["type"] = "MODIFIED"
    (only,) = observed([last]).values()
    return interpret(only)


def test_compressed_nodes_are_read() -> None:
    def pack(workflow: Any) -> None:
        nodes = workflow["status"].pop("nodes")
        workflow["status"]["compressedNodes"] = base64.b64encode(gzip.compress(orjson.dumps(nodes))).decode()

    assert with_workflow("dag-artifacts", pack) == with_workflow("dag-artifacts", lambda _: None)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"compressedNodes": "no base64"}, "status.compressedNodes cannot be read"),
        ({"offloadNodeStatusVersion": "fnv:1234"}, "the nodes are in Argo's own database"),
    ],
)
def test_nodes_that_cannot_be_had_are_a_problem_and_the_run_is_recorded(status: Any, reason: str) -> None:
    def change(workflow: Any) -> None:
        del workflow["status"]["nodes"]
        workflow["status"].update(status)

    records = with_workflow("dag-artifacts", change)

    assert [problem.reason.startswith(reason) for problem in records.problems] == [True]
    assert states(records) == {("dag-artifacts", 0): "COMPLETE"}


def test_an_artifact_without_a_location_is_a_problem_and_the_rest_is_recorded() -> None:
    def change(workflow: Any) -> None:
        for node in workflow["status"]["nodes"].values():
            for artifact in node.get("outputs", {}).get("artifacts", []):
                if artifact["name"] == "model":
                    del artifact["s3"]

    records = with_workflow("dag-artifacts", change)

    assert [problem.reason for problem in records.problems] == [
        "output artifact 'model' of node 'train' (dag-artifacts-3776543609) has no location"
    ]
    assert "raw" in {event.path for event in records.events}


def test_outputs_wait_until_the_executor_has_reported_them() -> None:
    def change(workflow: Any) -> None:
        workflow["status"]["phase"] = "Running"
        for node in workflow["status"]["nodes"].values():
            if node["displayName"] == "train":
                node["taskResultSynced"] = False

    records = with_workflow("dag-artifacts", change)

    assert execution(records, "train").state is ExecutionState.COMPLETE
    assert execution(records, "train").key not in {
        event.execution for event in records.events if event.type is EventType.OUTPUT
    }


def test_the_completion_map_of_argo_3_5_is_read_too() -> None:
    def change(workflow: Any) -> None:
        workflow["status"]["phase"] = "Running"
        workflow["status"]["taskResultsCompletionStatus"] = {
            node["id"]: node["displayName"] != "train" for node in workflow["status"]["nodes"].values()
        }
        for node in workflow["status"]["nodes"].values():
            node.pop("taskResultSynced", None)

    records = with_workflow("dag-artifacts", change)

    made = {event.path for event in records.events if event.type is EventType.OUTPUT}
    assert made == {"data", "main-logs"}


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JUNK = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data(), name=st.sampled_from(["dag-artifacts", "kfp-lineage-demo", "retry"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_object_that_fits_no_schema_is_survived(data: Any, name: str) -> None:
    """Anything may stand anywhere: the API server keeps what no schema forbids."""
    recorded = [event for event in events(name) if event["type"] in {"MODIFIED", "DELETED"}]
    event: Any = deepcopy(data.draw(st.sampled_from(recorded)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = event["object"]
        while True:
            keys = [
                key
                for key in (place if isinstance(place, dict) else range(len(place)))
                if key not in {"uid", "name", "resourceVersion", "kind", "metadata", "ownerReferences"}
            ]
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.integers(0, 4)):
                place = place[key]
                continue
            place[key] = data.draw(JUNK)
            break
    later: list[Event] = [e for e in events(name) if e["object"]["kind"] == "Workflow" and "status" in e["object"]]

    for known in observed([event, *([] if event["object"]["kind"] == "Workflow" else later[-1:])]).values():
        interpret(known)
