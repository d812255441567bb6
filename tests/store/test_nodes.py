"""Artifacts, executions and contexts: creating and replacing them."""

import time
from typing import Any, ClassVar

import pytest

from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from mdstore.wire import mlmd, service
from tests.store.writing import KINDS, STATE, Nodes, call, get, get_all, get_one, node, put, put_type, value

DECLARED = {"i": mlmd.INT, "d": mlmd.DOUBLE, "s": mlmd.STRING, "t": mlmd.STRUCT, "p": mlmd.PROTO, "b": mlmd.BOOLEAN}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def type_id(client: Client, kind: str) -> int:
    return put_type(client, kind, "T", DECLARED)


def proto_value() -> mlmd.Value:
    found = mlmd.Value()
    found.proto_value.type_url = "type.example/any"
    found.proto_value.value = b"\0\xff\n"
    return found


VALUES: dict[str, Any] = {
    "i": -(2**31),
    "d": 1e-7,
    "s": "ä ' \" \\ % 漢 🦆",
    "t": {"a": [1, None, {"": "x"}]},
    "p": proto_value(),
    "b": False,
}


def make(kind: str, type_id: int, name: str = "n", **fields: Any) -> Any:
    """A node with a name, which contexts must have."""
    return node(kind, type_id=type_id, name=name, **fields)


def test_a_node_is_read_back_with_all_its_fields(client: Client, kind: str, type_id: int) -> None:
    wanted = make(kind, type_id, custom=VALUES | {"i": 2**31 - 1, "other": 1.5}, declared=VALUES, external_id="e")
    if kind != "context":
        setattr(wanted, STATE[kind], 3)
    if kind == "artifact":
        wanted.uri = "s3://a/b"
    before = time.time_ns() // 1_000_000

    (wanted.id,) = put(client, kind, wanted)

    found = get_one(client, kind, wanted.id)
    assert found.create_time_since_epoch == found.last_update_time_since_epoch
    assert before <= found.create_time_since_epoch <= time.time_ns() // 1_000_000
    wanted.type = "T"
    wanted.create_time_since_epoch = wanted.last_update_time_since_epoch = found.create_time_since_epoch
    assert found == wanted


def test_what_is_not_set_is_not_there_on_reading_but_a_uri_is_empty(client: Client) -> None:
    nodes = Nodes(client)

    artifact = get_one(client, "artifact", nodes.artifacts[0])
    assert artifact.HasField("uri")
    assert artifact.uri == ""
    assert [artifact.HasField(name) for name in ("name", "state", "external_id")] == [False] * 3
    execution = get_one(client, "execution", nodes.executions[0])
    assert [execution.HasField(name) for name in ("name", "last_known_state", "external_id")] == [False] * 3


def test_an_explicit_unknown_state_is_stored(client: Client) -> None:
    for kind in ("artifact", "execution"):
        (node_id,) = put(client, kind, node(kind, type_id=put_type(client, kind), **{STATE[kind]: 0}))
        assert get_one(client, kind, node_id).HasField(STATE[kind])


@pytest.mark.parametrize(("name", "states"), [("artifact", mlmd.Artifact.State), ("execution", mlmd.Execution.State)])
def test_every_state_is_read_back(client: Client, name: str, states: Any) -> None:
    type_id = put_type(client, name)
    ids = put(client, name, *(node(name, type_id=type_id, **{STATE[name]: state}) for state in states.values()))
    assert [getattr(found, STATE[name]) for found in get(client, name, ids)] == list(states.values())


def test_output_only_fields_of_a_request_are_ignored(client: Client, kind: str, type_id: int) -> None:
    sent = make(kind, type_id, type="other", create_time_since_epoch=5, last_update_time_since_epoch=6)
    sent.system_metadata.type_url = "x/y"

    found = get_one(client, kind, put(client, kind, sent)[0])

    assert found.type == "T"
    assert found.create_time_since_epoch > 6
    assert not found.HasField("system_metadata")


def test_a_type_id_is_needed_and_a_type_name_never_stands_for_it(client: Client, kind: str, type_id: int) -> None:
    with pytest.raises(InvalidArgument, match="Type id is missing"):
        put(client, kind, node(kind, type="T", name="n"))


