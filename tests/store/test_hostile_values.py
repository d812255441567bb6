"""Values that break the original library, or would break a careless store."""

import sqlite3
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.wire import mlmd, service
from tests.databases.fixtures import ENGINES, EmptyStores
from tests.store.writing import (
    KINDS,
    Nodes,
    call,
    event,
    events_of,
    get_all,
    get_one,
    node,
    put,
    put_type,
    type_of,
    value,
)

LETTERS = {"artifact": "Artifact", "execution": "Execution", "context": "Context"}
UNREADABLE = ["a\0b", "\0", "__MLMD_NULL__"]
PLANES = "".join(chr(plane * 0x10000 + 0x61) for plane in range(17)) + "\ufffe\ud7ff\ue000\ufffd\u2028\u202e\x01\x7f"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("text", UNREADABLE)
def test_texts_that_the_library_could_not_read_back_are_refused_everywhere(
    client: Client, kind: str, text: str
) -> None:
    type_id = put_type(client, kind, "T", {"s": mlmd.STRING})
    (there,) = put(client, kind, node(kind, type_id=type_id, name="there"))
    wrong: list[dict[str, Any]] = [
        {"name": text},
        {"external_id": text},
        {"custom": {"x": text}},
        {"declared": {"s": text}},
        {"custom": {text: 1}},
    ]
    if kind == "artifact":
        wrong.append({"uri": text})
    for fields in wrong:
        with pytest.raises(InvalidArgument):
            put(client, kind, node(kind, type_id=type_id, **{"name": "n"} | fields))
        if "name" not in fields:
            with pytest.raises(InvalidArgument):
                put(client, kind, node(kind, id=there, name="there", **fields))
    assert len(getattr(get_all(client, kind), f"{kind}s")) == 1


@pytest.mark.parametrize("text", UNREADABLE)
def test_types_refuse_them_too(client: Client, kind: str, text: str) -> None:
    wrong = [
        type_of(kind, text),
        type_of(kind, "T", {text: mlmd.INT}),
        *(type_of(kind, "T", **{field: text}) for field in ("version", "description", "external_id")),
    ]
    for sent in wrong:
        with pytest.raises(InvalidArgument):
            call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": sent})


def test_a_paths_key_refuses_them_too(client: Client) -> None:
    nodes = Nodes(client)
    with pytest.raises(InvalidArgument):
        call(client, "PutEvents", events=[event(nodes.artifacts[0], nodes.executions[0], mlmd.Event.INPUT, "a\0")])


@pytest.mark.parametrize(
    "wrong", [value("mlmd-struct::"), value("mlmd-struct::x"), value(float("nan")), mlmd.Value(proto_value={})]
)
def test_property_values_that_could_not_be_read_back_are_refused(client: Client, kind: str, wrong: mlmd.Value) -> None:
    with pytest.raises(InvalidArgument):
        put(client, kind, node(kind, type_id=put_type(client, kind), name="n", custom={"x": wrong}))


@pytest.mark.parametrize(
    "right",
    [
        PLANES,
        "",
        " ",
        "'; DROP TABLE Artifact; --",
        '"`\\%_?:x$1',
        "a mlmd-struct:: inside",
        "mlmd-struct:",
        "__MLMD_NULL__ and more",
        "\r\n\t",
        2**31 - 1,
        -(2**31),
        0.1 + 0.2,
        5e-324,
        1.7976931348623157e308,
        3.0,
        {},
        {"": None, "ä": [[], {}, 1e300, True, "🦆"]},
    ],
)
def test_values_are_read_back_to_the_last_bit(client: Client, right: Any) -> None:
    type_id = put_type(client, "execution")
    (node_id,) = put(client, "execution", node("execution", type_id=type_id, custom={"x": right}))
    found = get_one(client, "execution", node_id).custom_properties["x"]
    # Bytes, since -0.0 equals 0.0; deterministic, since a Struct's fields have no order.
    assert found.SerializeToString(deterministic=True) == value(right).SerializeToString(deterministic=True)


@pytest.mark.parametrize("right", [2**63 - 1, -(2**63), 2**53 + 1, float("inf"), float("-inf")])
def test_sqlite_holds_integers_of_64_bits_and_infinity(on_sqlite: Client, right: float) -> None:
    type_id = put_type(on_sqlite, "execution")
    (node_id,) = put(on_sqlite, "execution", node("execution", type_id=type_id, custom={"x": right}))
    assert get_one(on_sqlite, "execution", node_id).custom_properties["x"] == value(right)


@pytest.mark.parametrize("engine", ENGINES[1:])
@pytest.mark.parametrize("wrong", [2**31, -(2**31) - 1, 2**63 - 1])
def test_servers_refuse_integers_beyond_32_bits(empty_stores: EmptyStores, engine: str, wrong: int) -> None:
    client = empty_stores.client(engine)
    nodes = Nodes(client)
    for do in (
        lambda: put(client, "artifact", nodes.new("artifact", custom={"x": wrong})),
        lambda: put(client, "artifact", nodes.new("artifact", id=nodes.artifacts[0], custom={"x": wrong})),
        lambda: call(client, "PutEvents", events=[event(nodes.artifacts[0], nodes.executions[0], 3, wrong)]),
    ):
        with pytest.raises(InvalidArgument, match="32 bits"):
            do()


