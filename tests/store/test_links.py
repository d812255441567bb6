"""Events, attributions, associations and parent contexts."""

from collections.abc import Sequence
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, InvalidArgument, NotFound
from mdstore.wire import mlmd
from tests.store.writing import Nodes, call, event, events_of

EventType = mlmd.Event


@pytest.fixture
def nodes(client: Client) -> Nodes:
    return Nodes(client)


def put_events(client: Client, *events: mlmd.Event) -> None:
    call(client, "PutEvents", events=events)


def put_members(
    client: Client,
    attributions: Sequence[tuple[int, int]] = (),
    associations: Sequence[tuple[int, int]] = (),
) -> None:
    """Pairs are (node, context)."""
    call(
        client,
        "PutAttributionsAndAssociations",
        attributions=[{"artifact_id": node, "context_id": context} for node, context in attributions],
        associations=[{"execution_id": node, "context_id": context} for node, context in associations],
    )


def put_parents(client: Client, *pairs: tuple[int, int]) -> None:
    """Pairs are (child, parent)."""
    links = [{"child_id": child, "parent_id": parent} for child, parent in pairs]
    call(client, "PutParentContexts", parent_contexts=links)


def ids(response: Any, field: str) -> list[int]:
    return [found.id for found in getattr(response, field)]


class TestEvents:
    def test_an_event_is_read_back_from_both_sides_with_its_path(self, client: Client, nodes: Nodes) -> None:
        sent = event(nodes.artifacts[0], nodes.executions[0], EventType.OUTPUT, "a", 0, -5, "", "ä", at_ms=77)
        put_events(client, sent)
        assert events_of(client, "artifact", nodes.artifacts[0]) == [sent]
        assert events_of(client, "execution", nodes.executions[0]) == [sent]

    @pytest.mark.parametrize("kind", [kind for kind in EventType.Type.values() if kind])
    def test_every_type_of_event_is_kept(self, client: Client, nodes: Nodes, kind: Any) -> None:
        put_events(client, event(nodes.artifacts[0], nodes.executions[0], kind))
        assert [found.type for found in events_of(client, "artifact", nodes.artifacts[0])] == [kind]

    def test_an_event_without_steps_has_no_path(self, client: Client, nodes: Nodes) -> None:
        sent = event(nodes.artifacts[0], nodes.executions[0])
        sent.path.SetInParent()
        put_events(client, sent)
        assert not events_of(client, "artifact", nodes.artifacts[0])[0].HasField("path")

    def test_a_step_with_neither_index_nor_key_is_left_out(self, client: Client, nodes: Nodes) -> None:
        sent = event(nodes.artifacts[0], nodes.executions[0], EventType.INPUT, "a")
        sent.path.steps.add()
        sent.path.steps.add(index=1)
        put_events(client, sent)
        assert [
            step.WhichOneof("value") for step in events_of(client, "artifact", nodes.artifacts[0])[0].path.steps
        ] == ["key", "index"]

    def test_the_time_is_the_given_one_or_now(self, client: Client, nodes: Nodes) -> None:
        a, e = nodes.artifacts, nodes.executions
        put_events(client, event(a[0], e[0], at_ms=0), event(a[0], e[1], at_ms=-1), event(a[0], e[2]))
        zero, negative, now = (found.milliseconds_since_epoch for found in events_of(client, "artifact", a[0]))
        assert (zero, negative) == (0, -1)
        assert now > 1_600_000_000_000

    @pytest.mark.parametrize(
        "wrong",
        [
            {"execution_id": 1, "type": 3},
            {"artifact_id": 1, "type": 3},
            {"artifact_id": 1, "execution_id": 1},
            {"artifact_id": 1, "execution_id": 1, "type": 0},
            {"artifact_id": 99, "execution_id": 1, "type": 3},
            {"artifact_id": 1, "execution_id": 99, "type": 3},
            {"artifact_id": -1, "execution_id": 1, "type": 3},
        ],
    )
    def test_ids_of_nodes_that_exist_and_a_type_are_needed(
        self, client: Client, nodes: Nodes, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidArgument):
            put_events(client, event(nodes.artifacts[1], nodes.executions[1]), mlmd.Event(**wrong))
        assert events_of(client, "artifact", *nodes.artifacts) == []

    def test_one_of_a_type_between_the_same_two(self, client: Client, nodes: Nodes) -> None:
        a, e = nodes.artifacts[0], nodes.executions[0]
        put_events(client, event(a, e), event(a, e, EventType.DECLARED_INPUT))
        with pytest.raises(AlreadyExists):
            put_events(client, event(a, e, EventType.OUTPUT), event(a, e))
        with pytest.raises(AlreadyExists):
            put_events(client, event(a, e, EventType.OUTPUT), event(a, e, EventType.OUTPUT))
        assert len(events_of(client, "artifact", a)) == 2

    def test_unknown_ids_have_no_events_and_repeats_count_once(self, client: Client, nodes: Nodes) -> None:
        put_events(client, event(nodes.artifacts[0], nodes.executions[0]))
        assert events_of(client, "artifact") == events_of(client, "execution", 999) == []
        assert len(events_of(client, "execution", nodes.executions[0], nodes.executions[0], 999)) == 1
        put_events(client)


