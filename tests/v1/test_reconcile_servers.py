"""Databases that hand out ids before a transaction commits: what somebody else commits late is found all the same."""

from collections.abc import Iterator

import pytest

from mdstore.client.client import Client
from mdstore.errors import AlreadyExists
from mdstore.store.store import Store
from tests.databases.fixtures import EmptyStores
from tests.databases.servers import Server
from tests.store.log import followed, of_log, of_tables
from tests.store.test_groups import held_up, sent
from tests.store.writing import Nodes, call, event, put

pytestmark = pytest.mark.postgresql


@pytest.fixture
def client(empty_stores: EmptyStores) -> Client:
    return empty_stores.client("postgresql")


@pytest.fixture
def foreign(postgresql: Server, client: Client) -> Iterator["psycopg.Connection[tuple[int, ...]]"]:  # noqa: F821
    import psycopg
    from sqlalchemy.engine import make_url

    url = make_url(client._store.database.engine.url)  # type: ignore[attr-defined]  # a client in this process
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        yield connection


def test_a_transaction_that_commits_behind_ours_is_found(client: Client, foreign: "Iterator[object]") -> None:
    store: Store = client._store  # type: ignore[attr-defined]
    ours = Nodes(client)
    execute = foreign.execute  # type: ignore[attr-defined]

    def insert(table: str, columns: str, values: str) -> int:
        ((made,),) = execute(f"INSERT INTO {table} ({columns}) VALUES ({values}) RETURNING id").fetchall()
        return int(made)

    times = "create_time_since_epoch, last_update_time_since_epoch"
    artifact = insert("artifact", f"type_id, uri, {times}", f"{ours.types['artifact']}, 'late', 1, 1")
    context = insert("context", f"type_id, name, {times}", f"{ours.types['context']}, 'late', 1, 1")
    insert(
        "event", "artifact_id, execution_id, type, milliseconds_since_epoch", f"{artifact}, {ours.executions[0]}, 3, 1"
    )
    insert("attribution", "context_id, artifact_id", f"{context}, {artifact}")
    execute(f"INSERT INTO parentcontext VALUES ({context}, {ours.contexts[0]})")
    later = put(client, "artifact", *(ours.new("artifact") for _ in range(3)))
    assert min(later) > artifact
    for _ in range(2):
        store.reconcile()
    assert not [commit for commit in followed(client) if commit.origin == "external"]
    foreign.commit()  # type: ignore[attr-defined]
    for _ in range(2):
        store.reconcile()
    found = [commit.changes for commit in followed(client) if commit.origin == "external"]
    assert [image.uri for change in found for image in change.artifacts] == ["late"]
    assert [image.name for change in found for image in change.contexts] == ["late"]
    assert [len(change.events) + len(change.attributions) + len(change.parent_contexts) for change in found].count(
        1
    ) == 3
    assert of_log(client) == of_tables(client)


def test_what_was_found_late_is_found_again_when_the_group_it_was_found_in_is_rolled_back(
    client: Client, foreign: "Iterator[object]"
) -> None:
    store: Store = client._store  # type: ignore[attr-defined]
    ours = Nodes(client)
    execute = foreign.execute  # type: ignore[attr-defined]
    execute(
        "INSERT INTO event (artifact_id, execution_id, type, milliseconds_since_epoch) "
        f"VALUES ({ours.artifacts[0]}, {ours.executions[0]}, 3, 1)"
    )
    call(client, "PutEvents", events=[event(ours.artifacts[1], ours.executions[1])])
    store.reconcile()
    foreign.commit()  # type: ignore[attr-defined]
    # The sweep of this group finds the event; then the database refuses one of two nodes of the same name.
    same = sent("PutArtifacts", artifacts=[ours.new("artifact", name="same")])
    with held_up(client):
        swept = store._committer.reconcile()
        others = [store.submit(store.find(path), request) for path, request in (same, same)]
    swept.result(30)
    assert [type(done.exception(30)) for done in others] == [type(None), AlreadyExists]
    assert of_log(client) == of_tables(client)
