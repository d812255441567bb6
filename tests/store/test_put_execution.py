"""PutExecution: an execution with its artifacts, events and contexts, in one transaction."""

import time
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, InvalidArgument, NotFound
from mdstore.wire import mlmd, service
from tests.store.writing import Nodes, call, event, events_of, get, get_all, get_one, put, put_type, value

Event = mlmd.Event


@pytest.fixture
def nodes(client: Client) -> Nodes:
    return Nodes(client)


def pair(artifact: Any = None, kind: Any = None, **fields: Any) -> dict[str, Any]:
    """A pair; `kind` is its event's type and `fields` the event's other fields."""
    found: dict[str, Any] = {} if artifact is None else {"artifact": artifact}
    if kind is not None or fields:
        found["event"] = mlmd.Event(**({} if kind is None else {"type": kind}), **fields)
    return found


def put_execution(
    client: Client, execution: Any, *pairs: dict[str, Any], contexts: Any = (), **options: bool
) -> service.PutExecutionResponse:
    response: service.PutExecutionResponse = call(
        client,
        "PutExecution",
        execution=execution,
        artifact_event_pairs=pairs,
        contexts=contexts,
        **({"options": options} if options else {}),
    )
    return response


def members(client: Client, context: int) -> tuple[list[int], list[int]]:
    """The ids of the artifacts and of the executions in a context."""
    return (
        [found.id for found in call(client, "GetArtifactsByContext", context_id=context).artifacts],
        [found.id for found in call(client, "GetExecutionsByContext", context_id=context).executions],
    )


def contents(client: Client) -> list[Any]:
    """All nodes and events."""
    executions = get_all(client, "execution").executions
    return [
        *get_all(client, "artifact").artifacts,
        *executions,
        *get_all(client, "context").contexts,
        *events_of(client, "execution", *(execution.id for execution in executions)),
    ]


def test_everything_is_created_and_linked_at_once(client: Client, nodes: Nodes) -> None:
    used = nodes.artifacts[0]

    response = put_execution(
        client,
        nodes.new("execution", last_known_state=mlmd.Execution.COMPLETE),
        pair(nodes.new("artifact", uri="out"), Event.OUTPUT, milliseconds_since_epoch=5),
        pair(nodes.new("artifact", uri="no event")),
        pair(None, Event.INPUT, artifact_id=used),
        contexts=[nodes.new("context", name="new"), nodes.new("context", name="newer")],
    )

    out, no_event, third = response.artifact_ids
    assert third == used
    assert [found.uri for found in get(client, "artifact", [out, no_event])] == ["out", "no event"]
    assert get_one(client, "execution", response.execution_id).last_known_state == mlmd.Execution.COMPLETE
    first, second = events_of(client, "execution", response.execution_id)
    assert first == event(out, response.execution_id, Event.OUTPUT, at_ms=5)
    assert (second.artifact_id, second.type) == (used, Event.INPUT)
    for context in response.context_ids:
        assert members(client, context) == (sorted([out, no_event, used]), [response.execution_id])


def test_an_execution_alone_will_do_but_it_is_needed(client: Client, nodes: Nodes) -> None:
    assert put_execution(client, nodes.new("execution")).execution_id == nodes.executions[-1] + 1
    with pytest.raises(InvalidArgument, match="execution"):
        call(client, "PutExecution", artifact_event_pairs=[pair(nodes.new("artifact"), Event.INPUT)])


def test_nodes_with_an_id_are_replaced_and_need_no_type(client: Client, nodes: Nodes) -> None:
    artifact, execution = nodes.artifacts[0], nodes.executions[0]
    put(client, "artifact", nodes.new("artifact", id=artifact, uri="old", custom={"gone": 1}))

    response = put_execution(
        client,
        mlmd.Execution(id=execution, last_known_state=mlmd.Execution.FAILED),
        pair(mlmd.Artifact(id=artifact, uri="new"), Event.INPUT),
    )

    assert (response.execution_id, list(response.artifact_ids)) == (execution, [artifact])
    assert get_one(client, "execution", execution).last_known_state == mlmd.Execution.FAILED
    found = get_one(client, "artifact", artifact)
    assert (found.uri, dict(found.custom_properties)) == ("new", {})


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda _: [pair()], InvalidArgument),
        (lambda _: [pair(None, Event.INPUT)], InvalidArgument),
        (lambda _: [pair(None, Event.INPUT, artifact_id=999)], InvalidArgument),
        (lambda nodes: [pair(nodes.new("artifact"), Event.UNKNOWN)], InvalidArgument),
        (lambda nodes: [pair(nodes.new("artifact"), milliseconds_since_epoch=1)], InvalidArgument),
        (lambda nodes: [pair(nodes.new("artifact"), Event.INPUT, artifact_id=1)], InvalidArgument),
        (lambda nodes: [pair(nodes.new("artifact", id=1), Event.INPUT, artifact_id=2)], InvalidArgument),
        (lambda nodes: [pair(nodes.new("artifact"), Event.INPUT, execution_id=1)], InvalidArgument),
        (lambda nodes: [pair(nodes.new("artifact", id=999), Event.INPUT)], InvalidArgument),
        (lambda _: [pair(mlmd.Artifact(), Event.INPUT)], InvalidArgument),
        (lambda _: [pair(mlmd.Artifact(type_id=999), Event.INPUT)], NotFound),
        (lambda _: [pair(mlmd.Artifact(id=1), Event.INPUT)] * 2, AlreadyExists),
        (lambda nodes: [pair(nodes.new("artifact", name="n")), pair(nodes.new("artifact", name="n"))], AlreadyExists),
        (lambda nodes: [pair(nodes.new("artifact", external_id="e"))] * 2, AlreadyExists),
    ],
)
def test_a_wrong_pair_writes_nothing(client: Client, nodes: Nodes, make: Any, error: type[Exception]) -> None:
    before = contents(client)
    with pytest.raises(error):
        put_execution(
            client,
            nodes.new("execution"),
            pair(nodes.new("artifact"), Event.OUTPUT),
            *make(nodes),
            contexts=[nodes.new("context", name="new")],
        )
    assert contents(client) == before


