"""Reading nodes by their keys."""

from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import InvalidArgument, NotFound
from mdstore.wire import mlmd, service
from tests.store.writing import KINDS, Nodes, call, get, node, put, put_type, type_of

LETTERS = {"artifact": "Artifact", "execution": "Execution", "context": "Context"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_by_id_leaves_out_unknown_ids_and_repeats(client: Client, kind: str) -> None:
    ids = getattr(Nodes(client), f"{kind}s")
    assert [found.id for found in get(client, kind, [ids[2], 999, ids[0], ids[2], -1, 0])] == [ids[0], ids[2]]
    assert get(client, kind, []) == []


def test_every_node_says_its_type(client: Client, kind: str) -> None:
    nodes = Nodes(client)
    (found, *_) = get(client, kind, getattr(nodes, f"{kind}s"))
    assert (found.type, found.type_id) == ("T", nodes.types[kind])


def test_artifacts_by_id_come_with_their_types_each_once_if_wanted(client: Client) -> None:
    nodes = Nodes(client)
    other = put_type(client, "artifact", "U", {"p": mlmd.INT})
    ids = [*nodes.artifacts, *put(client, "artifact", node("artifact", type_id=other))]

    response = call(client, "GetArtifactsByID", artifact_ids=ids, populate_artifact_types=True)

    assert [found.name for found in response.artifact_types] == ["T", "U"]
    assert dict(response.artifact_types[1].properties) == {"p": mlmd.INT}
    assert not call(client, "GetArtifactsByID", artifact_ids=ids).artifact_types


def test_by_type_and_name(client: Client, kind: str) -> None:
    plain = put_type(client, kind)
    versioned = call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, "T", version="1")}).type_id
    a, b = put(client, kind, *(node(kind, type_id=type_id, name="n") for type_id in (plain, versioned)))

    def found(**fields: Any) -> int | None:
        response = call(client, f"Get{LETTERS[kind]}ByTypeAndName", **fields)
        return getattr(response, kind).id if response.HasField(kind) else None

    name = f"{kind}_name"
    assert found(type_name="T", **{name: "n"}) == a
    assert found(type_name="T", type_version="", **{name: "n"}) == a
    assert found(type_name="T", type_version="1", **{name: "n"}) == b
    for miss in (
        {},
        {"type_name": "U", name: "n"},
        {"type_name": "T", name: "N"},
        {"type_name": "T", "type_version": "2", name: "n"},
    ):
        assert found(**miss) is None


def test_by_type(client: Client, kind: str) -> None:
    type_id, other = put_type(client, kind), put_type(client, kind, "U")
    versioned = call(client, f"Put{LETTERS[kind]}Type", **{f"{kind}_type": type_of(kind, "T", version="1")}).type_id
    ids = put(
        client, kind, *(node(kind, type_id=t, name=f"n{n}") for n, t in enumerate((type_id, other, versioned, type_id)))
    )

    def found(**fields: Any) -> list[int]:
        response = call(client, f"Get{LETTERS[kind]}sByType", **fields)
        return [found.id for found in getattr(response, f"{kind}s")]

    assert found(type_name="T") == [ids[0], ids[3]]
    assert found(type_name="T", type_version="1") == [ids[2]]
    assert found(type_name="T", options={"max_result_size": 1, "order_by_field": {"is_asc": False}}) == [ids[3]]
    # Of a type that is not there, not even the options are looked at.
    assert found(type_name="V", options={"max_result_size": -1}) == []
    with pytest.raises(InvalidArgument):
        found(type_name="T", options={"max_result_size": -1})


def test_by_uri_is_exact(client: Client) -> None:
    type_id = put_type(client, "artifact")
    uris = ["s3://a", "s3://a", "s3://A", "", "s3://a%", "s3://a/ä"]
    ids = put(client, "artifact", *(node("artifact", type_id=type_id, uri=uri) for uri in uris))

    def found(*uris: str) -> list[int]:
        return [found.id for found in call(client, "GetArtifactsByURI", uris=uris).artifacts]

    assert found("s3://a", "s3://a") == ids[:2]
    assert found("s3://a%") == [ids[4]]
    assert found("s3://A", "s3://a/ä", "s3://%") == [ids[2], ids[5]]
    assert found("") == [ids[3]]
    assert found() == found("s3://a\0") == found(r"s3://a\u0000") == []


def test_by_uri_refuses_the_single_uri_of_old_clients(client: Client) -> None:
    old = service.GetArtifactsByURIRequest.FromString(b"\x0a\x01u")
    with pytest.raises(InvalidArgument, match="uris"):
        client.get_artifacts_by_uri(old)


def test_by_external_ids(client: Client, kind: str) -> None:
    type_id = put_type(client, kind)
    a, b = put(client, kind, *(node(kind, type_id=type_id, name=name, external_id=name) for name in "ab"))

    def found(*external_ids: str) -> list[int]:
        response = call(client, f"Get{LETTERS[kind]}sByExternalIds", external_ids=external_ids)
        return [found.id for found in getattr(response, f"{kind}s")]

    assert found() == []
    assert found("b", "a", "b", "no") == [a, b]
    with pytest.raises(InvalidArgument):
        found("a", "")
    for missing in ("no", "a\0"):
        with pytest.raises(NotFound):
            found(missing)
