"""Observed runs in a real store: the same contents whatever the order, the batches and the interruptions."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mdstore.client.client import Client
from mdstore.client.connect import connect
from mdstore_writer.observe import Observer
from mdstore_writer.quarantine import entries
from mdstore_writer.record import Recorder
from tests.contents import contents
from tests.writer.recordings import Event, events

SMALL: Final = ("retry", "fail", "pod-delete", "workflow-delete", "trouble", "loop", "memo-1-first", "memo-2-second")


@contextmanager
def store() -> Iterator[Client]:
    with TemporaryDirectory() as folder, connect(f"sqlite:///{folder}/store.db") as client:
        yield client


def record(client: Client, given: Iterable[Event], *, flush_every: int = 10**9, cluster: str = "here") -> Recorder:
    """One writer's life: observe, flush now and then, settle at the end."""
    observer = Observer(cluster)
    recorder = Recorder(client, observer)
    for number, event in enumerate(given, 1):
        observer.observe(event, f"test:{number}")
        if number % flush_every == 0:
            recorder.flush()
    observer.end()
    recorder.settle()
    return recorder


def recorded(*names: str) -> list[Event]:
    return [event for name in names for event in events(name) if event["type"] != "ERROR"]


def expected(*names: str) -> dict[str, Any]:
    with store() as client:
        record(client, recorded(*names))
        return contents(client)


@pytest.mark.parametrize("flush_every", [1, 7, 100])
@pytest.mark.parametrize("names", [SMALL, ("kfp-lineage-demo",), ("story",)])
def test_batches_change_nothing(names: tuple[str, ...], flush_every: int) -> None:
    with store() as client:
        record(client, recorded(*names), flush_every=flush_every)

        assert contents(client) == expected(*names)


@pytest.mark.parametrize("names", [SMALL, ("kfp-lineage-demo",), ("story",)])
@given(random=st.randoms(use_true_random=False), flush_every=st.integers(1, 200), repeated=st.integers(0, 50))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_order_and_repetition_give_the_same_store(
    names: tuple[str, ...], random: Any, flush_every: int, repeated: int
) -> None:
    given = recorded(*names)
    shuffled = given + random.choices(given, k=repeated)
    random.shuffle(shuffled)

    with store() as client:
        record(client, shuffled, flush_every=flush_every)

        assert contents(client) == expected(*names)


@pytest.mark.slow
@given(stops=st.lists(st.integers(1, 500), max_size=3), flush_every=st.integers(1, 60))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_beginning_again_after_a_stop_anywhere_gives_the_same_store(stops: list[int], flush_every: int) -> None:
    given = recorded("story")
    with store() as client:
        for stop in stops:
            observer = Observer("here")
            recorder = Recorder(client, observer)
            for number, event in enumerate(given[:stop], 1):
                observer.observe(event, "test")
                if number % flush_every == 0:
                    recorder.flush()
        record(client, given)

        assert contents(client) == expected("story")


def test_what_is_known_already_is_not_written_again() -> None:
    with store() as client:
        record(client, recorded("story"))
        commits = sum(len(page.commits) for page in client.follow(once=True))

        record(client, recorded("story"))

        assert sum(len(page.commits) for page in client.follow(once=True)) == commits


# Versions across runs


def of_workflow(name: str) -> list[Event]:
    """The story's events of one workflow."""
    uid = next(e["object"]["metadata"]["uid"] for e in events("story") if e["object"]["metadata"].get("name") == name)
    return [
        event
        for event in events("story")
        if event["object"]["metadata"].get("uid") == uid
        or any(o["uid"] == uid for o in event["object"]["metadata"].get("ownerReferences", []))
    ]


def inputs(client: Client, workflow: str) -> dict[str, str]:
    """task.input -> the artifact's external id, without its cluster and uid."""
    found = contents(client)
    executions = found["executions"]
    return {
        f"{executions[name]['properties']['display_name']}.{path}": artifact
        if artifact.startswith("uri:")
        else artifact.split("/")[3] + "/" + artifact.split("/")[4]
        for name, kind, path, artifact, _ in found["events"]
        if kind == "INPUT" and executions[name]["properties"]["workflow_name"] == workflow
    }