def test_names_of_every_plane_and_of_any_length(on_sqlite: Client, kind: str) -> None:
    long = "ä🦆" * 3000
    type_id = put_type(on_sqlite, kind, long + "t", {PLANES: mlmd.INT})
    sent = node(kind, type_id=type_id, name=PLANES, external_id=long, declared={PLANES: 1}, custom={long: 1, "": 2})
    (node_id,) = put(on_sqlite, kind, sent)
    found = get_one(on_sqlite, kind, node_id)
    assert (found.name, found.external_id, found.type) == (PLANES, long, long + "t")
    assert (found.properties, found.custom_properties) == (sent.properties, sent.custom_properties)
    response = call(on_sqlite, f"Get{LETTERS[kind]}ByTypeAndName", type_name=long + "t", **{f"{kind}_name": PLANES})
    assert getattr(response, kind).id == node_id


def test_a_text_of_20_megabytes(on_sqlite: Client) -> None:
    text = "ä" * 10_000_000
    (node_id,) = put(
        on_sqlite, "artifact", node("artifact", type_id=put_type(on_sqlite, "artifact"), custom={"x": text})
    )
    assert get_one(on_sqlite, "artifact", node_id).custom_properties["x"].string_value == text


def test_a_message_inside_a_value_keeps_its_bytes(client: Client) -> None:
    sent = mlmd.Value()
    sent.proto_value.type_url = "any thing, not even a URL"
    sent.proto_value.value = bytes(range(256))
    (node_id,) = put(client, "artifact", node("artifact", type_id=put_type(client, "artifact"), custom={"x": sent}))
    assert get_one(client, "artifact", node_id).custom_properties["x"] == sent


def raw(message: Any, data: bytes) -> Any:
    """The message with bytes appended that its definition would not write."""
    return type(message).FromString(message.SerializeToString() + data)


def test_an_unknown_enum_number_counts_as_not_set(client: Client) -> None:
    type_id = put_type(client, "artifact")
    sent = raw(node("artifact", type_id=type_id), b"\x30\x63")  # state = 99
    (node_id,) = put(client, "artifact", sent)
    assert not get_one(client, "artifact", node_id).HasField("state")
    # Neither the change log nor a reader sees what was not stored.
    assert [
        image.SerializeToString(deterministic=True)
        for commit in client.follow(once=True)
        for entry in commit.commits
        for image in entry.changes.artifacts
    ] == [get_one(client, "artifact", node_id).SerializeToString(deterministic=True)]
    nodes = Nodes(client)
    with pytest.raises(InvalidArgument):
        call(
            client,
            "PutEvents",
            events=[raw(mlmd.Event(artifact_id=nodes.artifacts[0], execution_id=nodes.executions[0]), b"\x20\x63")],
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda type_id: (service.PutArtifactsRequest, b"\x0a\x06\x10" + bytes([type_id]) + b"\x1a\x02\xff\xfe"),  # uri
        lambda type_id: (service.PutArtifactsRequest, b"\x0a\x06\x10" + bytes([type_id]) + b"\x3a\x02\xff\xfe"),  # name
        lambda _: (service.PutArtifactTypeRequest, b"\x0a\x04\x12\x02\xff\xfe"),
        lambda _: (service.GetArtifactsByURIRequest, b"\x12\x02\xff\xfe"),
        lambda _: (service.GetArtifactsByExternalIdsRequest, b"\x0a\x02\xff\xfe"),
        lambda _: (service.GetArtifactTypeRequest, b"\x0a\x02\xff\xfe"),
        lambda _: (service.GetArtifactTypeRequest, b"\x0a\x01T\x12\x02\xff\xfe"),
        lambda _: (service.GetArtifactsByTypeRequest, b"\x0a\x02\xff\xfe"),
        lambda _: (service.GetArtifactByTypeAndNameRequest, b"\x0a\x02\xff\xfe\x12\x01n"),
        lambda _: (service.GetArtifactByTypeAndNameRequest, b"\x0a\x01T\x12\x02\xff\xfe"),
    ],
)
def test_a_text_that_is_not_utf_8_is_an_invalid_argument(client: Client, make: Any) -> None:
    request, data = make(put_type(client, "artifact"))
    method = f"/ml_metadata.MetadataStoreService/{request.DESCRIPTOR.name.removesuffix('Request')}"
    with pytest.raises(InvalidArgument, match="UTF-8"):
        client._call(method, request.FromString(data), None)
    assert not get_all(client, "artifact").artifacts


