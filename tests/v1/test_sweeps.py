"""Sweeps beside other servers of ours, and beside clocks that are wrong: nothing is lost, or called another's."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.client.retry import NEVER
from mdstore.store import commits as committing
from mdstore.store.chores import doing_chores
from mdstore.store.local import LocalClient
from mdstore.store.store import Store
from mdstore.store.transaction import Transaction
from mdstore.wire import changes, mlmd
from tests.store.log import followed, of_log, of_tables
from tests.store.writing import Nodes, call, node, put, put_type

HOUR_MS = 3_600_000


def external(client: Client) -> list[changes.Commit]:
    return [commit for commit in followed(client) if commit.origin == "external"]


def update(client: Client, node_id: int, n: int) -> None:
    """An update of another millisecond than the one before."""
    time.sleep(0.005)
    put(client, "artifact", node("artifact", id=node_id, custom={"n": n}))


@contextmanager
def somebody_else(url: str) -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30) as connection:
        yield connection
    connection.close()


def insert(connection: sqlite3.Connection, type_id: int, uri: str) -> int:
    now = time.time_ns() // 1_000_000
    columns = "type_id, uri, create_time_since_epoch, last_update_time_since_epoch"
    row_id = connection.execute(
        f"INSERT INTO Artifact ({columns}) VALUES (?, ?, ?, ?)", (type_id, uri, now, now)
    ).lastrowid
    assert row_id is not None
    return row_id


def touch(connection: sqlite3.Connection, node_id: int, uri: str, at_ms: int) -> None:
    connection.execute(
        "UPDATE Artifact SET uri = ?, last_update_time_since_epoch = ? WHERE id = ?", (uri, at_ms, node_id)
    )


def test_what_another_server_of_ours_wrote_is_not_somebody_elses(any_url: str) -> None:
    with Store.open(any_url) as one, Store.open(any_url) as other:
        client, its = LocalClient(one, NEVER), LocalClient(other, NEVER)
        ours = Nodes(client)
        for n in range(3):
            update(client, ours.artifacts[0], n)
            update(its, ours.artifacts[1], n)
            put_type(client, "artifact", "T", {f"p{n}": mlmd.INT}, can_add_fields=True, can_omit_fields=True)
            for store in (one, other, one):
                store.reconcile()
        assert external(client) == []
        assert of_log(client) == of_tables(client)


def test_what_we_wrote_between_two_sweeps_is_not_somebody_elses(url: str) -> None:
    with mdstore.connect(url) as client, somebody_else(url) as connection:
        store: Store = client._store  # type: ignore[attr-defined]  # a client in this process
        ours = Nodes(client)
        made = [insert(connection, ours.types["artifact"], "theirs")]
        store.reconcile()
        for n in range(3):
            update(client, ours.artifacts[0], n)
            store.reconcile()  # finds the database as it was
        made.append(insert(connection, ours.types["artifact"], "theirs"))
        store.reconcile()
        assert [image.id for commit in external(client) for image in commit.changes.artifacts] == made
        assert of_log(client) == of_tables(client)


def test_a_clock_that_is_ahead_hides_nobodys_updates(url: str) -> None:
    with mdstore.connect(url) as client, somebody_else(url) as connection:
        store: Store = client._store  # type: ignore[attr-defined]
        ours = Nodes(client)
        now = time.time_ns() // 1_000_000
        touch(connection, ours.artifacts[0], "from an hour ahead", now + HOUR_MS)
        store.reconcile()
        touch(connection, ours.artifacts[1], "from now", now + 100)
        store.reconcile()
        found = [image.uri for commit in external(client) for image in commit.changes.artifacts]
        assert found == ["from an hour ahead", "from now"]
        assert of_log(client) == of_tables(client)
    with mdstore.connect(url) as client, somebody_else(url) as connection:
        touch(connection, ours.artifacts[1], "from now, again", now + 200)
        client._store.reconcile()  # type: ignore[attr-defined]
        assert of_log(client) == of_tables(client)
        assert len(external(client)) == 3


def test_a_clock_that_is_put_back_hides_nobodys_updates(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with mdstore.connect(url) as client, somebody_else(url) as connection:
        store: Store = client._store  # type: ignore[attr-defined]
        ours = Nodes(client)
        store.reconcile()
        then = time.time_ns() // 1_000_000 - HOUR_MS
        monkeypatch.setattr(committing, "now_ms", lambda: then)
        touch(connection, ours.artifacts[1], "from then", then)
        store.reconcile()
        assert [image.uri for commit in external(client) for image in commit.changes.artifacts] == ["from then"]
        assert of_log(client) == of_tables(client)


def test_a_new_context_of_theirs_costs_no_look_at_all_links(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Transaction] = []

    class Remembered(Transaction):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.append(self)

    monkeypatch.setattr(committing, "Transaction", Remembered)
    with mdstore.connect(url) as client, somebody_else(url) as connection:
        store: Store = client._store  # type: ignore[attr-defined]
        ours = Nodes(client)
        spent: list[int] = []
        children = put(client, "context", *(ours.new("context", name=f"c/{n}") for n in range(2500)))
        for n, linked in enumerate((children[:1], children[1:])):
            links = [{"child_id": child, "parent_id": ours.contexts[0]} for child in linked]
            call(client, "PutParentContexts", parent_contexts=links)
            store.reconcile()
            columns = "type_id, name, create_time_since_epoch, last_update_time_since_epoch"
            connection.execute(f"INSERT INTO Context ({columns}) VALUES (?, ?, 1, 1)", (ours.types["context"], f"t{n}"))
            connection.execute(
                "INSERT INTO ParentContext VALUES ((SELECT max(id) FROM Context), ?)", (ours.contexts[0],)
            )
            seen.clear()
            store.reconcile()
            spent.append(seen[-1].statements)
        assert spent[0] == spent[1]
        found = [link for commit in external(client) for link in commit.changes.parent_contexts]
        assert [link.parent_id for link in found] == [ours.contexts[0]] * 2
        assert of_log(client) == of_tables(client)


def test_chores_go_on_after_a_fault(url: str) -> None:
    class Faulty(Store):
        """A store whose first sweep meets a fault of ours."""

        sweeps = 0

        def reconcile(self) -> None:
            self.sweeps += 1
            if self.sweeps == 2:
                raise ZeroDivisionError
            super().reconcile()

    with Faulty.open(url) as store, somebody_else(url) as connection, doing_chores(store, 0.02):
        client = LocalClient(store, NEVER)
        type_id = put_type(client, "artifact")
        until = time.monotonic() + 30
        while store.sweeps < 3:
            assert time.monotonic() < until, "nobody sweeps any more"
            time.sleep(0.01)
        insert(connection, type_id, "theirs")
        while not external(client):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_what_they_wrote_is_commits_and_messages_of_some_size(url: str) -> None:
    with mdstore.connect(url) as client, somebody_else(url) as connection:
        store: Store = client._store  # type: ignore[attr-defined]
        ours = Nodes(client)
        for n in range(6):
            made = insert(connection, ours.types["artifact"], f"theirs {n}")
            columns = "artifact_id, name, is_custom_property, string_value"
            connection.execute(f"INSERT INTO ArtifactProperty ({columns}) VALUES (?, 'x', 1, ?)", (made, "x" * 700_000))
        store.reconcile()
        sizes = [commit.changes.ByteSize() for commit in external(client)]
        assert [round(size, -5) for size in sizes] == [1_400_000] * 3
        seq = store.head_seq()
        update(client, ours.artifacts[0], 1)
        assert max(page.ByteSize() for page in client.snapshot(seq)) < 2_000_000
        store.compact(seq)
        assert max(commit.changes.ByteSize() for commit in followed(client)) < 3_000_000
        assert of_log(client) == of_tables(client)
