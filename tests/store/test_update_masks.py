"""Update masks of PutArtifacts, PutExecutions and PutContexts."""

from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.wire import mlmd
from tests.store.writing import KINDS, STATE, get_one, node, properties, put, put_type, value

STORED = {"a": 1, "b": 2}
SENT = {"a": 10, "c": 30}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def there(client: Client, kind: str) -> int:
    """A node with every field set."""
    type_id = put_type(client, kind, "T", dict.fromkeys("abcd", mlmd.INT))
    fields = {"uri": "u"} if kind == "artifact" else {}
    if kind != "context":
        fields[STATE[kind]] = 2
    stored = node(kind, type_id=type_id, name="n", external_id="e", declared=STORED, custom=STORED, **fields)
    return put(client, kind, stored)[0]


def update(client: Client, kind: str, node_id: int, *mask: str, **fields: Any) -> Any:
    """The node after an update with this mask and these fields."""
    put(client, kind, node(kind, id=node_id, **fields), mask=mask)
    return get_one(client, kind, node_id)


@pytest.mark.parametrize("field", ["declared", "custom"])
@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([".a"], {"a": 10, "b": 2}),
        ([".b"], {"a": 1}),
        ([".c", ".a"], {"a": 10, "b": 2, "c": 30}),
        ([".d"], {"a": 1, "b": 2}),
        ([""], {"a": 10, "c": 30}),
        (["", ".b"], {"a": 10, "c": 30}),
        (["."], {"a": 1, "b": 2}),
        (["foo"], {"a": 1, "b": 2}),
    ],
)
def test_properties_are_written_by_key(
    client: Client, kind: str, there: int, field: str, mask: list[str], expected: dict[str, int]
) -> None:
    name = {"declared": "properties", "custom": "custom_properties"}[field]
    other = {"declared": "custom_properties", "custom": "properties"}[field]

    found = update(client, kind, there, *(name + path for path in mask), **{field: SENT, "name": "n"})

    assert getattr(found, name) == properties(expected)
    assert getattr(found, other) == properties(STORED)
    assert found.external_id == "e"


def test_a_key_may_contain_dots(client: Client, kind: str, there: int) -> None:
    found = update(client, kind, there, "custom_properties.x.y", custom={"x.y": 1, "x": 2}, name="n")
    assert found.custom_properties == properties(STORED | {"x.y": 1})


def test_only_masked_declared_properties_are_checked(client: Client, kind: str, there: int) -> None:
    wrong = {"a": "no int", "undeclared": 1, "c": 3}
    found = update(client, kind, there, "properties.c", declared=wrong, name="n")
    assert found.properties == properties(STORED | {"c": 3})
    for path in ("properties.a", "properties.undeclared", "properties"):
        with pytest.raises(InvalidArgument):
            update(client, kind, there, path, declared=wrong, name="n")


def test_scalars_are_copied_or_cleared(client: Client, kind: str, there: int) -> None:
    assert not update(client, kind, there, "external_id", name="n").HasField("external_id")
    assert update(client, kind, there, "external_id", name="n", external_id="new").external_id == "new"
    if kind == "artifact":
        assert update(client, kind, there, "uri", uri="v").uri == "v"
        assert update(client, kind, there, "uri").uri == ""
    if kind != "context":
        state = STATE[kind]
        assert getattr(update(client, kind, there, state, **{state: 4}), state) == 4
        assert not update(client, kind, there, state).HasField(state)


def test_a_property_whose_name_is_empty_has_a_path_too(client: Client, kind: str, there: int) -> None:
    found = update(client, kind, there, "custom_properties.", custom={"": 5}, name="n")
    assert found.custom_properties[""] == value(5)
    assert "" not in update(client, kind, there, "custom_properties.", name="n").custom_properties


def test_paths_that_cannot_be_updated_are_ignored(client: Client, kind: str, there: int) -> None:
    before = get_one(client, kind, there)
    other = node(kind, id=there, type_id=before.type_id, name="other", type="x", create_time_since_epoch=1)
    paths = ["id", "type", "type_id", "create_time_since_epoch", "last_update_time_since_epoch", "nothing", "uri.foo"]
    put(client, kind, other, mask=paths if kind == "context" else [*paths, "name"])
    assert get_one(client, kind, there) == before


def test_a_contexts_name_is_updated_only_by_the_mask_and_never_emptied(client: Client) -> None:
    type_id = put_type(client, "context")
    (there,) = put(client, "context", node("context", type_id=type_id, name="n"))
    assert update(client, "context", there, "external_id").name == "n"
    assert update(client, "context", there, "name", name="m").name == "m"
    for fields in ({}, {"name": ""}):
        with pytest.raises(InvalidArgument):
            update(client, "context", there, "name", **fields)


def test_an_empty_mask_replaces_the_node(client: Client, kind: str, there: int) -> None:
    found = update(client, kind, there, name="n")
    assert (dict(found.properties), dict(found.custom_properties)) == ({}, {})


def test_new_nodes_of_the_request_ignore_the_mask(client: Client, kind: str, there: int) -> None:
    type_id = get_one(client, kind, there).type_id
    new = node(kind, type_id=type_id, name="new", declared=SENT, custom=SENT, external_id="f")
    _, made = put(client, kind, node(kind, id=there, name="n"), new, mask=["nothing"])
    found = get_one(client, kind, made)
    assert (found.properties, found.custom_properties, found.external_id) == (properties(SENT), properties(SENT), "f")


def test_type_and_id_are_checked_with_a_mask_as_well(client: Client, kind: str, there: int) -> None:
    for fields in ({"id": 999}, {"id": there, "type_id": 999}):
        with pytest.raises(InvalidArgument):
            put(client, kind, node(kind, name="n", **fields), mask=["external_id"])


def test_a_mask_that_changes_nothing_leaves_the_update_time(client: Client, kind: str, there: int) -> None:
    before = get_one(client, kind, there)
    after = update(client, kind, there, "properties.a", declared={"a": 1, "b": 77}, custom={"z": 1}, name="n")
    assert after == before
