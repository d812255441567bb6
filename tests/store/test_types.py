"""Types: creating, extending within the flags, and reading them."""

import pytest

from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from mdstore.wire import mlmd, service
from tests.store.writing import KINDS, call, get_type, put_type, type_of

STRING, INT, DOUBLE = mlmd.STRING, mlmd.INT, mlmd.DOUBLE
LETTERS = {"artifact": "Artifact", "execution": "Execution", "context": "Context"}


def ids(client: Client, kind: str) -> list[int]:
    return [found.id for found in getattr(call(client, f"Get{LETTERS[kind]}Types"), f"{kind}_types")]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_first_type_of_a_fresh_store_has_the_id_10_after_the_nine_of_the_system(client: Client) -> None:
    assert put_type(client, "context") == 10
    assert [get_type(client, "artifact", name).id for name in ("mlmd.Dataset", "mlmd.Statistics")] == [1, 4]
    assert [get_type(client, "execution", name).id for name in ("mlmd.Train", "mlmd.Deploy")] == [5, 9]


def test_system_types_are_not_listed_and_say_no_base_type(client: Client) -> None:
    assert ids(client, "artifact") == ids(client, "execution") == ids(client, "context") == []
    assert not get_type(client, "artifact", "mlmd.Model").HasField("base_type")


def test_an_artifact_or_execution_type_with_a_system_name_is_hidden_from_the_list(client: Client) -> None:
    hidden = put_type(client, "execution", "mlmd.Dataset")
    shown = put_type(client, "execution", "Dataset")

    assert ids(client, "execution") == [shown]
    assert get_type(client, "execution", "mlmd.Dataset").id == hidden
    shown = put_type(client, "context", "mlmd.Dataset")
    assert ids(client, "context") == [shown]


def test_a_system_type_can_be_extended(client: Client) -> None:
    assert put_type(client, "artifact", "mlmd.Model", {"accuracy": DOUBLE}, can_add_fields=True) == 2
    assert dict(get_type(client, "artifact", "mlmd.Model").properties) == {"accuracy": DOUBLE}


def test_a_type_is_read_back_with_all_its_fields(client: Client, kind: str) -> None:
    wanted = type_of(
        kind, "T", {"a": INT, "b": mlmd.STRUCT, "c": mlmd.BOOLEAN, "d": mlmd.PROTO, "e": DOUBLE, "f": STRING}
    )
    wanted.version, wanted.description, wanted.external_id = "v1", "what it is", "ext"
    if kind != "context":
        wanted.base_type = 2
    if kind == "execution":
        wanted.input_type.dict.properties["in"].simple.name = "Data"
        wanted.input_type.dict.none_type_not_required = True
        wanted.output_type.any.SetInParent()

    wanted.id = call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": wanted}).type_id

    assert get_type(client, kind, type_version="v1") == wanted
    (listed,) = getattr(call(client, f"Get{LETTERS[kind]}Types"), f"{kind}_types")
    assert listed == wanted
    (by_id,) = getattr(call(client, f"Get{LETTERS[kind]}TypesByID", type_ids=[wanted.id]), f"{kind}_types")
    assert by_id == wanted


def test_one_name_is_three_types_in_three_kinds_with_ids_of_one_sequence(client: Client) -> None:
    assert [put_type(client, kind) for kind in KINDS] == [10, 11, 12]


def test_the_same_type_again_is_the_same_type_whatever_id_is_sent(client: Client, kind: str) -> None:
    first = put_type(client, kind, "T", {"p": INT})

    again = type_of(kind, "T", {"p": INT}, id=77)

    assert call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": again}).type_id == first
    assert ids(client, kind) == [first]


def test_versions_are_types_of_their_own_and_empty_is_none(client: Client, kind: str) -> None:
    plain = put_type(client, kind)
    versioned = call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, "T", version="1")}).type_id
    empty = call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, "T", version="")}).type_id

    assert plain == empty != versioned
    assert get_type(client, kind).id == get_type(client, kind, type_version="").id == plain
    assert not get_type(client, kind).HasField("version")
    assert get_type(client, kind, type_version="1").id == versioned


