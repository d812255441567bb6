"""Lists: orders, sizes and page tokens."""

import base64
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.wire import mlmd
from tests.store.writing import KINDS, call, get_all, node, put, put_type

Field = mlmd.ListOperationOptions.OrderByField
ORDERS = {"id": Field.ID, "create time": Field.CREATE_TIME, "update time": Field.LAST_UPDATE_TIME}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(client: Client, kind: str, count: int) -> list[int]:
    type_id = put_type(client, kind)
    return put(client, kind, *(node(kind, type_id=type_id, name=str(n)) for n in range(count)))


def set_times(url: str, kind: str, times: dict[int, int]) -> None:
    """Put what a clock that jumps, or writers that overlap, would have written."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.executemany(
            f"UPDATE {kind.title()} SET create_time_since_epoch = ?, last_update_time_since_epoch = ? WHERE id = ?",
            [(at, at, node_id) for node_id, at in times.items()],
        )
    database.close()


def order(field: Any, ascending: bool) -> dict[str, Any]:
    return {"order_by_field": {"field": field, "is_asc": ascending}}


def pages(client: Client, kind: str, **options: Any) -> Iterator[list[int]]:
    """The ids of each page; fails when there is no end."""
    token = None
    for _ in range(100):
        found = get_all(client, kind, **options, **({"next_page_token": token} if token else {}))
        yield [found.id for found in getattr(found, f"{kind}s")]
        token = found.next_page_token
        if not token:
            assert not found.HasField("next_page_token")
            return
    raise AssertionError("the list has no end")


def test_without_options_everything_comes_at_once(client: Client, kind: str) -> None:
    ids = fill(client, kind, 150)
    response = get_all(client, kind)
    assert [found.id for found in getattr(response, f"{kind}s")] == ids
    assert not response.HasField("next_page_token")


def test_the_default_page_is_the_first_20_by_id(client: Client, kind: str) -> None:
    ids = fill(client, kind, 45)
    assert list(pages(client, kind, **order(Field.ID, True))) == [ids[:20], ids[20:40], ids[40:]]
    assert list(pages(client, kind, filter_query="")) == [ids[:20], ids[20:40], ids[40:]]


@pytest.mark.parametrize("size", [101, 1000, 2**31 - 1])
def test_a_page_has_at_most_100_and_a_token_for_the_rest(client: Client, size: int) -> None:
    ids = fill(client, "artifact", 230)
    assert list(pages(client, "artifact", max_result_size=size)) == [ids[:100], ids[100:200], ids[200:]]


@pytest.mark.parametrize("size", [0, -1, -(2**31)])
def test_a_size_below_1_is_an_invalid_argument(client: Client, size: int) -> None:
    with pytest.raises(InvalidArgument, match="max_result_size"):
        get_all(client, "artifact", max_result_size=size)


def test_an_unspecified_order_is_an_invalid_argument(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="order_by_field"):
        get_all(client, "artifact", order_by_field={"field": Field.FIELD_UNSPECIFIED})


def test_the_last_page_has_no_token_also_when_it_is_full(client: Client) -> None:
    ids = fill(client, "artifact", 4)
    assert list(pages(client, "artifact", max_result_size=2)) == [ids[:2], ids[2:]]
    assert list(pages(client, "artifact", max_result_size=4)) == [ids]


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("times", ["equal", "reversed", "mixed", "negative"])
def test_pages_show_every_node_once_in_order(
    on_sqlite: Client, url: str, name: str, ascending: bool, times: str
) -> None:
    ids = fill(on_sqlite, "execution", 11)
    at = {
        "equal": dict.fromkeys(ids, 5),
        "reversed": {node_id: 1000 - node_id for node_id in ids},
        "mixed": {node_id: node_id % 3 for node_id in ids},
        "negative": {node_id: node_id - 5 for node_id in ids},
    }[times]
    set_times(url, "execution", at)
    expected = sorted(ids, key=lambda node_id: (0 if name == "id" else at[node_id], node_id), reverse=not ascending)

    found = list(pages(on_sqlite, "execution", max_result_size=2, **order(ORDERS[name], ascending)))

    assert [node_id for page in found for node_id in page] == expected
    assert [len(page) for page in found] == [2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize("name", ORDERS)
def test_nodes_that_come_while_one_reads_hide_none_and_double_none(client: Client, name: str) -> None:
    there = fill(client, "artifact", 60)
    type_id = put_type(client, "artifact")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            put(client, "artifact", node("artifact", type_id=type_id))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reading = pages(client, "artifact", max_result_size=7, **order(ORDERS[name], False))
        found = [node_id for page in reading for node_id in page]
    finally:
        stop.set()
        writer.join()
    assert len(found) == len(set(found))
    assert set(there) <= set(found)


def test_a_token_says_what_the_librarys_tokens_say(on_sqlite: Client, url: str) -> None:
    ids = fill(on_sqlite, "artifact", 3)
    set_times(url, "artifact", dict.fromkeys(ids, 7))

    def token(field: Any) -> mlmd.ListOperationNextPageToken:
        text = get_all(on_sqlite, "artifact", max_result_size=2, **order(field, True)).next_page_token
        assert not set(text) & set("+/=")
        return mlmd.ListOperationNextPageToken.FromString(base64.urlsafe_b64decode(text + "=="))

    by_id, by_create, by_update = token(Field.ID), token(Field.CREATE_TIME), token(Field.LAST_UPDATE_TIME)
    assert (by_id.id_offset, by_id.field_offset) == (ids[1], ids[1])
    assert (by_create.id_offset, by_create.field_offset) == (ids[1], 7)
    assert (by_update.field_offset, list(by_update.listed_ids)) == (7, ids[:2])
    assert not by_update.HasField("id_offset")
    assert by_create.set_options == mlmd.ListOperationOptions(max_result_size=2, **order(Field.CREATE_TIME, True))


def test_a_token_goes_with_another_size_but_not_with_another_order(client: Client) -> None:
    ids = fill(client, "artifact", 5)
    token = get_all(client, "artifact", max_result_size=2).next_page_token
    found = get_all(client, "artifact", max_result_size=100, next_page_token=token)
    assert [found.id for found in found.artifacts] == ids[2:]
    for other in (order(Field.CREATE_TIME, True), order(Field.ID, False)):
        with pytest.raises(InvalidArgument, match="order"):
            get_all(client, "artifact", max_result_size=2, next_page_token=token, **other)


def encoded(token: mlmd.ListOperationNextPageToken) -> str:
    return base64.urlsafe_b64encode(token.SerializeToString()).decode().rstrip("=")


@pytest.mark.parametrize("token", ["!!!!", "a", "ä", "CgQ=====", "//++", "\0", "zzzz"])
def test_what_is_no_token_is_an_invalid_argument(client: Client, token: str) -> None:
    fill(client, "artifact", 1)
    with pytest.raises(InvalidArgument, match="next_page_token"):
        get_all(client, "artifact", next_page_token=token)


def test_an_update_time_token_without_ids_is_an_invalid_argument(client: Client) -> None:
    options = mlmd.ListOperationOptions(**order(Field.LAST_UPDATE_TIME, True))
    token = encoded(mlmd.ListOperationNextPageToken(field_offset=5, set_options=options))
    with pytest.raises(InvalidArgument):
        get_all(client, "artifact", next_page_token=token, **order(Field.LAST_UPDATE_TIME, True))


@pytest.mark.parametrize("kind", ["artifact", "execution"])
def test_the_members_of_a_context_are_paged(client: Client, kind: str) -> None:
    ids = fill(client, kind, 25)
    (context,) = put(client, "context", node("context", type_id=put_type(client, "context"), name="c"))
    link = {"artifact": "attributions", "execution": "associations"}[kind]
    put_links = [{f"{kind}_id": node_id, "context_id": context} for node_id in ids[:-1]]
    call(client, "PutAttributionsAndAssociations", **{link: put_links})
    method = f"Get{kind.title()}sByContext"

    first = call(client, method, context_id=context, options={"max_result_size": 20})
    rest = call(client, method, context_id=context, options={"next_page_token": first.next_page_token})

    assert [found.id for found in [*getattr(first, f"{kind}s"), *getattr(rest, f"{kind}s")]] == ids[:-1]
    assert not rest.HasField("next_page_token")
    assert len(getattr(call(client, method, context_id=context), f"{kind}s")) == 24
    with pytest.raises(InvalidArgument):
        call(client, method, context_id=context, options={"max_result_size": 0})
    # Where there is nothing, the options are not looked at.
    assert not getattr(call(client, method, context_id=999, options={"max_result_size": 0}), f"{kind}s")


def test_the_last_page_by_type_has_an_empty_token_when_options_were_given(client: Client, kind: str) -> None:
    fill(client, kind, 2)
    method = f"Get{kind.title()}sByType"
    assert not call(client, method, type_name="T").HasField("next_page_token")
    found = call(client, method, type_name="T", options={})
    assert found.HasField("next_page_token")
    assert found.next_page_token == ""


@pytest.mark.parametrize(
    "query",
    [
        "1e308 * 10.0 > 1.0",
        "properties.d.double_value * 1e308 > 1.0",
        "1.0 / 1e-308 / 1e-308 > 1",
        "id * 9223372036854775807 * 9223372036854775807 * 9223372036854775807 * 9223372036854775807 > 0",
    ],
)
def test_what_a_database_cannot_compute_is_no_fault_of_the_server_in_any_list(client: Client, query: str) -> None:
    type_id = put_type(client, "execution", "T", {"d": mlmd.DOUBLE})
    (execution,) = put(client, "execution", node("execution", type_id=type_id, declared={"d": 1e300}))
    (context,) = put(client, "context", node("context", type_id=put_type(client, "context"), name="c"))
    call(
        client,
        "PutAttributionsAndAssociations",
        associations=[{"execution_id": execution, "context_id": context}],
    )

    def listed(name: str, **fields: Any) -> list[int] | None:
        try:
            return [found.id for found in call(client, name, options={"filter_query": query}, **fields).executions]
        except InvalidArgument:
            return None

    found = [
        listed("GetExecutions"),
        listed("GetExecutionsByType", type_name="T"),
        listed("GetExecutionsByContext", context_id=context),
    ]
    assert found in ([[execution]] * 3, [None] * 3)