def test_an_event_may_name_the_ids_that_the_request_has(client: Client, nodes: Nodes) -> None:
    artifact, execution = nodes.artifacts[0], nodes.executions[0]
    put_execution(
        client,
        mlmd.Execution(id=execution),
        pair(mlmd.Artifact(id=artifact), Event.INPUT, artifact_id=artifact, execution_id=execution),
    )
    with pytest.raises(InvalidArgument):
        put_execution(
            client,
            mlmd.Execution(id=execution),
            pair(mlmd.Artifact(id=artifact), Event.OUTPUT, execution_id=execution + 1),
        )
    with pytest.raises(AlreadyExists):
        put_execution(client, mlmd.Execution(id=execution), pair(mlmd.Artifact(id=artifact), Event.INPUT))
    assert len(events_of(client, "artifact", artifact)) == 1


@pytest.mark.parametrize(
    ("execution", "error"),
    [
        (mlmd.Execution(), InvalidArgument),
        (mlmd.Execution(type_id=999), NotFound),
        (mlmd.Execution(id=999), InvalidArgument),
        (mlmd.Execution(id=1, type_id=999), InvalidArgument),
        (mlmd.Execution(id=1, properties={"undeclared": value(1)}), InvalidArgument),
    ],
)
def test_a_wrong_execution_writes_nothing(
    client: Client, nodes: Nodes, execution: mlmd.Execution, error: type[Exception]
) -> None:
    before = contents(client)
    with pytest.raises(error):
        put_execution(client, execution, pair(nodes.new("artifact"), Event.OUTPUT))
    assert contents(client) == before


class TestContexts:
    def test_one_with_an_id_is_replaced_and_needs_type_and_name_all_the_same(
        self, client: Client, nodes: Nodes
    ) -> None:
        context = nodes.contexts[0]
        sent = nodes.new("context", id=context, name="renamed", custom={"x": 1})
        assert list(put_execution(client, nodes.new("execution"), contexts=[sent]).context_ids) == [context]
        assert get_one(client, "context", context).name == "renamed"
        for wrong in ({"id": context, "name": "n"}, {"id": context, "type_id": nodes.types["context"]}, {"name": "n"}):
            with pytest.raises(InvalidArgument):
                put_execution(client, nodes.new("execution"), contexts=[mlmd.Context(**wrong)])

    def test_an_unknown_id_is_an_invalid_argument(self, client: Client, nodes: Nodes) -> None:
        with pytest.raises(InvalidArgument):
            put_execution(client, nodes.new("execution"), contexts=[nodes.new("context", id=999, name="n")])

    def test_a_taken_name_already_exists_unless_it_is_to_be_reused_unchanged(
        self, client: Client, nodes: Nodes
    ) -> None:
        context = nodes.new("context", name="c0", custom={"x": 1})
        with pytest.raises(AlreadyExists):
            put_execution(client, nodes.new("execution"), contexts=[context])
        before = get_one(client, "context", nodes.contexts[0])

        response = put_execution(
            client, nodes.new("execution"), contexts=[context], reuse_context_if_already_exist=True
        )

        assert list(response.context_ids) == [before.id]
        assert get_one(client, "context", before.id) == before
        assert members(client, before.id) == ([], [response.execution_id])

    def test_a_new_one_twice_is_one_with_reuse_only(self, client: Client, nodes: Nodes) -> None:
        new = nodes.new("context", name="new")
        with pytest.raises(AlreadyExists):
            put_execution(client, nodes.new("execution"), contexts=[new, new])
        response = put_execution(
            client, nodes.new("execution"), contexts=[new, new], reuse_context_if_already_exist=True
        )
        assert list(response.context_ids) == [4, 4]

    def test_they_are_worked_off_in_their_order(self, client: Client, nodes: Nodes) -> None:
        renamed = nodes.new("context", id=nodes.contexts[0], name="x")
        response = put_execution(
            client,
            nodes.new("execution"),
            contexts=[nodes.new("context", name=name) for name in "ab"] + [renamed, nodes.new("context", name="c0")],
        )
        assert list(response.context_ids) == [4, 5, nodes.contexts[0], 6]
        with pytest.raises(AlreadyExists):
            put_execution(
                client,
                nodes.new("execution"),
                contexts=[nodes.new("context", name="y"), renamed, renamed, nodes.new("context", name="x")],
            )

    def test_a_type_that_is_not_there_is_not_found(self, client: Client, nodes: Nodes) -> None:
        with pytest.raises(NotFound):
            put_execution(client, nodes.new("execution"), contexts=[mlmd.Context(type_id=999, name="n")])

    def test_force_reuse_links_without_an_update(self, client: Client, nodes: Nodes) -> None:
        context = nodes.contexts[0]
        before = get_one(client, "context", context)
        sent = mlmd.Context(id=context, custom_properties={"x": value(1)})

        response = put_execution(
            client, nodes.new("execution"), contexts=[sent, nodes.new("context", name="new")], force_reuse_context=True
        )

        assert get_one(client, "context", context) == before
        assert members(client, context) == ([], [response.execution_id])
        assert get_one(client, "context", response.context_ids[1]).name == "new"
        with pytest.raises(NotFound):
            put_execution(
                client,
                nodes.new("execution"),
                contexts=[mlmd.Context(id=999)],
                force_reuse_context=True,
            )

    def test_linking_again_changes_nothing(self, client: Client, nodes: Nodes) -> None:
        sent = pair(None, Event.INPUT, artifact_id=nodes.artifacts[0]), pair(mlmd.Artifact(id=nodes.artifacts[0]))
        execution = put_execution(
            client, nodes.new("execution"), *sent, contexts=[nodes.new("context", name="new")]
        ).execution_id
        put_execution(
            client,
            mlmd.Execution(id=execution),
            sent[1],
            contexts=[nodes.new("context", name="new")],
            reuse_context_if_already_exist=True,
        )
        assert members(client, 4) == ([nodes.artifacts[0]], [execution])


