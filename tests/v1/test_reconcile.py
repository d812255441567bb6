"""What the C++ library writes to a database of ours, while we have it open or not, comes into the change log once."""

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.store.store import Store
from mdstore.values import ExecutionId
from mdstore.wire import changes, mlmd, service
from mdstore_lineage.graph import Direction, ExecutionNode, Limits
from mdstore_lineage.opening import open_graph
from tests.judge.library import Library, library
from tests.store.log import fold, followed, of_log, of_tables, verify
from tests.store.writing import Nodes, event, get_one, node, put, put_type
from tests.v1.graphs import project

pytestmark = pytest.mark.judge

RETRIES = 5
"""Of a call that the library answered with ABORTED: as often as its public client calls again."""


@pytest.fixture(scope="module")
def process() -> Iterator[Library]:
    with library() as found:
        yield found


class Foreigner:
    """The library on one database."""

    def __init__(self, process: Library, url: str) -> None:
        self._process = process
        process.open(url.removeprefix("sqlite:///"))
        self.type_id = self.call("PutExecutionType", execution_type={"name": "theirs"}).type_id
        self.artifact_type_id = self.call("PutArtifactType", artifact_type={"name": "theirs"}).type_id
        self.context_type_id = self.call("PutContextType", context_type={"name": "theirs"}).type_id
        self._names = (f"run{n}" for n in itertools.count())

    def call(self, name: str, **fields: Any) -> Any:
        request = getattr(service, f"{name}Request")(**fields)
        code, message, response = self._process.call(name, request)
        for _ in range(RETRIES):
            if code != "ABORTED":
                break
            code, message, response = self._process.call(name, request)
        assert code == "OK", message
        return response

    def put_execution(self, artifacts: int = 2) -> service.PutExecutionResponse:
        """An execution with outputs in a new context."""
        response: service.PutExecutionResponse = self.call(
            "PutExecution",
            execution=mlmd.Execution(type_id=self.type_id),
            artifact_event_pairs=[
                {
                    "artifact": mlmd.Artifact(type_id=self.artifact_type_id, uri=f"s3://{n}"),
                    "event": mlmd.Event(type=mlmd.Event.OUTPUT, path={"steps": [{"key": "out"}, {"index": n}]}),
                }
                for n in range(artifacts)
            ],
            contexts=[mlmd.Context(type_id=self.context_type_id, name=next(self._names))],
        )
        return response


@pytest.fixture
def foreigner(process: Library, url: str) -> Foreigner:
    return Foreigner(process, url)


def normalised(found: dict[str, Any]) -> dict[str, Any]:
    """Types without the texts that are empty or not there: the database does not tell."""
    for field in ("artifact_types", "execution_types", "context_types"):
        for type_ in found[field].values():
            for name in ("version", "description", "external_id"):
                if not getattr(type_, name):
                    type_.ClearField(name)
    return found


def assert_log_is_whole(url: str, client: Client) -> None:
    verify(url)
    assert normalised(of_log(client)) == normalised(of_tables(client))


def external(client: Client) -> list[changes.Commit]:
    return [commit for commit in followed(client) if commit.origin == "external"]


def test_opening_takes_in_what_was_written_meanwhile_and_once_only(url: str, foreigner: Foreigner) -> None:
    made = foreigner.put_execution()
    for _ in range(2):
        with mdstore.connect(url) as client:
            found = fold(commit.changes for commit in external(client))
            assert list(found["executions"]) == [made.execution_id]
            assert list(found["artifacts"]) == list(made.artifact_ids)
            assert [len(found[links]) for links in ("events", "attributions", "associations")] == [2, 2, 1]
            assert_log_is_whole(url, client)


def test_the_lineage_graph_shows_what_they_wrote_and_what_was_made_of_it(
    url: str, foreigner: Foreigner, tmp_path: Path
) -> None:
    with mdstore.connect(url) as client:
        ours = Nodes(client)
        made = foreigner.put_execution(artifacts=1)
        used = event(made.artifact_ids[0], ours.executions[0], mlmd.Event.INPUT)
        client.put_events(service.PutEventsRequest(events=[used]))
    graph_url = f"sqlite:///{tmp_path / 'graph.db'}"
    project(url, graph_url)
    with closing(open_graph(graph_url)) as graph:
        start = ExecutionNode(ExecutionId(made.execution_id))
        found = graph.closure([start], Direction.DOWNSTREAM, limits=Limits())
    assert [type(node).__name__ + str(node.id) for node in found.nodes] == [
        f"ExecutionNode{made.execution_id}",
        f"ArtifactNode{made.artifact_ids[0]}",
        f"ExecutionNode{ours.executions[0]}",
    ]


