"""Rows that somebody else commits below ids that we have seen: found after a restart, a rollback, and many at once."""

from collections.abc import Iterator
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import MetadataError
from mdstore.store.store import Store
from mdstore.store.transaction import Transaction
from mdstore.wire import service
from tests.databases.servers import PostgreSQLServer, Server
from tests.databases.test_foreign_writers import connected
from tests.databases.test_reliability import check_log
from tests.store.log import followed, of_log, of_tables
from tests.store.test_groups import held_up
from tests.store.writing import Nodes, event, put


@pytest.fixture
def url(server: Server, database: str) -> str:
    return server.url(database)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with mdstore.connect(url) as found:
        yield found


@pytest.fixture
def ours(client: Client) -> Nodes:
    return Nodes(client)


@pytest.fixture
def other(server: Server, database: str, ours: Nodes) -> Iterator[Any]:
    """A driver's connection of somebody else, in a transaction."""
    with connected(server, database) as found:
        yield found


def store_of(client: Client) -> Store:
    store: Store = client._store  # type: ignore[attr-defined]  # a client in this process
    return store


def insert(server: Server, other: Any, ours: Nodes, count: int = 1) -> None:
    """Artifacts, each with an event; not committed."""
    row = f"({ours.types['artifact']}, 'late', 1, 1)"
    columns = "type_id, uri, create_time_since_epoch, last_update_time_since_epoch"
    cursor = other.cursor()
    insertion = f"INSERT INTO Artifact ({columns}) VALUES {','.join([row] * count)}"
    if isinstance(server, PostgreSQLServer):
        cursor.execute(f"{insertion} RETURNING id")
        ids = [row_id for (row_id,) in cursor.fetchall()]
    else:
        cursor.execute(insertion)
        ids = list(range(cursor.lastrowid, cursor.lastrowid + count))
    columns = "artifact_id, execution_id, type, milliseconds_since_epoch"
    rows = (f"({row_id}, {ours.executions[0]}, 3, 1)" for row_id in ids)
    cursor.execute(f"INSERT INTO Event ({columns}) VALUES {','.join(rows)}")


def pass_by(client: Client, ours: Nodes) -> None:
    """Ours are behind theirs and in the log, and so are the marks."""
    (made,) = put(client, "artifact", ours.new("artifact"))
    client.put_events(service.PutEventsRequest(events=[event(made, ours.executions[0])]))
    store_of(client).reconcile()


def assert_found(client: Client, count: int = 1) -> None:
    external = [commit.changes for commit in followed(client) if commit.origin == "external"]
    assert [image.uri for change in external for image in change.artifacts] == ["late"] * count
    assert sum(len(change.events) for change in external) == count
    assert of_log(client) == of_tables(client)


def test_by_a_process_that_never_saw_the_gap(server: Server, client: Client, ours: Nodes, other: Any, url: str) -> None:
    insert(server, other, ours)
    pass_by(client, ours)
    client.close()
    other.commit()
    for _ in range(2):
        with mdstore.connect(url) as again:
            assert_found(again)
    check_log(url)


def test_by_a_server_that_goes_on_when_the_one_that_saw_the_gap_is_gone(
    server: Server, client: Client, ours: Nodes, other: Any, url: str
) -> None:
    with mdstore.connect(url) as second:
        insert(server, other, ours)
        pass_by(client, ours)
        store_of(second).reconcile()
        client.close()
        other.commit()
        for _ in range(2):
            store_of(second).reconcile()
        assert_found(second)


def test_by_a_sweep_whose_transaction_was_rolled_back_once(
    server: Server, client: Client, ours: Nodes, other: Any
) -> None:
    def fail(tx: Transaction, _request: object) -> None:
        tx.text_rows("SELECT 1 FROM there_is_no_such_table")

    insert(server, other, ours)
    pass_by(client, ours)
    other.commit()
    committer = store_of(client)._committer
    with held_up(client):
        # Whose failure it is, is not known before all is done again with care.
        sweep, failing = committer.reconcile(), committer.submit(fail, None)
    assert isinstance(failing.exception(60), MetadataError)
    sweep.result(60)
    store_of(client).reconcile()
    assert_found(client)


def test_many_at_once(server: Server, client: Client, ours: Nodes, other: Any) -> None:
    insert(server, other, ours, 12_000)
    pass_by(client, ours)
    other.commit()
    for _ in range(2):
        store_of(client).reconcile()
    assert_found(client, 12_000)
