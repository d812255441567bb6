"""A database that was filled before there was a log: taken in page by page, killed meanwhile, while others write."""

import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from sqlalchemy import insert, inspect, update
from sqlalchemy.schema import DropIndex, DropTable

import mdstore
from mdstore.client.client import Client
from mdstore.client.retry import NEVER
from mdstore.errors import FailedPrecondition, NotFound, OutOfRange, Unavailable
from mdstore.store import bootstrapping, tables, verification
from mdstore.store.database import open_database
from mdstore.store.local import LocalClient
from mdstore.store.store import Store, bootstrap, reading
from mdstore.wire import mlmd, nodes
from tests.databases.fixtures import ENGINES
from tests.store.log import LINKS, followed, of_log, of_tables
from tests.store.writing import Nodes, call, event, get_all, get_one, node, put, put_type

_NUMBERS = count()


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[str]:
    """A database of each kind that is not there yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/metadata.db"
        return
    server = request.getfixturevalue(request.param)
    name = f"bootstrap{next(_NUMBERS)}"
    yield server.url(name)
    server.execute("postgres" if request.param == "postgresql" else "", f"DROP DATABASE {name}")


def fill(url: str, count: int) -> None:
    """Nodes of all kinds and links between them, and then nothing that is ours but what MLMD's library would leave."""
    with mdstore.connect(url) as client:
        known = Nodes(client)
        for kind in ("artifact", "execution", "context"):
            put(client, kind, *(known.new(kind, name=f"old{n}", custom={"n": n}) for n in range(count)))
        ids = {kind: [node.id for node in all_of(client, kind)] for kind in ("artifact", "execution", "context")}
        pairs = list(zip(ids["artifact"], ids["execution"], ids["context"], strict=False))
        call(
            client, "PutEvents", events=[event(a, e, mlmd.Event.OUTPUT, "out", n) for n, (a, e, _) in enumerate(pairs)]
        )
        call(
            client,
            "PutAttributionsAndAssociations",
            attributions=[{"artifact_id": a, "context_id": c} for a, _, c in pairs],
            associations=[{"execution_id": e, "context_id": c} for _, e, c in pairs],
        )
        contexts = ids["context"]
        links = [{"child_id": child, "parent_id": contexts[0]} for child in contexts[1:]]
        call(client, "PutParentContexts", parent_contexts=links)
    forget(url)


def all_of(client: Client, kind: str) -> Any:
    return getattr(get_all(client, kind), f"{kind}s")


def forget(url: str) -> None:
    with open_database(url) as database, database.engine.connect() as connected:
        connection = connected.execution_options(isolation_level="AUTOCOMMIT")
        for table in tables.OUR_TABLES:
            connection.execute(DropTable(table))
        for index in tables.MISSING_INDEXES:
            connection.execute(DropIndex(index))


def once(found: dict[str, Any]) -> dict[str, Any]:
    """A link that came twice is one."""
    for field in LINKS:
        found[field] = sorted({link.SerializeToString(deterministic=True) for link in found[field]})
    return found


def assert_whole(url: str) -> None:
    with Store.open(url) as store:
        with reading(store.database) as tx:
            found = verification.verify(tx)
            assert bootstrapping.state(tx).is_done
        assert not found.breaks
        with LocalClient(store, NEVER) as client:
            assert once(of_log(client)) == once(of_tables(client))


LIFE = """
import os, signal, sys
from mdstore.store.store import Store, bootstrap
url, steps, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]
store = Store.open(url, bootstraps_later=True)
step = store._bootstrap.step
def counted(tx, request):
    global steps
    done = step(tx, request)
    steps -= 1
    if steps == 0 and where == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    return done
store._bootstrap.step = counted
if where == "after":
    store.on_commit(lambda _: steps <= 0 and os.kill(os.getpid(), signal.SIGKILL))
bootstrap(store)
store.close()
"""
"""A process that is killed at one of its steps, before it is committed or after."""


def test_killed_again_and_again_it_goes_on_and_ends_complete(url: str) -> None:
    fill(url, 300)
    dice = random.Random(1)
    kills, last = 0, -1
    while True:
        where = dice.choice(("before", "after"))
        arguments = (url, str(dice.randint(1, 4)), where)
        ended = subprocess.run([sys.executable, "-c", LIFE, *arguments], timeout=120, check=False)
        if ended.returncode == 0:
            break
        assert ended.returncode == -9
        kills += 1
        assert kills < 100, "it makes no progress"
        if where == "after":
            with open_database(url) as database, reading(database) as tx:
                newest = verification.verify(tx).head_seq
            assert newest > last, "what was committed is not done again"
            last = newest
    assert kills >= 5
    with Store.open(url) as store, LocalClient(store, NEVER) as client:
        # Nobody else wrote: each page is there once.
        assert of_log(client) == of_tables(client)
        assert {commit.origin for commit in followed(client)} == {"bootstrap"}
    assert_whole(url)


