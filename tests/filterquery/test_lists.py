"""Filters through the RPCs: lists of every kind and scope, page tokens, and lineage."""

from collections.abc import Iterator

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.store.store import Store
from mdstore.wire import mlmd
from tests.store.served import serving
from tests.store.writing import KINDS, call, event, get_all, node, put, put_type

COUNT = 25


@pytest.fixture(params=["in process", "over gRPC"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    if request.param == "in process":
        with mdstore.connect("sqlite://") as found:
            yield found
        return
    with (
        Store.open("sqlite://") as opened,
        serving(opened) as port,
        mdstore.connect(f"grpc://127.0.0.1:{port}") as found,
    ):
        yield found


@pytest.fixture
def types(client: Client) -> dict[str, int]:
    return {kind: put_type(client, kind) for kind in KINDS}


def made(client: Client, kind: str, type_id: int) -> list[int]:
    return put(
        client, kind, *(node(kind, type_id=type_id, name=f"n{n}", custom={"even": n % 2 == 0}) for n in range(COUNT))
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", ["ID", "CREATE_TIME", "LAST_UPDATE_TIME"])
def test_pages_of_a_filtered_list_follow_each_other(
    client: Client, types: dict[str, int], kind: str, field: str
) -> None:
    ids = made(client, kind, types[kind])
    found: list[int] = []
    token = ""
    sizes = []
    while True:
        page = get_all(
            client,
            kind,
            filter_query="custom_properties.even.bool_value",
            max_result_size=5,
            next_page_token=token,
            order_by_field={"field": field, "is_asc": False},
        )
        sizes.append(len(getattr(page, f"{kind}s")))
        found += [listed.id for listed in getattr(page, f"{kind}s")]
        token = page.next_page_token
        if not token:
            break

    assert found == ids[::2][::-1]
    assert sizes == [5, 5, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_by_type_is_filtered(client: Client, types: dict[str, int], kind: str) -> None:
    ids = made(client, kind, types[kind])
    made(client, kind, put_type(client, kind, "Other"))

    page = call(
        client,
        f"Get{kind.title()}sByType",
        type_name="T",
        options={"filter_query": "name IN ('n3', 'n4')", "max_result_size": 9},
    )

    assert [listed.id for listed in getattr(page, f"{kind}s")] == ids[3:5]


@pytest.mark.parametrize("kind", ["artifact", "execution"])
def test_a_list_by_context_is_filtered(client: Client, types: dict[str, int], kind: str) -> None:
    ids = made(client, kind, types[kind])
    first, second = put(client, "context", *(node("context", type_id=types["context"], name=n) for n in "ab"))
    field = {"artifact": "attributions", "execution": "associations"}[kind]
    links = [{f"{kind}_id": found, "context_id": first if number < 10 else second} for number, found in enumerate(ids)]
    call(client, "PutAttributionsAndAssociations", **{field: links})

    def listed(context: int, query: str) -> list[int]:
        options = {"filter_query": query, "max_result_size": 100}
        page = call(client, f"Get{kind.title()}sByContext", context_id=context, options=options)
        return [found.id for found in getattr(page, f"{kind}s")]

    assert listed(first, "custom_properties.even.bool_value") == ids[:10:2]
    assert listed(second, "name = 'n3' OR name = 'n12'") == [ids[12]]
    assert listed(second, "contexts_x.name = 'a'") == []
    with pytest.raises(InvalidArgument, match="filter_query"):
        listed(first, "name =")


def test_a_wrong_filter_is_an_invalid_argument(client: Client, types: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match=r"Invalid `filter_query`: there is no column uri \[at 1:1\]"):
        get_all(client, "execution", filter_query="uri = 'x'")


def test_lineage_begins_and_ends_at_what_filters_find(client: Client, types: dict[str, int]) -> None:
    artifacts = put(client, "artifact", *(node("artifact", type_id=types["artifact"], name=f"a{n}") for n in range(4)))
    executions = put(
        client, "execution", *(node("execution", type_id=types["execution"], name=f"e{n}") for n in range(3))
    )
    events = [event(artifacts[n], executions[n]) for n in range(3)]
    events += [event(artifacts[n + 1], executions[n], mlmd.Event.OUTPUT) for n in range(3)]
    call(client, "PutEvents", events=events)

    options = mlmd.LineageSubgraphQueryOptions(direction=mlmd.LineageSubgraphQueryOptions.DOWNSTREAM)
    options.starting_artifacts.filter_query = "events_x.type = INPUT AND name LIKE 'a0'"
    options.ending_executions.filter_query = "name = 'e2'"
    graph = call(client, "GetLineageSubgraph", lineage_subgraph_query_options=options).lineage_subgraph

    assert [found.id for found in graph.artifacts] == artifacts[:3]
    assert [found.id for found in graph.executions] == executions[:2]