@pytest.mark.parametrize("depth", [5, 45])
def test_struct_types_may_be_nested(client: Client, depth: int) -> None:
    sent = type_of("execution", "T")
    inner = sent.input_type
    for _ in range(depth):
        inner = inner.list.element
    inner.any.SetInParent()
    sent.id = call(client, "PutExecutionType", execution_type=sent).type_id
    assert call(client, "GetExecutionType", type_name="T").execution_type == sent


def test_a_struct_type_with_a_text_that_is_not_utf_8_is_refused(client: Client) -> None:
    sent = type_of("execution", "T")
    sent.input_type.simple.CopyFrom(mlmd.ArtifactType.FromString(b"\x12\x02\xff\xfe"))
    with pytest.raises(InvalidArgument, match="input_type"):
        call(client, "PutExecutionType", execution_type=sent)


class TestRowsThatAreThereAlready:
    """What the library or others left in a database is read as far as it can be."""

    def damage(self, url: str, statement: str, *arguments: Any) -> None:
        database = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        database.execute(statement, arguments)
        database.close()

    @pytest.fixture
    def artifact(self, local: Client) -> int:
        return put(local, "artifact", node("artifact", type_id=put_type(local, "artifact"), custom={"x": "text"}))[0]

    @pytest.mark.parametrize("text", ["mlmd-struct::no base64!", "mlmd-struct::AAAA", "__MLMD_NULL__"])
    def test_a_text_that_is_marked_wrongly_is_a_text(self, local: Client, url: str, artifact: int, text: str) -> None:
        self.damage(url, "UPDATE ArtifactProperty SET string_value = ?", text)
        assert get_one(local, "artifact", artifact).custom_properties["x"].string_value == text

    @pytest.mark.parametrize("data", [b"\xff\0", "no base64!", "AAAA"])
    def test_a_message_that_is_none_is_kept_as_its_bytes(
        self, local: Client, url: str, artifact: int, data: Any
    ) -> None:
        self.damage(url, "UPDATE ArtifactProperty SET string_value = NULL, proto_value = ?", data)
        found = get_one(local, "artifact", artifact).custom_properties["x"].proto_value.value
        assert found == (data if isinstance(data, bytes) else data.encode())

    def test_a_property_without_a_value_is_there_without_one(self, local: Client, url: str, artifact: int) -> None:
        self.damage(url, "UPDATE ArtifactProperty SET string_value = NULL")
        assert get_one(local, "artifact", artifact).custom_properties["x"].WhichOneof("value") is None

    def test_a_text_that_is_not_utf_8_is_read_with_replacements(self, local: Client, url: str, artifact: int) -> None:
        self.damage(url, "UPDATE ArtifactProperty SET string_value = CAST(? AS TEXT)", b"a\xffb")
        assert get_one(local, "artifact", artifact).custom_properties["x"].string_value == "a\ufffdb"
        assert len(get_all(local, "artifact").artifacts) == 1

    def test_links_to_nodes_that_are_not_there_do_not_hide_the_others(
        self, local: Client, url: str, artifact: int
    ) -> None:
        (context,) = put(local, "context", node("context", type_id=put_type(local, "context"), name="c"))
        call(local, "PutAttributionsAndAssociations", attributions=[{"artifact_id": artifact, "context_id": context}])
        self.damage(url, "INSERT INTO Attribution (artifact_id, context_id) VALUES (-1, ?)", context)
        self.damage(url, "INSERT INTO Event (artifact_id, execution_id, type) VALUES (77, 88, 3)")
        assert [found.id for found in call(local, "GetArtifactsByContext", context_id=context).artifacts] == [artifact]
        (dangling,) = events_of(local, "execution", 88)
        assert (dangling.artifact_id, dangling.HasField("milliseconds_since_epoch")) == (77, False)

    def test_an_unrelated_update_leaves_them_alone(self, local: Client, url: str, artifact: int) -> None:
        self.damage(url, "UPDATE Artifact SET external_id = '__MLMD_NULL__'")
        put(local, "artifact", mlmd.Artifact(id=artifact, uri="new"), mask=["uri"])
        assert get_one(local, "artifact", artifact).uri == "new"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("PutArtifacts", b"\x08\x01\x0a\x00\xfa\x01\x02ab"),
        ("PutExecution", b"\x0a\x00\x12\x00\x1a\x00\x22\x00"),
        ("PutEvents", b"\x0a\x00"),
        ("PutTypes", b"\x0a\x00\x12\x00\x1a\x00"),
        ("PutParentContexts", b"\x0a\x00"),
        ("PutAttributionsAndAssociations", b"\x0a\x00\x12\x00"),
        ("GetArtifacts", b"\x0a\x02\x08\x00"),
    ],
)
def test_empty_parts_and_unknown_fields_are_an_invalid_argument(client: Client, name: str, data: bytes) -> None:
    request = getattr(service, f"{name}Request").FromString(data)
    with pytest.raises(InvalidArgument):
        client._call(f"/ml_metadata.MetadataStoreService/{name}", request, None)
