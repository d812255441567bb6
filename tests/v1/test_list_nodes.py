"""Lists of nodes by filter, in any order, page by page."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.wire import mlmd, nodes
from tests.store.writing import KINDS, Nodes, node, put

NUMBER = {"artifact": nodes.ARTIFACT, "execution": nodes.EXECUTION, "context": nodes.CONTEXT}


@pytest.fixture
def ours(client: Client) -> Nodes:
    found = Nodes(client)
    put(
        client,
        "artifact",
        *(
            found.new(
                "artifact",
                uri=f"s3://{n % 3}/{n}",
                state=mlmd.Artifact.LIVE if n % 2 else mlmd.Artifact.PENDING,
                external_id=f"x:{9 - n}",
                custom={"team": "a" if n < 4 else "b"},
            )
            for n in range(10)
        ),
    )
    return found


def pages(client: Client, limit: int = 3, **fields: Any) -> Iterator[nodes.ListNodesResponse]:
    cursor = ""
    while True:
        response = client.list_nodes(nodes.ListNodesRequest(limit=limit, cursor=cursor, **fields))
        yield response
        cursor = response.next_cursor
        if not cursor:
            return


def ids(client: Client, kind: str = "artifact", **fields: Any) -> list[int]:
    return [found.id for page in pages(client, kind=NUMBER[kind], **fields) for found in getattr(page, f"{kind}s")]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    ("order", "key"),
    [
        (nodes.BY_ID, lambda found: found.id),
        (nodes.BY_CREATE_TIME, lambda found: (found.create_time_since_epoch, found.id)),
        (nodes.BY_UPDATE_TIME, lambda found: (found.last_update_time_since_epoch, found.id)),
        (nodes.BY_URI, lambda found: (found.uri, found.id)),
        (nodes.BY_EXTERNAL_ID, lambda found: (found.external_id, found.id)),
    ],
)
def test_pages_are_in_the_order_that_was_asked_for(
    client: Client, ours: Nodes, order: Any, key: Any, descending: bool
) -> None:
    put(client, "artifact", node("artifact", id=ours.artifacts[0], custom={"n": 1}))
    found = [
        artifact
        for page in pages(client, kind=nodes.ARTIFACT, order=order, descending=descending)
        for artifact in page.artifacts
    ]
    assert found == sorted(found, key=key, reverse=descending)
    assert len(found) == (10 if order == nodes.BY_EXTERNAL_ID else 13)
    assert len({artifact.id for artifact in found}) == len(found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_listed(client: Client, ours: Nodes, kind: str) -> None:
    assert set(getattr(ours, f"{kind}s")) <= set(ids(client, kind))


@pytest.mark.parametrize(
    ("filter_", "count"),
    [
        (nodes.NodeFilter(types=["T"]), 13),
        (nodes.NodeFilter(types=["U"]), 0),
        (nodes.NodeFilter(states=[mlmd.Artifact.LIVE]), 5),
        (nodes.NodeFilter(uri_prefix="s3://0/"), 4),
        (nodes.NodeFilter(uris=["s3://1/1", "s3://2/2", "s3://none"]), 2),
        (nodes.NodeFilter(custom_properties={"team": nodes.Texts(values=["a"])}), 4),
        (nodes.NodeFilter(custom_property_ranges={"team": nodes.TextRange(at_least="b")}), 6),
        (nodes.NodeFilter(custom_property_ranges={"team": nodes.TextRange(less_than="b")}, uri_prefix="s3://1"), 1),
        (nodes.NodeFilter(created_before_ms=1), 0),
        (nodes.NodeFilter(created_from_ms=1), 13),
    ],
)
def test_a_filter_leaves_what_it_says_and_the_total_counts_it(
    client: Client, ours: Nodes, filter_: nodes.NodeFilter, count: int
) -> None:
    assert len(ids(client, filter=filter_)) == count
    request = nodes.ListNodesRequest(kind=nodes.ARTIFACT, filter=filter_, with_total=True, limit=1)
    assert client.list_nodes(request).total == count


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": 7},
        {"kind": nodes.CONTEXT, "order": nodes.BY_URI},
        {"kind": nodes.EXECUTION, "order": 77},
        {"kind": nodes.CONTEXT, "filter": nodes.NodeFilter(states=[1])},
        {"kind": nodes.EXECUTION, "filter": nodes.NodeFilter(uris=["x"])},
        {"kind": nodes.ARTIFACT, "cursor": "nonsense"},
    ],
)
def test_what_the_kind_does_not_have_is_an_invalid_argument(client: Client, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        client.list_nodes(nodes.ListNodesRequest(**fields))


def test_a_cursor_of_another_order_is_refused(client: Client, ours: Nodes) -> None:
    cursor = client.list_nodes(nodes.ListNodesRequest(kind=nodes.ARTIFACT, limit=2)).next_cursor
    for other in ({"order": nodes.BY_URI}, {"descending": True}):
        with pytest.raises(InvalidArgument, match="another order"):
            client.list_nodes(nodes.ListNodesRequest(kind=nodes.ARTIFACT, cursor=cursor, **other))


def test_texts_with_colons_and_any_plane_make_good_cursors(client: Client) -> None:
    ours = Nodes(client)
    names = ["a:b", "a:b:c", "ü", "\U0001d518", " ", "a\nb"]
    put(client, "execution", *(ours.new("execution", external_id=name) for name in names))
    found = [
        execution.external_id
        for page in pages(client, 1, kind=nodes.EXECUTION, order=nodes.BY_EXTERNAL_ID)
        for execution in page.executions
    ]
    assert sorted(found) == sorted(names)


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


@pytest.mark.parametrize(
    "fields",
    [
        {"cursor": cursor(f"id+:{10**30}:0")},
        {"cursor": cursor(f"created+:1:{2**63}"), "order": nodes.BY_CREATE_TIME},
        {"cursor": cursor(f"id+:{'9' * 5000}:0")},
        {"filter": {"names": [f"n{n}" for n in range(70_000)]}},
        {"filter": {"name_contains": "x" * 100_000}},
    ],
)
def test_what_no_database_can_look_for_is_an_invalid_argument(
    client: Client, ours: Nodes, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        client.list_nodes(nodes.ListNodesRequest(kind=nodes.ARTIFACT, **fields))


def test_a_filter_of_many_values_finds_what_has_one_of_them(client: Client, ours: Nodes) -> None:
    wanted = [f"s3://{n}" for n in range(9_999)]
    found = ids(client, filter={"uris": [*wanted, "s3://1/1"]})
    assert len(found) == 1
    contains = {"name_contains": "\U0001d518" * 10_000}
    assert client.list_nodes(nodes.ListNodesRequest(kind=nodes.ARTIFACT, filter=contains)).artifacts == []
