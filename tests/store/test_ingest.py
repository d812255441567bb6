"""Ingest: what was seen is merged, whatever was there, in whatever order and however often."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdstore
from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.wire import ingestion, mlmd
from tests.contents import contents
from tests.store.writing import Nodes, call, events_of, get, get_all, get_one, node, properties, put, put_type

State = mlmd.Execution


def record(
    external_id: str = "", custom: dict[str, Any] | None = None, default: dict[str, Any] | None = None, **fields: Any
) -> ingestion.NodeRecord:
    """A record; by default its key is an external id and its type "T"."""
    fields = {"type": "T", "key": {"external_id": external_id}} | fields
    return ingestion.NodeRecord(
        **fields, custom_properties=properties(custom or {}), default_custom_properties=properties(default or {})
    )


def ingest(client: Client, **fields: Any) -> ingestion.IngestResponse:
    return client.ingest(ingestion.IngestRequest(**fields))


def everything() -> dict[str, Any]:
    """A request that holds one of each thing, all new."""
    run = {"type": "Run", "name": "r"}
    return {
        "contexts": [
            record(key=run, type="Run", custom={"x": 1}),
            record(key={"type": "Pipeline", "name": "p"}, type="Pipeline"),
        ],
        "artifacts": [record("a", uri="u", state=mlmd.Artifact.LIVE)],
        "executions": [record("e", state=State.RUNNING, name="step")],
        "events": [
            {
                "execution": {"external_id": "e"},
                "artifact": {"external_id": "a"},
                "type": 4,
                "time_ms": 7,
                "path": {"steps": [{"key": "k"}]},
            }
        ],
        "attributions": [{"context": run, "member": {"external_id": "a"}}],
        "associations": [{"context": run, "member": {"external_id": "e"}}],
        "parents": [{"context": {"type": "Pipeline", "name": "p"}, "member": run}],
        "documents": [{"collection": "c", "key": "k", "value": b"v"}],
    }


def test_one_request_creates_all_that_it_names(client: Client) -> None:
    response = ingest(client, **everything(), origin="writer", actor="me")

    (run, pipeline), (artifact,), (execution,) = response.context_ids, response.artifact_ids, response.execution_ids
    found = get_one(client, "artifact", artifact)
    assert (found.external_id, found.uri, found.state, found.type) == ("a", "u", mlmd.Artifact.LIVE, "T")
    found = get_one(client, "execution", execution)
    assert (found.external_id, found.name, found.last_known_state) == ("e", "step", State.RUNNING)
    assert get_one(client, "context", run).custom_properties == properties({"x": 1})
    (event,) = events_of(client, "execution", execution)
    assert (event.artifact_id, event.milliseconds_since_epoch, event.path.steps[0].key) == (artifact, 7, "k")
    assert [c.id for c in call(client, "GetContextsByArtifact", artifact_id=artifact).contexts] == [run]
    assert [c.id for c in call(client, "GetContextsByExecution", execution_id=execution).contexts] == [run]
    assert [c.id for c in call(client, "GetParentContextsByContext", context_id=run).contexts] == [pipeline]
    (*_, commit) = [commit for page in client.follow(once=True) for commit in page.commits]
    assert (commit.seq, commit.origin, commit.actor) == (response.seq, "writer", "me")


def test_the_same_request_again_changes_nothing(client: Client) -> None:
    first = ingest(client, **everything())
    before = [get_all(client, kind) for kind in ("artifact", "execution", "context")]
    again = ingest(client, **everything())
    assert again.seq == 0
    assert (again.context_ids, again.artifact_ids, again.execution_ids) == (
        first.context_ids,
        first.artifact_ids,
        first.execution_ids,
    )
    assert [get_all(client, kind) for kind in ("artifact", "execution", "context")] == before


def test_what_is_set_is_written_and_what_is_not_set_stays(client: Client) -> None:
    ingest(client, artifacts=[record("a", uri="u", state=2, custom={"kept": 1, "changed": 1})])
    ingest(client, artifacts=[record("a", custom={"changed": "2", "new": 3.5})])
    (found,) = get_all(client, "artifact").artifacts
    assert (found.uri, found.state) == ("u", 2)
    assert found.custom_properties == properties({"kept": 1, "changed": "2", "new": 3.5})


def test_defaults_are_written_where_nothing_is(client: Client) -> None:
    for number in (1, 2):
        ingest(client, executions=[record("e", default={"x": number, "y": number}, custom={"y": -number})])
    (found,) = get_all(client, "execution").executions
    assert found.custom_properties == properties({"x": 1, "y": -2})


def test_declared_properties_of_a_node_are_left_alone(client: Client) -> None:
    type_id = put_type(client, "artifact", "T", {"p": mlmd.INT})
    put(client, "artifact", node("artifact", type_id=type_id, external_id="a", declared={"p": 1}))
    ingest(client, artifacts=[record("a", custom={"p": 2})])
    (found,) = get_all(client, "artifact").artifacts
    assert (found.properties, found.custom_properties) == (properties({"p": 1}), properties({"p": 2}))


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([State.RUNNING, State.NEW], State.RUNNING),
        ([State.UNKNOWN, State.NEW, State.UNKNOWN], State.NEW),
        ([State.COMPLETE, State.RUNNING], State.COMPLETE),
        ([State.COMPLETE, State.FAILED], State.COMPLETE),
        ([State.FAILED, State.COMPLETE], State.FAILED),
        ([State.CANCELED, State.CACHED], State.CANCELED),
        ([State.RUNNING, None], State.RUNNING),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_an_executions_state_only_moves_forward(
    client: Client, states: list[int | None], expected: int, together: bool
) -> None:
    records = [record("e", **({} if state is None else {"state": state})) for state in states]
    for request in [records] if together else [[one] for one in records]:
        ingest(client, executions=request)
    assert get_all(client, "execution").executions[0].last_known_state == expected


def test_a_final_state_gives_way_to_one_that_overrides_it(client: Client) -> None:
    ingest(client, executions=[record("e", state=State.FAILED)])
    ingest(client, executions=[record("e", state=State.COMPLETE, overrides_final_state=True)])
    ingest(client, executions=[record("e", state=State.RUNNING, overrides_final_state=True)])
    assert get_all(client, "execution").executions[0].last_known_state == State.COMPLETE


def test_an_artifacts_state_is_what_was_said_last(client: Client) -> None:
    for state in (mlmd.Artifact.LIVE, mlmd.Artifact.PENDING):
        ingest(client, artifacts=[record("a", state=state)])
    assert get_all(client, "artifact").artifacts[0].state == mlmd.Artifact.PENDING


class TestKeys:
    def test_the_first_name_that_is_found_decides(self, client: Client) -> None:
        nodes = Nodes(client)
        by_id, by_external_id, by_name = put(
            client,
            "artifact",
            nodes.new("artifact"),
            nodes.new("artifact", external_id="e"),
            nodes.new("artifact", name="n"),
        )
        named = {"type": "T", "name": "n"}
        for key, expected in (
            ({"id": by_id, "external_id": "e", **named}, by_id),
            ({"id": 999, "external_id": "e", **named}, by_external_id),
            ({"external_id": "unknown", **named}, by_name),
            ({"id": by_id}, by_id),
        ):
            assert ingest(client, artifacts=[record(key=key)]).artifact_ids == [expected]

    def test_a_node_found_by_another_name_gets_the_external_id_unless_it_has_one_or_it_is_taken(
        self, client: Client
    ) -> None:
        nodes = Nodes(client)
        put(client, "artifact", nodes.new("artifact", name="n"), nodes.new("artifact", external_id="taken"))
        named = {"type": "T", "name": "n"}
        (found,) = ingest(client, artifacts=[record(key={"external_id": "e", **named})]).artifact_ids
        assert get_one(client, "artifact", found).external_id == "e"
        assert ingest(client, artifacts=[record("e")]).artifact_ids == [found]
        assert ingest(client, artifacts=[record(key={"external_id": "f", **named})]).artifact_ids == [found]
        assert get_one(client, "artifact", found).external_id == "e"
        ids = ingest(client, artifacts=[record(key={"id": nodes.artifacts[0], "external_id": "taken"})]).artifact_ids
        assert ids == [nodes.artifacts[0]]
        assert not get_one(client, "artifact", nodes.artifacts[0]).HasField("external_id")

    def test_within_a_request_too(self, client: Client) -> None:
        nodes = Nodes(client)
        a, b, _ = nodes.artifacts
        ids = ingest(
            client,
            artifacts=[
                record(key={"id": a, "external_id": "e"}),
                record("e", custom={"x": 1}),
                record(key={"id": b, "external_id": "e"}),
            ],
        ).artifact_ids
        assert list(ids) == [a, a, b]
        assert [found.external_id for found in get(client, "artifact", [a, b])] == ["e", ""]

    @pytest.mark.parametrize("kind", ["artifact", "execution", "context"])
    def test_an_id_counts_only_in_the_context_that_guards_it(self, client: Client, kind: str) -> None:
        nodes = Nodes(client)
        inside, outside = getattr(nodes, f"{kind}s")[:2]
        (guard,) = put(client, "context", nodes.new("context", name="guard"))
        if kind == "context":
            call(client, "PutParentContexts", parent_contexts=[{"child_id": inside, "parent_id": guard}])
        else:
            link = {"artifact": "attributions", "execution": "associations"}[kind]
            call(client, "PutAttributionsAndAssociations", **{link: [{f"{kind}_id": inside, "context_id": guard}]})

        def touch(node_id: int, **context: str) -> list[int]:
            response = ingest(client, **{f"{kind}s": [record(key={"id": node_id, **context}, custom={"x": 1})]})
            return list(getattr(response, f"{kind}_ids"))

        guarded = {"in_context_type": "T", "in_context_name": "guard"}
        assert touch(inside, **guarded) == [inside]
        for node_id, context in (
            (outside, guarded),
            (inside, guarded | {"in_context_name": "other"}),
            (inside, guarded | {"in_context_type": "other"}),
            (inside, {"in_context_name": "guard"}),
            (999, {}),
        ):
            with pytest.raises(InvalidArgument, match="key"):
                touch(node_id, **context)
        assert not get_one(client, kind, outside).custom_properties

    def test_a_new_node_is_one_however_it_is_named_in_a_request(self, client: Client) -> None:
        named = {"type": "T", "name": "n"}
        response = ingest(
            client,
            executions=[
                record(key={"external_id": "e", **named}, custom={"a": 1}),
                record("e", custom={"b": 2}),
                record(key=named, custom={"c": 3}),
                record(key={"external_id": "other", **named}, state=State.COMPLETE),
            ],
            artifacts=[record("a")],
            events=[
                {"execution": key, "artifact": {"external_id": "a"}, "type": t}
                for key, t in ((named, 3), ({"external_id": "e"}, 4))
            ],
        )
        (only,) = set(response.execution_ids)
        found = get_one(client, "execution", only)
        assert found.custom_properties == properties({"a": 1, "b": 2, "c": 3})
        assert (found.external_id, found.last_known_state) == ("e", State.COMPLETE)
        assert len(events_of(client, "execution", only)) == 2

    def test_a_type_that_is_missing_is_created_and_that_of_a_node_stays(self, client: Client) -> None:
        ingest(client, artifacts=[record("a", type="first")])
        ingest(client, artifacts=[record("a", type="second")])
        assert [found.type for found in get_all(client, "artifact").artifacts] == ["first"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"artifacts": [record("a", type="")]},
        {"artifacts": [record("")]},
        {"artifacts": [record(key={"id": 999})]},
        {"artifacts": [record(key={"name": "n"})]},
        {"artifacts": [record(key={"type": "U", "name": "n"})]},
        {"artifacts": [record(key={"type": "T", "name": "n"}, name="m")]},
        {"artifacts": [record("a", state=99)]},
        {"artifacts": [record("a", custom={"x": mlmd.Value()})]},
        {"artifacts": [record("a", custom={"x": "\0"})]},
        {"artifacts": [record("a\0")]},
        {"executions": [record("e", state=99)]},
        {"executions": [record("e", state=-1)]},
        {"executions": [record("e", uri="u")]},
        {"contexts": [record("c")]},
        {"contexts": [record(key={"type": "T", "name": "c"}, state=1)]},
        {"contexts": [record(key={"type": "T", "name": "c"}, uri="u")]},
        {"events": [{"execution": {"external_id": "there"}, "artifact": {"external_id": "no"}, "type": 3}]},
        {"events": [{"execution": {"external_id": "there"}, "artifact": {"external_id": "there"}, "type": 0}]},
        {"events": [{"execution": {"external_id": "there"}, "artifact": {"external_id": "there"}, "type": 99}]},
        {"attributions": [{"context": {"type": "T", "name": "no"}, "member": {"external_id": "there"}}]},
        {"associations": [{"context": {"type": "T", "name": "there"}, "member": {}}]},
        {"parents": [{"context": {"type": "T", "name": "there"}, "member": {"type": "T", "name": "there"}}]},
        {"documents": [{"collection": "c"}]},
        {"documents": [{"key": "k"}]},
        {"documents": [{"collection": "c", "key": "k" * 501}]},
    ],
)
def test_a_wrong_request_writes_nothing(client: Client, wrong: dict[str, Any]) -> None:
    there = {
        "artifacts": [record("there")],
        "executions": [record("there")],
        "contexts": [record(key={"type": "T", "name": "there"})],
    }
    ingest(client, **there)
    before = contents(client)
    with pytest.raises(InvalidArgument):
        ingest(client, **{"artifacts": [record("new")]} | wrong)
    assert contents(client) == before


def test_an_event_that_is_there_changes_nothing(client: Client) -> None:
    ingest(client, **everything())
    other = {**everything()["events"][0], "time_ms": 8, "path": {}}
    ingest(client, events=[other, {**other, "type": 3}, {**other, "type": 3, "time_ms": 9}])
    events = events_of(client, "execution", 1)
    assert [(event.type, event.milliseconds_since_epoch) for event in events] == [(4, 7), (3, 8)]


class TestDocuments:
    def list(self, client: Client, **fields: Any) -> list[tuple[str, bytes]]:
        response = client.list_documents(ingestion.ListDocumentsRequest(**{"collection": "c"} | fields))
        return [(document.key, document.value) for document in response.documents]

    def write(self, client: Client, *documents: dict[str, Any]) -> ingestion.IngestResponse:
        return ingest(client, documents=[{"collection": "c"} | document for document in documents])

    def test_they_are_listed_by_key_in_pages(self, client: Client) -> None:
        self.write(
            client, *({"key": key, "value": key.encode()} for key in ("b", "a/2", "a/1", "a", "ä", "a/\U0010ffff"))
        )
        self.write(client, {"collection": "other", "key": "x"})
        keys = ["a", "a/1", "a/2", "a/\U0010ffff", "b", "ä"]
        assert [key for key, _ in self.list(client)] == keys
        assert [key for key, _ in self.list(client, limit=2)] == keys[:2]
        assert [key for key, _ in self.list(client, after_key="a/1", limit=2)] == keys[2:4]
        assert [key for key, _ in self.list(client, key_prefix="a/")] == keys[1:4]
        assert self.list(client, collection="none") == []

    def test_the_last_one_of_a_key_counts(self, client: Client) -> None:
        self.write(client, {"key": "k", "value": b"1"}, {"key": "k", "value": b"2"})
        assert self.list(client) == [("k", b"2")]
        self.write(client, {"key": "k", "value": b"3"}, {"key": "k", "deleted": True}, {"key": "none", "deleted": True})
        assert self.list(client) == []
        self.write(client, {"key": "k", "deleted": True}, {"key": "k", "value": b"\0\xff"})
        assert self.list(client) == [("k", b"\0\xff")]

    def test_they_are_not_part_of_the_log(self, client: Client) -> None:
        assert self.write(client, {"key": "k"}).seq == 0


RECORDS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, State.NEW, State.RUNNING, State.COMPLETE]),
        st.sets(st.sampled_from(["x", "y", "z"]), max_size=2),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=15, deadline=None)
@given(RECORDS, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_change_what_is_recorded(
    records: list[tuple[str, int | None, set[str]]], chance: random.Random
) -> None:
    # What the rules promise for any order: states, properties that everybody says alike, links.
    requests = []
    for external_id, state, names in records:
        custom = {name: f"{external_id}-{name}" for name in names}
        run = {"type": "Run", "name": min(names, default="r")}
        requests.append(
            {
                "contexts": [record(key=run, type="Run")],
                "artifacts": [record(external_id, uri=f"u/{external_id}")],
                "executions": [record(external_id, custom=custom, **({} if state is None else {"state": state}))],
                "events": [
                    {
                        "execution": {"external_id": external_id},
                        "artifact": {"external_id": external_id},
                        "type": 4,
                        "time_ms": 5,
                    }
                ],
                "associations": [{"context": run, "member": {"external_id": external_id}}],
            }
        )
    with mdstore.connect("sqlite://") as first, mdstore.connect("sqlite://") as second:
        for request in requests:
            ingest(first, **request)
        shuffled = requests + chance.choices(requests, k=len(requests))
        chance.shuffle(shuffled)
        for request in shuffled:
            ingest(second, **request)
        assert contents(first) == contents(second)
