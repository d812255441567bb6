"""The reader's lists on PostgreSQL and MariaDB: the answers that SQLite gives."""

from pathlib import Path

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.store.filters import NodeFilter, OrderBy
from mdstore.store.reader import Reader
from mdstore.values import ContextId
from tests.databases.servers import Server
from tests.store.writing import Nodes, call, put

NAMES = ("alpha", "Alpha 100%", "beta_1", "beta-1", "Ärger", "zz🦆", "a b", "z")
FILTERS = (
    NodeFilter(),
    NodeFilter(types=["T"]),
    NodeFilter(types=["other"]),
    NodeFilter(names=["alpha", "z", "missing"]),
    NodeFilter(called=["alpha", "shown 3"]),
    NodeFilter(name_contains="ALPHA"),
    NodeFilter(name_contains="100%"),
    NodeFilter(name_contains="a_1"),
    NodeFilter(name_contains="shown"),
    NodeFilter(uris=["s3://b/alpha"]),
    NodeFilter(uri_prefix="s3://b/"),
    NodeFilter(uri_prefix="s3://b/A"),
    NodeFilter(uri_prefix="s3://b/Ä"),
    NodeFilter(states=[2]),
    NodeFilter(in_contexts=[ContextId(1)]),
    NodeFilter(in_contexts=[ContextId(2)], in_children_too=True),
    NodeFilter(custom_properties={"display_name": ["shown 1", "shown 2"]}),
    NodeFilter(custom_property_ranges={"display_name": ("shown 2", "shown 5")}),
    NodeFilter(custom_property_ranges={"display_name": (None, "shown 2")}),
    NodeFilter(created_from_ms=1, created_before_ms=2**52),
)


def fill(client: Client) -> None:
    nodes = Nodes(client)
    ids = put(
        client,
        "artifact",
        *(
            nodes.new(
                "artifact",
                name=name,
                uri=f"s3://b/{name}",
                state=1 + number % 3,
                custom={"display_name": f"shown {number}", "n": number},
            )
            for number, name in enumerate(NAMES)
        ),
    )
    links = [{"artifact_id": found, "context_id": nodes.contexts[place % 2]} for place, found in enumerate(ids)]
    call(client, "PutAttributionsAndAssociations", attributions=links)
    call(client, "PutParentContexts", parent_contexts=[{"child_id": nodes.contexts[0], "parent_id": nodes.contexts[1]}])


@pytest.mark.parametrize("charset", ["", "?charset=utf8mb4"], ids=["as the library", "utf8mb4"])
def test_lists_and_counts_are_the_same_as_on_sqlite(
    server: Server, database: str, tmp_path: Path, charset: str
) -> None:
    url = server.url(database) + (charset if server.url("").startswith("mysql") else "")
    lite = f"sqlite:///{tmp_path / 'metadata.db'}"
    for each in (url, lite):
        with mdstore.connect(each) as client:
            fill(client)

    with Reader.open(url) as found, Reader.open(lite) as expected:
        for where in FILTERS:
            wanted = [node.name for node in expected.list_artifacts(where).nodes]
            assert [node.name for node in found.list_artifacts(where).nodes] == wanted, where
            assert found.count_artifacts(where) == expected.count_artifacts(where), where
            contexts = [ContextId(1), ContextId(2), ContextId(9)]
            assert found.count_artifacts_in(contexts, where) == expected.count_artifacts_in(contexts, where)
        for order in (OrderBy.ID, OrderBy.CREATED, OrderBy.UPDATED, OrderBy.URI):
            for descending in (False, True):
                page = found.list_artifacts(NodeFilter(), order_by=order, descending=descending, first=3)
                rest = found.list_artifacts(
                    NodeFilter(), order_by=order, descending=descending, first=99, after=page.cursors[-1]
                )
                listed = [node.id for node in (*page.nodes, *rest.nodes)]
                assert len(listed) == len(set(listed)) == len(NAMES) + 3
        pages = found.list_artifacts_in([ContextId(1), ContextId(2)], NodeFilter(), first=2)
        assert {context: len(page.nodes) for context, page in pages.items()} == {1: 2, 2: 2}
        assert found.head_seq() == expected.head_seq()