@pytest.mark.parametrize("name", [None, ""])
def test_a_type_without_a_name_is_an_invalid_argument(client: Client, kind: str, name: str | None) -> None:
    with pytest.raises(InvalidArgument, match="name"):
        call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, name) if name is not None else {}})


def test_a_property_of_kind_unknown_is_an_invalid_argument_also_when_adding(client: Client, kind: str) -> None:
    put_type(client, kind)
    for name in ("T", "New"):
        with pytest.raises(InvalidArgument, match="UNKNOWN"):
            put_type(client, kind, name, {"p": mlmd.UNKNOWN}, can_add_fields=True)
    with pytest.raises(NotFound):
        get_type(client, kind, "New")


FLAGS = [(add, omit) for add in (False, True) for omit in (False, True)]


@pytest.mark.parametrize(("add", "omit"), FLAGS)
@pytest.mark.parametrize(
    ("sent", "needs"),
    [
        ({"a": INT, "b": STRING}, ""),
        ({"a": INT}, "omit"),
        ({"a": INT, "b": STRING, "c": DOUBLE}, "add"),
        ({"a": INT, "c": DOUBLE}, "add omit"),
        ({}, "omit"),
        ({"a": STRING, "b": STRING}, "never"),
    ],
)
def test_a_stored_type_changes_only_as_far_as_the_flags_allow(
    client: Client, sent: dict[str, int], needs: str, add: bool, omit: bool
) -> None:
    stored = {"a": INT, "b": STRING}
    first = put_type(client, "artifact", "T", stored)
    allowed = {name for name, on in (("add", add), ("omit", omit)) if on}

    if set(needs.split()) <= allowed:
        assert put_type(client, "artifact", "T", sent, can_add_fields=add, can_omit_fields=omit) == first
        assert dict(get_type(client, "artifact").properties) == stored | sent
    else:
        with pytest.raises(AlreadyExists):
            put_type(client, "artifact", "T", sent, can_add_fields=add, can_omit_fields=omit)
        assert dict(get_type(client, "artifact").properties) == stored


def test_description_and_struct_types_are_never_updated(client: Client) -> None:
    first = type_of("execution", "T", description="old")
    first.input_type.none.SetInParent()
    second = type_of("execution", "T", description="new")
    second.input_type.any.SetInParent()
    second.output_type.any.SetInParent()
    for sent in (first, second):
        call(client, "PutExecutionType", execution_type=sent, can_add_fields=True)

    found = get_type(client, "execution")

    assert found.description == "old"
    assert found.input_type == first.input_type
    assert not found.HasField("output_type")


def test_the_external_id_of_a_type_is_replaced_by_one_that_is_not_empty(client: Client, kind: str) -> None:
    def put(**fields: str) -> str:
        call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, "T", **fields)})
        return str(get_type(client, kind).external_id)

    assert [put(), put(external_id="a"), put(), put(external_id=""), put(external_id="b")] == ["", "a", "a", "a", "b"]


@pytest.mark.parametrize("other", KINDS)
def test_an_external_id_is_taken_for_types_of_all_kinds(client: Client, kind: str, other: str) -> None:
    def put(kind: str, name: str, external_id: str) -> None:
        call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, name, external_id=external_id)})

    put(kind, "first", "taken")
    put(other, "second", "free")
    for name in ("third", "second"):
        with pytest.raises(AlreadyExists, match="Type: another one with the same external_id"):
            put(other, name, "taken")
    assert get_type(client, other, "second").external_id == "free"


def test_an_empty_external_id_of_a_new_type_is_a_value(client: Client) -> None:
    call(client, "PutArtifactType", artifact_type=type_of("artifact", "A", external_id=""))
    with pytest.raises(AlreadyExists):
        call(client, "PutContextType", context_type=type_of("context", "B", external_id=""))


def test_a_base_type_is_linked_when_there_is_none_and_never_changed(client: Client) -> None:
    put_type(client, "artifact")
    for base, expected in (
        (mlmd.ArtifactType.MODEL, None),
        (mlmd.ArtifactType.MODEL, None),
        (mlmd.ArtifactType.DATASET, Unimplemented),
    ):
        sent = type_of("artifact", "T", base_type=base)
        if expected is None:
            call(client, "PutArtifactType", artifact_type=sent)
        else:
            with pytest.raises(expected):
                call(client, "PutArtifactType", artifact_type=sent)
    assert get_type(client, "artifact").base_type == mlmd.ArtifactType.MODEL