def test_a_type_that_is_unknown_or_of_another_kind_is_not_found(client: Client, kind: str, type_id: int) -> None:
    other = put_type(client, "context" if kind == "artifact" else "artifact", "O")
    for wrong in (0, -1, 999, other):
        with pytest.raises(NotFound):
            put(client, kind, make(kind, wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"undeclared": 1},
        {"i": 1.0},
        {"d": 1},
        {"i": "1"},
        {"s": 1},
        {"b": 1},
        {"i": True},
        {"t": "{}"},
        {"i": mlmd.Value()},
    ],
)
def test_declared_properties_must_fit_exactly(client: Client, kind: str, type_id: int, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        put(client, kind, make(kind, type_id, declared=wrong))
    assert getattr(get_all(client, kind), f"{kind}s") == []


def test_a_custom_property_without_a_value_is_an_invalid_argument(client: Client, kind: str, type_id: int) -> None:
    (there,) = put(client, kind, make(kind, type_id, "there"))
    for fields in ({"type_id": type_id}, {"id": there}):
        with pytest.raises(InvalidArgument, match="no value"):
            put(client, kind, node(kind, name="n", custom={"x": mlmd.Value()}, **fields))


def test_a_name_is_taken_within_its_type(client: Client, kind: str, type_id: int) -> None:
    put(client, kind, make(kind, type_id))
    put(client, kind, make(kind, put_type(client, kind, "U")))
    with pytest.raises(AlreadyExists):
        put(client, kind, make(kind, type_id))
    with pytest.raises(AlreadyExists):
        put(client, kind, make(kind, type_id, "m"), make(kind, type_id, "m"))


def test_an_empty_name_counts_as_a_name_and_no_name_does_not(client: Client) -> None:
    for kind in ("artifact", "execution"):
        type_id = put_type(client, kind)
        put(client, kind, node(kind, type_id=type_id), node(kind, type_id=type_id), make(kind, type_id, ""))
        with pytest.raises(AlreadyExists):
            put(client, kind, make(kind, type_id, ""))


@pytest.mark.parametrize("external_id", ["e", ""])
def test_an_external_id_is_taken_within_its_kind(client: Client, kind: str, type_id: int, external_id: str) -> None:
    put(client, kind, make(kind, type_id, external_id=external_id))
    with pytest.raises(AlreadyExists):
        put(client, kind, make(kind, put_type(client, kind, "U"), "m", external_id=external_id))
    other = "context" if kind != "context" else "artifact"
    put(client, other, make(other, put_type(client, other), external_id=external_id))


@pytest.mark.parametrize("name", [None, ""])
def test_a_context_needs_a_name(client: Client, name: str | None) -> None:
    type_id = put_type(client, "context")
    (there,) = put(client, "context", make("context", type_id))
    fields = {} if name is None else {"name": name}
    for sent in (node("context", type_id=type_id, **fields), node("context", id=there, **fields)):
        with pytest.raises(InvalidArgument, match="name"):
            put(client, "context", sent)


def test_a_request_is_all_or_nothing(client: Client, kind: str, type_id: int) -> None:
    with pytest.raises(InvalidArgument):
        put(client, kind, make(kind, type_id), node(kind, type_id=type_id, id=999, name="m"))
    assert getattr(get_all(client, kind), f"{kind}s") == []


def test_ids_come_back_in_the_order_of_creates_and_updates(client: Client, kind: str, type_id: int) -> None:
    a, b = put(client, kind, make(kind, type_id, "a"), make(kind, type_id, "b"))

    ids = put(
        client,
        kind,
        make(kind, type_id, "c"),
        make(kind, type_id, "b", id=b),
        make(kind, type_id, "d"),
        make(kind, type_id, "a", id=a),
    )

    assert ids == [b + 1, b, b + 2, a]
    assert put(client, kind) == []


def test_an_update_replaces_everything(client: Client, kind: str, type_id: int) -> None:
    full = make(kind, type_id, declared={"i": 1, "s": "x"}, custom={"c": 1, "k": "kept"}, external_id="e")
    if kind != "context":
        setattr(full, STATE[kind], 2)
    if kind == "artifact":
        full.uri = "u"
    (node_id,) = put(client, kind, full)

    put(
        client,
        kind,
        node(kind, id=node_id, name="n", declared={"s": "y", "b": True}, custom={"c": "now a text", "k": "kept"}),
    )

    found = get_one(client, kind, node_id)
    assert found.properties == {"s": value("y"), "b": value(True)}
    assert found.custom_properties == {"c": value("now a text"), "k": value("kept")}
    assert not found.HasField("external_id")
    if kind == "artifact":
        assert found.uri == ""
    if kind != "context":
        assert not found.HasField(STATE[kind])


@pytest.mark.parametrize("wrong", [0, -1, 999])
def test_an_update_of_an_unknown_id_is_an_invalid_argument(client: Client, kind: str, type_id: int, wrong: int) -> None:
    with pytest.raises(InvalidArgument, match="Cannot find the given id"):
        put(client, kind, make(kind, type_id, id=wrong))


def test_a_type_cannot_be_changed(client: Client, kind: str, type_id: int) -> None:
    (node_id,) = put(client, kind, make(kind, type_id))
    for wrong in (put_type(client, kind, "U"), 0):
        with pytest.raises(InvalidArgument):
            put(client, kind, make(kind, wrong, id=node_id))


def test_names_of_artifacts_and_executions_are_kept(client: Client) -> None:
    for kind in ("artifact", "execution"):
        type_id = put_type(client, kind)
        named, nameless = put(client, kind, make(kind, type_id), node(kind, type_id=type_id))
        put(client, kind, node(kind, id=named), make(kind, type_id, "x", id=nameless))
        put(client, kind, make(kind, type_id, "other", id=named))
        assert [found.HasField("name") and found.name for found in get(client, kind, [named, nameless])] == ["n", False]


def test_a_context_is_renamed_but_not_onto_a_taken_name(client: Client) -> None:
    type_id = put_type(client, "context")
    a, _ = put(client, "context", make("context", type_id, "a"), make("context", type_id, "b"))
    put(client, "context", make("context", type_id, "c", id=a))
    assert get_one(client, "context", a).name == "c"
    with pytest.raises(AlreadyExists):
        put(client, "context", make("context", type_id, "b", id=a))


def test_an_update_onto_a_taken_external_id_already_exists(client: Client, kind: str, type_id: int) -> None:
    put(client, kind, make(kind, type_id, "a", external_id="e"))
    (b,) = put(client, kind, make(kind, type_id, "b"))
    with pytest.raises(AlreadyExists):
        put(client, kind, make(kind, type_id, "b", id=b, external_id="e"))
    assert not get_one(client, kind, b).HasField("external_id")


def test_a_request_is_worked_off_in_its_order(client: Client, kind: str, type_id: int) -> None:
    a, b = put(client, kind, make(kind, type_id, "a", external_id="1"), make(kind, type_id, "b", external_id="2"))
    swap = [make(kind, type_id, "a", id=a, external_id="2"), make(kind, type_id, "b", id=b, external_id="1")]
    with pytest.raises(AlreadyExists):
        put(client, kind, *swap)
    put(client, kind, make(kind, type_id, "a", id=a, external_id="3"), *reversed(swap))
    assert [found.external_id for found in get(client, kind, [a, b])] == ["2", "1"]


def test_one_node_twice_in_a_request_ends_as_the_last(client: Client, kind: str, type_id: int) -> None:
    (a,) = put(client, kind, make(kind, type_id, custom={"x": 1}))
    assert put(client, kind, *(make(kind, type_id, id=a, custom={name: 2}) for name in "xyz")) == [a, a, a]
    assert dict(get_one(client, kind, a).custom_properties) == {"z": value(2)}


def test_a_declared_and_a_custom_property_of_one_name_do_not_touch_each_other(
    client: Client, kind: str, type_id: int
) -> None:
    (a,) = put(client, kind, make(kind, type_id, declared={"i": 1}, custom={"i": "c"}))
    put(client, kind, make(kind, type_id, id=a, declared={"i": 2}, custom={"i": "c"}))
    assert (get_one(client, kind, a).properties["i"], get_one(client, kind, a).custom_properties["i"]) == (
        value(2),
        value("c"),
    )
    put(client, kind, make(kind, type_id, id=a, custom={"i": "c"}))
    assert (dict(get_one(client, kind, a).properties), dict(get_one(client, kind, a).custom_properties)) == (
        {},
        {"i": value("c")},
    )


def later(client: Client, kind: str, node_id: int) -> Any:
    """The node as it is now; the clock has moved on when this returns."""
    found = get_one(client, kind, node_id)
    while time.time_ns() // 1_000_000 <= found.last_update_time_since_epoch:
        time.sleep(0.001)
    return found


def test_the_update_time_moves_when_something_changes_and_the_create_time_never(
    client: Client, kind: str, type_id: int
) -> None:
    (a,) = put(client, kind, make(kind, type_id, custom={"x": 1}))
    before = later(client, kind, a)

    put(client, kind, before)
    assert get_one(client, kind, a) == before

    without_type = make(kind, type_id, id=a, custom={"x": 1})
    put(client, kind, without_type)
    assert get_one(client, kind, a) == before

    put(client, kind, make(kind, type_id, id=a, custom={"x": 2}))
    after = get_one(client, kind, a)
    assert after.last_update_time_since_epoch > before.last_update_time_since_epoch
    assert after.create_time_since_epoch == before.create_time_since_epoch


class TestGuardedUpdates:
    """`abort_if_latest_updated_time_changed` of PutArtifacts."""

    GUARD: ClassVar = {"options": {"abort_if_latest_updated_time_changed": True}}

    def test_one_who_read_before_another_wrote_is_refused_and_nothing_is_written(self, client: Client) -> None:
        nodes = Nodes(client)
        a, b = (get_one(client, "artifact", node_id) for node_id in nodes.artifacts[:2])
        a.uri = "first"
        put(client, "artifact", a, **self.GUARD)
        a.uri, b.uri = "second", "second"
        with pytest.raises(FailedPrecondition):
            put(client, "artifact", b, a, nodes.new("artifact"), **self.GUARD)
        assert [found.uri for found in get(client, "artifact", [a.id, b.id])] == ["first", ""]
        assert len(get_all(client, "artifact").artifacts) == 3

    def test_an_update_without_a_time_counts_as_time_0(self, client: Client) -> None:
        nodes = Nodes(client)
        with pytest.raises(FailedPrecondition):
            put(client, "artifact", nodes.new("artifact", id=nodes.artifacts[0]), **self.GUARD)

    def test_new_artifacts_and_unknown_ids_are_as_without(self, client: Client) -> None:
        nodes = Nodes(client)
        assert len(put(client, "artifact", nodes.new("artifact"), **self.GUARD)) == 1
        with pytest.raises(InvalidArgument):
            put(client, "artifact", nodes.new("artifact", id=999), **self.GUARD)

    def test_it_works_with_a_mask(self, client: Client) -> None:
        nodes = Nodes(client)
        artifact = get_one(client, "artifact", nodes.artifacts[0])
        artifact.uri, artifact.state = "u", mlmd.Artifact.LIVE
        put(client, "artifact", artifact, mask=["uri"], **self.GUARD)
        found = get_one(client, "artifact", artifact.id)
        assert (found.uri, found.HasField("state")) == ("u", False)
        with pytest.raises(FailedPrecondition):
            put(client, "artifact", artifact, mask=["uri"], **self.GUARD)

    def test_update_times_grow_strictly_however_fast_they_come(self, client: Client) -> None:
        nodes = Nodes(client)
        artifact = get_one(client, "artifact", nodes.artifacts[0])
        for number in range(20):
            before = artifact.last_update_time_since_epoch
            artifact.uri = str(number)
            put(client, "artifact", artifact, **self.GUARD)
            artifact = get_one(client, "artifact", artifact.id)
            assert artifact.last_update_time_since_epoch > before


def test_put_execution_options_of_other_kinds_are_not_there(client: Client) -> None:
    # The library has the guard for artifacts only: the field does not exist elsewhere.
    assert "options" not in service.PutExecutionsRequest.DESCRIPTOR.fields_by_name
    assert call(client, "PutContexts").context_ids == []