def test_a_node_of_theirs_is_in_the_log_before_what_we_link_to_it(url: str, foreigner: Foreigner) -> None:
    with mdstore.connect(url) as client:
        ours = Nodes(client)
        made = foreigner.put_execution()
        client.put_events(
            service.PutEventsRequest(events=[event(made.artifact_ids[0], ours.executions[0], mlmd.Event.INPUT)])
        )
        origins = [commit.origin for commit in followed(client)]
        assert origins[-1] == "mlmd"
        assert "external" in origins
        assert_log_is_whole(url, client)


def test_updates_of_old_nodes_and_new_properties_of_types_are_found(url: str, foreigner: Foreigner) -> None:
    with Store.open(url) as store, mdstore.connect(url) as client:
        type_id = put_type(client, "artifact", "ours", {"a": mlmd.INT})
        (old,) = put(client, "artifact", node("artifact", type_id=type_id, declared={"a": 1}))
        store.reconcile()
        time.sleep(0.01)
        foreigner.call("PutArtifactType", artifact_type={"name": "ours", "properties": {"b": mlmd.STRING}},
                       can_add_fields=True, can_omit_fields=True)  # fmt: skip
        image = get_one(client, "artifact", old)
        image.properties["b"].string_value = "theirs"
        foreigner.call("PutArtifacts", artifacts=[image])
        store.reconcile()
        found = fold(commit.changes for commit in external(client))
        assert dict(found["artifact_types"][type_id].properties) == {"a": mlmd.INT, "b": mlmd.STRING}
        assert found["artifacts"][old].properties["b"].string_value == "theirs"
        assert_log_is_whole(url, client)


def test_links_between_old_contexts_are_found(url: str, foreigner: Foreigner) -> None:
    with Store.open(url) as store, mdstore.connect(url) as client:
        ours = Nodes(client)
        first = {"child_id": ours.contexts[0], "parent_id": ours.contexts[1]}
        client.put_parent_contexts(service.PutParentContextsRequest(parent_contexts=[first]))
        store.reconcile()
        foreigner.call(
            "PutParentContexts", parent_contexts=[{"child_id": ours.contexts[1], "parent_id": ours.contexts[2]}]
        )
        store.reconcile()
        assert_log_is_whole(url, client)
        newest = len(followed(client))
        store.reconcile()
        assert len(followed(client)) == newest


def test_both_writing_at_once_leave_one_whole_log(url: str, foreigner: Foreigner) -> None:
    with mdstore.connect(url) as client:
        ours = Nodes(client)
        for n in range(30):
            made = foreigner.put_execution()
            put(client, "execution", ours.new("execution", name=f"n{n}"))
            client.put_events(
                service.PutEventsRequest(events=[event(made.artifact_ids[0], ours.executions[0], mlmd.Event.INPUT)])
            )
        assert_log_is_whole(url, client)
    with mdstore.connect(url) as client:
        assert_log_is_whole(url, client)


_SERVE = "import sys; from mdstore.__main__ import main; sys.argv = ['mdstore', *sys.argv[1:]]; main()"


def test_a_running_server_takes_in_their_writes_by_itself_and_being_killed_doubles_nothing(
    url: str, foreigner: Foreigner
) -> None:
    port = "18473"
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, "serve", "--database", url, "--grpc-port", port],
            env={"PATH": "/usr/bin:/bin", "MDSTORE_RECONCILE_S": "0.02"},
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(4):
                foreigner.put_execution(artifacts=20)
            with mdstore.connect(f"grpc://127.0.0.1:{port}") as client:
                wanted = foreigner.put_execution().execution_id
                deadline = time.monotonic() + 20
                while time.monotonic() < deadline and wanted not in _executions(client):
                    time.sleep(0.02)
                assert wanted in _executions(client)
            foreigner.put_execution(artifacts=20)
        finally:
            process.kill()
            process.wait()
    with mdstore.connect(url) as client:
        assert_log_is_whole(url, client)


def _executions(client: Client) -> set[int]:
    try:
        return {execution.id for commit in followed(client) for execution in commit.changes.executions}
    except mdstore.errors.Unavailable:
        return set()