def foreign(url: str, name: str, type_id: int, old: int) -> None:
    """As another program: a new artifact, and an old one is changed; nothing of it in the log."""
    # Not one of the store's own connections: they would come back from here with another isolation level.
    with open_database(url) as database, database.engine.connect() as connected:
        connection = connected.execution_options(isolation_level="AUTOCOMMIT")
        now = tables.ARTIFACT.c
        times = {"create_time_since_epoch": 2**40, "last_update_time_since_epoch": 2**41}
        connection.execute(insert(tables.ARTIFACT).values(type_id=type_id, name=name, uri="theirs", **times))
        connection.execute(
            update(tables.ARTIFACT)
            .where(now.id == old)
            .values(uri=name, last_update_time_since_epoch=2**41 + len(name) * 1000 + old)
        )


def test_what_is_written_meanwhile_by_us_and_by_others_is_in_the_log_at_the_end(url: str) -> None:
    fill(url, 200)
    with Store.open(url, bootstraps_later=True) as store, LocalClient(store, NEVER) as client:
        type_id = put_type(client, "artifact")
        old = [node.id for node in all_of(client, "artifact") if node.name.startswith("old")]
        executions = [node.id for node in all_of(client, "execution") if node.name.startswith("old")]
        contexts = [node.id for node in all_of(client, "context") if node.name.startswith("old")]
        dice = random.Random(2)
        new: list[int] = []
        for step in range(100):
            if store.bootstrap_step().is_done:
                break
            new += put(client, "artifact", node("artifact", type_id=type_id, name=f"new{step}"))
            changed = get_one(client, "artifact", dice.choice(old))
            changed.custom_properties["step"].int_value = step
            put(client, "artifact", changed)
            call(client, "PutEvents", events=[event(new[-1], dice.choice(executions), mlmd.Event.INPUT)])
            call(client, "PutEvents", events=[event(dice.choice(old), dice.choice(executions), mlmd.Event.INPUT, "x")])
            attributions = [{"artifact_id": dice.choice(old), "context_id": dice.choice(contexts)}]
            call(client, "PutAttributionsAndAssociations", attributions=attributions)
            gone = old.pop(dice.randrange(len(old)))
            client.delete_nodes(nodes.DeleteNodesRequest(nodes=[nodes.NodeRef(kind=nodes.ARTIFACT, id=gone)]))
            foreign(url, f"theirs{step}", type_id, dice.choice(old))
            if step % 3 == 0:
                store.reconcile()
        else:
            raise AssertionError("it never ended")
        assert step > 5
        for made in new:
            (entry, *later) = client.history(nodes.HistoryRequest(kind=nodes.ARTIFACT, id=made)).entries
            assert (entry.created, [entry.origin for entry in later if entry.created]) == (True, [])
        store.reconcile()
        assert once(of_log(client)) == once(of_tables(client))
    assert_whole(url)


def test_while_it_goes_on_nothing_is_said_that_is_not_known(url: str) -> None:
    fill(url, 120)
    with Store.open(url, bootstraps_later=True) as store, LocalClient(store, NEVER) as client:
        last = all_of(client, "artifact")[-1]
        request = nodes.HistoryRequest(kind=nodes.ARTIFACT, id=last.id)
        with pytest.raises(Unavailable, match="does not tell of this artifact yet"):
            client.history(request)
        with pytest.raises(NotFound):
            client.history(nodes.HistoryRequest(kind=nodes.ARTIFACT, id=10**6))
        expected = {"node": {"kind": nodes.ARTIFACT, "id": last.id}, "seq": 1}
        with pytest.raises(FailedPrecondition, match="changed in none that the log has yet"):
            client.write(nodes.WriteRequest(artifacts=[last], expected=[expected]))
        store.bootstrap_step()
        with pytest.raises(OutOfRange):
            list(client.snapshot(1))
        with pytest.raises(FailedPrecondition, match="not all in the log yet"):
            store.compact(1)
        # The newest position is what the tables hold, in the log or not.
        assert last.id in of_tables(client)["artifacts"]
        bootstrap(store)
        assert len(client.history(request).entries) == 1
        end = store.head_seq()
        put(client, "artifact", node("artifact", type_id=put_type(client, "artifact"), name="later"))
        then = {page.changes.artifacts[0].id for page in client.snapshot(end) if page.changes.artifacts}
        assert then
        with pytest.raises(OutOfRange):
            list(client.snapshot(1))


def test_a_server_answers_reads_and_writes_before_all_is_taken_in(url: str) -> None:
    fill(url, 60)
    with Store.open(url, bootstraps_later=True) as store, LocalClient(store, NEVER) as client:
        assert all_of(client, "artifact")
        assert put(client, "artifact", node("artifact", type_id=put_type(client, "artifact"), name="first"))
        with reading(store.database) as tx:
            assert not bootstrapping.state(tx).is_done
    assert_whole(url)


def test_an_index_that_is_missing_is_made_when_the_database_is_opened_again(url: str) -> None:
    with mdstore.connect(url):
        pass
    index = tables.MISSING_INDEXES[0]
    with open_database(url) as database, database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(DropIndex(index))
    with open_database(url) as database, database.engine.connect() as connection:
        assert index.table is not None
        there = inspect(connection).get_indexes(index.table.name.lower() if "postgresql" in url else index.table.name)
        assert index.name in {found["name"] for found in there}