def test_an_explicit_base_type_unset_is_unimplemented_and_creates_nothing(client: Client, kind: str) -> None:
    with pytest.raises(Unimplemented):
        call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, "T", base_type=0)})
    assert ids(client, kind) == []


def test_all_fields_match_false_is_unimplemented_and_can_delete_fields_is_ignored(client: Client, kind: str) -> None:
    put_type(client, kind, "T", {"p": INT}, can_delete_fields=True)
    with pytest.raises(Unimplemented):
        put_type(client, kind, "T", {"p": INT}, all_fields_match=False)
    with pytest.raises(AlreadyExists):
        put_type(client, kind, "T", {}, can_delete_fields=True)
    with pytest.raises(Unimplemented):
        call(client, "PutTypes", all_fields_match=False)


def test_put_types_answers_ids_in_order_per_kind(client: Client) -> None:
    old = put_type(client, "artifact", "old")

    response = call(
        client,
        "PutTypes",
        artifact_types=[type_of("artifact", name) for name in ("new", "old", "new")],
        execution_types=[type_of("execution", "e")],
        context_types=[type_of("context", name) for name in ("c", "d")],
    )

    new = response.artifact_type_ids[0]
    assert list(response.artifact_type_ids) == [new, old, new]
    assert [get_type(client, "execution", "e").id] == list(response.execution_type_ids)
    assert [get_type(client, "context", name).id for name in "cd"] == list(response.context_type_ids)


def test_put_types_is_one_transaction(client: Client) -> None:
    with pytest.raises(InvalidArgument):
        call(client, "PutTypes", artifact_types=[type_of("artifact", "a")], context_types=[{}])
    assert ids(client, "artifact") == []


def test_put_types_applies_its_flags_to_all(client: Client) -> None:
    put_type(client, "artifact", "T", {"a": INT})
    put_type(client, "context", "T", {"a": INT})
    sent = {
        "artifact_types": [type_of("artifact", "T", {"b": INT})],
        "context_types": [type_of("context", "T", {"b": INT})],
    }
    with pytest.raises(AlreadyExists):
        call(client, "PutTypes", **sent, can_add_fields=True)
    call(client, "PutTypes", **sent, can_add_fields=True, can_omit_fields=True)
    assert dict(get_type(client, "context").properties) == {"a": INT, "b": INT}


def test_a_type_that_is_not_there_is_not_found(client: Client, kind: str) -> None:
    put_type(client, kind)
    for fields in ({}, {"type_name": "other"}, {"type_name": "T", "type_version": "2"}):
        with pytest.raises(NotFound):
            call(client, f"Get{LETTERS[kind]}Type", **fields)


def test_types_by_id_keep_order_and_repeats_and_leave_out_what_is_not_of_the_kind(client: Client, kind: str) -> None:
    a, b = put_type(client, kind, "a"), put_type(client, kind, "b")
    stranger = put_type(client, "context" if kind != "context" else "artifact", "c")

    def found(*wanted: int) -> list[int]:
        response = call(client, f"Get{LETTERS[kind]}TypesByID", type_ids=wanted)
        return [found.id for found in getattr(response, f"{kind}_types")]

    assert found(b, a, b, stranger, 999, -1) == [b, a, b]
    assert found() == []


def test_types_by_external_ids(client: Client, kind: str) -> None:
    for name in ("a", "b"):
        call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, name, external_id=name)})

    def found(*wanted: str) -> set[str]:
        response = call(client, f"Get{LETTERS[kind]}TypesByExternalIds", external_ids=wanted)
        return {found.name for found in getattr(response, f"{kind}_types")}

    assert found() == set()
    assert found("a", "b", "a", "no") == {"a", "b"}
    with pytest.raises(InvalidArgument):
        found("a", "")
    with pytest.raises(NotFound):
        found("no")


def test_what_is_not_there_yet_is_unimplemented(client: Client) -> None:
    with pytest.raises(Unimplemented, match="GetLineageGraph"):
        client.get_lineage_graph(service.GetLineageGraphRequest())