def test_a_consumer_seen_before_its_producer_is_completed_later() -> None:
    """The producers show up in a writer's next life: the store is the same as if all had come in order."""
    with store() as client:
        record(client, of_workflow("churn-release-nov18"))

        model = "uri:s3://artifacts/models/churn/churn-train-nov18/model.csv"
        test = "uri:s3://artifacts/datasets/customers/2026-11-18/test.csv"
        assert inputs(client, "churn-release-nov18")["evaluate.model"] == model
        assert inputs(client, "churn-release-nov18")["evaluate.test"] == test
        assert contents(client)["artifacts"][model]["properties"] == {"display_name": "model.csv"}

        record(client, of_workflow("customers-data-nov18"))
        record(client, of_workflow("churn-train-nov18"))

        found = inputs(client, "churn-release-nov18")
        assert found["evaluate.model"] == found["deploy.model"] == "churn-train-nov18-1751482172/model"
        assert found["evaluate.test"] == "customers-data-nov18-1603455088/test"
        with store() as other:
            for name in ("customers-data-nov18", "churn-train-nov18", "churn-release-nov18"):
                record(other, of_workflow(name))
            assert contents(client) == contents(other)


def test_a_producer_that_came_after_the_use_is_not_what_was_used() -> None:
    """The second day's table was made again at the same place; what used the first one used the first one."""
    with store() as client:
        record(client, of_workflow("customers-data-nov19-again"))
        record(client, of_workflow("customers-data-nov19"))

        assert inputs(client, "customers-data-nov19")["validate.raw"] == "customers-data-nov19-757263270/raw"
        assert inputs(client, "customers-data-nov19-again")["split.raw"] == "customers-data-nov19-again-2297170183/raw"


def moved(given: list[Event], name: str, change: Any) -> list[Event]:
    """Events of a workflow with its nodes changed."""
    result: list[Any] = deepcopy(given)
    for event in result:
        if event["object"].get("kind") == "Workflow" and event["object"]["metadata"].get("name") == name:
            for node in event["object"].get("status", {}).get("nodes", {}).values():
                change(node)
    return result


def test_of_several_versions_the_last_one_before_the_use_is_meant() -> None:
    """Two writers' lives: the consumer first, then three versions at once, one of them too late."""
    consumer, producer = of_workflow("churn-release-nov18"), of_workflow("customers-data-nov18")

    def again(uid: str, at: str) -> list[Event]:
        text: list[Any] = deepcopy(producer)
        for event in text:
            metadata = event["object"]["metadata"]
            if event["object"].get("kind") == "Workflow" and "uid" in metadata:
                metadata["uid"], metadata["name"] = uid, f"again-{uid}"
                for node in event["object"].get("status", {}).get("nodes", {}).values():
                    if node.get("finishedAt"):
                        node["startedAt"] = node["finishedAt"] = at
        return [event for event in text if event["object"].get("kind") == "Workflow"]

    with store() as client:
        record(client, consumer)
        record(
            client,
            [
                *producer,
                *again("later", "2026-11-23T19:03:30Z"),
                *again("too-late", "2026-11-24T00:00:00Z"),
            ],
        )

        used = next(
            artifact
            for name, kind, path, artifact, _ in contents(client)["events"]
            if kind == "INPUT" and path == "test"
        )
        assert used.split("/")[2] == "later"


# Trouble


def test_an_artifact_without_a_location_goes_into_quarantine_and_out_again() -> None:
    def without(node: Any) -> None:
        for artifact in node.get("outputs", {}).get("artifacts", []):
            if artifact["name"] == "model":
                del artifact["s3"]

    with store() as client:
        record(client, moved(recorded("dag-artifacts"), "dag-artifacts", without))

        (entry,) = entries(client)
        assert entry.reason == "output artifact 'model' of node 'train' (dag-artifacts-3776543609) has no location"
        assert entry.subject == "Workflow pipelines/dag-artifacts"
        assert any(path == "raw" for _, _, path, _, _ in contents(client)["events"])

        recorder = record(client, recorded("dag-artifacts"))

        assert not list(entries(client))
        assert not recorder.problems
        assert contents(client) == expected("dag-artifacts")


def test_a_workflow_without_status_is_waited_for_and_then_told() -> None:
    bare = [event for event in recorded("retry") if event["type"] == "ADDED"]
    with store() as client:
        observer = Observer("here")
        recorder = Recorder(client, observer)
        for event in bare:
            observer.observe(event, "file.jsonl:7")
        recorder.flush()
        assert not recorder.problems

        observer.end()
        recorder.settle()

        (entry,) = entries(client)
        assert entry.place == "file.jsonl:7"
        assert entry.reason.startswith("the workflow has no status")
        record(client, recorded("retry"))
        assert contents(client) == expected("retry")