class TestMembers:
    def test_members_are_read_from_both_sides(self, client: Client, nodes: Nodes) -> None:
        (a1, a2, _), (e1, _, _), (c1, c2, _) = nodes.artifacts, nodes.executions, nodes.contexts
        put_members(client, [(a1, c1), (a2, c1), (a1, c2)], [(e1, c2)])

        assert ids(call(client, "GetArtifactsByContext", context_id=c1), "artifacts") == [a1, a2]
        assert ids(call(client, "GetExecutionsByContext", context_id=c1), "executions") == []
        assert ids(call(client, "GetExecutionsByContext", context_id=c2), "executions") == [e1]
        assert ids(call(client, "GetContextsByArtifact", artifact_id=a1), "contexts") == [c1, c2]
        assert ids(call(client, "GetContextsByExecution", execution_id=e1), "contexts") == [c2]

    def test_a_link_that_is_there_changes_nothing_also_within_a_request(self, client: Client, nodes: Nodes) -> None:
        (a, *_), (e, *_), (c, *_) = nodes.artifacts, nodes.executions, nodes.contexts
        for _ in range(2):
            put_members(client, [(a, c), (a, c)], [(e, c), (e, c)])
        assert ids(call(client, "GetArtifactsByContext", context_id=c), "artifacts") == [a]
        assert ids(call(client, "GetExecutionsByContext", context_id=c), "executions") == [e]
        put_members(client)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"context_id": 1},
            {"artifact_id": 1},
            {"artifact_id": 99, "context_id": 1},
            {"artifact_id": 1, "context_id": 99},
        ],
    )
    def test_ids_of_nodes_that_exist_are_needed_and_it_is_all_or_nothing(
        self, client: Client, nodes: Nodes, wrong: dict[str, int]
    ) -> None:
        good = {"context_id": nodes.contexts[0]}
        with pytest.raises(InvalidArgument):
            call(
                client,
                "PutAttributionsAndAssociations",
                attributions=[{"artifact_id": nodes.artifacts[0], **good}, wrong],
                associations=[{"execution_id": nodes.executions[0], **good}],
            )
        wrong = {name.replace("artifact", "execution"): number for name, number in wrong.items()}
        with pytest.raises(InvalidArgument):
            call(
                client,
                "PutAttributionsAndAssociations",
                attributions=[{"artifact_id": nodes.artifacts[0], **good}],
                associations=[wrong],
            )
        assert ids(call(client, "GetArtifactsByContext", **good), "artifacts") == []

    @pytest.mark.parametrize("kind", ["Artifact", "Execution"])
    def test_a_node_in_no_context_is_not_found_whether_it_exists_or_not(
        self, client: Client, nodes: Nodes, kind: str
    ) -> None:
        for node_id in (nodes.artifacts[0], 999):
            with pytest.raises(NotFound):
                call(client, f"GetContextsBy{kind}", **{f"{kind.lower()}_id": node_id})

    def test_an_unknown_context_has_no_members(self, client: Client) -> None:
        assert ids(call(client, "GetArtifactsByContext", context_id=5), "artifacts") == []
        assert ids(call(client, "GetExecutionsByContext"), "executions") == []


class TestParents:
    def test_relatives_are_one_level(self, client: Client, nodes: Nodes) -> None:
        a, b, c = nodes.contexts
        put_parents(client, (a, b), (b, c))
        assert ids(call(client, "GetParentContextsByContext", context_id=a), "contexts") == [b]
        assert ids(call(client, "GetChildrenContextsByContext", context_id=c), "contexts") == [b]
        assert ids(call(client, "GetChildrenContextsByContext", context_id=a), "contexts") == []
        assert ids(call(client, "GetParentContextsByContext", context_id=999), "contexts") == []

    def test_relatives_of_many_are_there_for_those_who_have_some(self, client: Client, nodes: Nodes) -> None:
        a, b, c = nodes.contexts
        put_parents(client, (a, b), (a, c), (b, c))

        parents = call(client, "GetParentContextsByContexts", context_ids=[a, b, c, a, 999]).contexts
        children = call(client, "GetChildrenContextsByContexts", context_ids=[a, c]).contexts

        assert {child: ids(found, "parent_contexts") for child, found in parents.items()} == {a: [b, c], b: [c]}
        assert {parent: ids(found, "children_contexts") for parent, found in children.items()} == {c: [a, b]}
        assert parents[a].parent_contexts[0].name == "c1"
        assert not call(client, "GetParentContextsByContexts").contexts

    @pytest.mark.parametrize(
        "wrong",
        [
            {"child_id": 1},
            {"parent_id": 1},
            {"child_id": 1, "parent_id": 1},
            {"child_id": 1, "parent_id": 99},
            {"child_id": 99, "parent_id": 1},
        ],
    )
    def test_two_different_contexts_that_exist_are_needed(
        self, client: Client, nodes: Nodes, wrong: dict[str, int]
    ) -> None:
        a, b, _ = nodes.contexts
        with pytest.raises(InvalidArgument):
            call(client, "PutParentContexts", parent_contexts=[{"child_id": a, "parent_id": b}, wrong])
        assert ids(call(client, "GetParentContextsByContext", context_id=a), "contexts") == []

    def test_a_link_that_is_there_already_exists(self, client: Client, nodes: Nodes) -> None:
        a, b, c = nodes.contexts
        put_parents(client, (a, b))
        with pytest.raises(AlreadyExists):
            put_parents(client, (a, c), (a, b))
        with pytest.raises(AlreadyExists):
            put_parents(client, (b, c), (b, c))
        assert ids(call(client, "GetParentContextsByContext", context_id=b), "contexts") == []

    def test_cycles_of_any_length_are_refused_also_within_a_request(self, client: Client, nodes: Nodes) -> None:
        a, b, c = nodes.contexts
        put_parents(client, (a, b))
        for links in ([(b, a)], [(b, c), (c, a)], [(c, a), (b, c)]):
            with pytest.raises(InvalidArgument, match="cycle"):
                put_parents(client, *links)
        put_parents(client, (b, c), (a, c))
        assert ids(call(client, "GetChildrenContextsByContext", context_id=c), "contexts") == [a, b]