class TestReuseByExternalId:
    REUSE = "reuse_artifact_if_already_exist_by_external_id"

    def test_the_artifact_that_is_there_is_replaced(self, client: Client, nodes: Nodes) -> None:
        (there,) = put(client, "artifact", nodes.new("artifact", name="n", external_id="e", uri="old", custom={"x": 1}))
        with pytest.raises(AlreadyExists):
            put_execution(client, nodes.new("execution"), pair(nodes.new("artifact", external_id="e"), Event.INPUT))

        response = put_execution(
            client,
            nodes.new("execution"),
            pair(nodes.new("artifact", external_id="e", uri="new"), Event.INPUT),
            pair(nodes.new("artifact", external_id="f"), Event.INPUT),
            **{self.REUSE: True},
        )

        assert response.artifact_ids[0] == there
        found = get_one(client, "artifact", there)
        assert (found.name, found.uri, dict(found.custom_properties)) == ("n", "new", {})
        assert get_one(client, "artifact", response.artifact_ids[1]).external_id == "f"

    def test_a_new_one_twice_is_one(self, client: Client, nodes: Nodes) -> None:
        response = put_execution(
            client,
            nodes.new("execution"),
            pair(nodes.new("artifact", external_id="e", uri="first"), Event.INPUT),
            pair(nodes.new("artifact"), Event.OUTPUT),
            pair(nodes.new("artifact", external_id="e", uri="last"), Event.OUTPUT),
            **{self.REUSE: True},
        )
        first, other, again = response.artifact_ids
        assert first == again != other
        assert get_one(client, "artifact", first).uri == "last"
        assert [found.type for found in events_of(client, "artifact", first)] == [Event.INPUT, Event.OUTPUT]

    def test_another_type_than_the_stored_one_is_refused(self, client: Client, nodes: Nodes) -> None:
        put(client, "artifact", nodes.new("artifact", external_id="e"))
        other = mlmd.Artifact(type_id=put_type(client, "artifact", "U"), external_id="e")
        with pytest.raises(InvalidArgument):
            put_execution(client, nodes.new("execution"), pair(other, Event.INPUT), **{self.REUSE: True})


def test_force_update_time_moves_the_time_of_an_execution_that_does_not_change(client: Client, nodes: Nodes) -> None:
    before = get_one(client, "execution", nodes.executions[0])
    while time.time_ns() // 1_000_000 <= before.last_update_time_since_epoch:
        time.sleep(0.001)
    put_execution(client, before)
    assert get_one(client, "execution", before.id) == before
    put_execution(client, before, force_update_time=True)
    assert get_one(client, "execution", before.id).last_update_time_since_epoch > before.last_update_time_since_epoch


def test_a_hundred_pairs_in_order(client: Client, nodes: Nodes) -> None:
    response = put_execution(
        client, nodes.new("execution"), *(pair(nodes.new("artifact", uri=str(n)), Event.OUTPUT) for n in range(100))
    )
    assert [found.uri for found in get(client, "artifact", response.artifact_ids)] == [str(n) for n in range(100)]
    assert list(response.artifact_ids) == list(range(4, 104))