def test_a_run_that_the_store_refuses_does_not_keep_others_out() -> None:
    def break_it(node: Any) -> None:
        for artifact in node.get("outputs", {}).get("artifacts", []):
            artifact["name"] = "attempt\0file"

    with store() as client:
        recorder = record(client, [*moved(recorded("retry"), "retry", break_it), *recorded("fail")])

        (entry,) = entries(client)
        assert entry.subject == "Workflow pipelines/retry"
        assert "NUL" in entry.reason
        assert len(recorder.problems) == 1
        assert any("/fail-" in name for name in contents(client)["executions"])


def test_a_message_that_no_client_could_read_back_is_made_readable() -> None:
    def break_it(node: Any) -> None:
        if "message" in node:
            node["message"] = "died of \0"

    with store() as client:
        record(client, moved(recorded("retry"), "retry", break_it))

        messages = {e["properties"].get("message") for e in contents(client)["executions"].values()}
        assert messages == {None, "died of \N{REPLACEMENT CHARACTER}"}


# The story


def test_everything_that_the_published_model_came_from() -> None:
    with store() as client:
        record(client, recorded("story"))
        found = contents(client)

    executions = {
        name: f"{e['properties']['workflow_name']}/{e['properties']['display_name']}({e['properties'].get('attempt')})"
        for name, e in found["executions"].items()
    }
    uris = {name: artifact["uri"].removeprefix("s3://artifacts/") for name, artifact in found["artifacts"].items()}
    made: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {}
    for execution, kind, _, artifact, _ in found["events"]:
        (made.setdefault(artifact, set()) if kind == "OUTPUT" else used.setdefault(execution, set())).add(
            execution if kind == "OUTPUT" else artifact
        )

    def upstream(uri: str) -> set[str]:
        (start,) = (name for name, place in uris.items() if place == uri)
        seen, todo = set[str](), [start]
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo += made.get(node, set()) | used.get(node, set())
        return {executions.get(node) or uris[node] for node in seen}

    both = {
        "features/churn/2026-11-18/features.csv",
        "churn-train-nov18/features(0)",
        "churn-train-nov18-wide/features(0)",  # from the cache: it output the same version
        "datasets/customers/2026-11-18/train.csv",
        "customers-data-nov18/split(0)",
        "datasets/customers/2026-11-18/raw.csv",
        "customers-data-nov18/extract(0)",
    }
    assert upstream("models/churn/churn-train-nov18/model.csv") == both | {
        "models/churn/churn-train-nov18/model.csv",
        "churn-train-nov18/publish(0)",
        "models/churn/churn-train-nov18/rate-0.01/weights.csv",
        "churn-train-nov18/fit(0:0.01)(0)",
    }
    assert upstream("models/churn/churn-train-nov18-wide/model.csv") == both | {
        "models/churn/churn-train-nov18-wide/model.csv",
        "churn-train-nov18-wide/publish(0)",
        "models/churn/churn-train-nov18-wide/rate-0.02/weights.csv",
        "churn-train-nov18-wide/fit(0:0.02)(0)",
    }
    assert upstream("models/fraud/fraud-train-nov18/model.csv") == {
        "models/fraud/fraud-train-nov18/model.csv",
        "fraud-train-nov18/fit(0)",
        "features/fraud/fraud-train-nov18/profile.csv",
        "fraud-train-nov18/profile(0)",
        "datasets/customers/2026-11-18/raw.csv",
        "customers-data-nov18/extract(0)",
    }
    assert upstream("releases/churn/churn-release-nov18/release.yaml") >= {
        "metrics/churn/churn-release-nov18/metrics.json",
        "datasets/customers/2026-11-18/test.csv",
        "models/churn/churn-train-nov18/model.csv",
    }
    cached = next(e for e in found["executions"].values() if e["state"] == "CACHED")
    assert executions[cached["properties"]["cached_execution_id"]] == "churn-train-nov18/features(0)"
    held_back = next(name for name, told in executions.items() if told == "churn-release-nov19/deploy(0)")
    assert found["executions"][held_back]["state"] == "CANCELED"
    assert not any(name.startswith("uri:") for name in found["artifacts"])
