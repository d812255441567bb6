"""Databases of MLMD's older schemas on servers: made by the library itself, upgraded by us and by it."""

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, event

import mdstore
from mdstore.errors import Aborted, FailedPrecondition, Unavailable
from mdstore.store import tables
from mdstore.store.upgrade import plan_upgrade, upgrade
from mdstore.wire import service
from tests.databases.migrating import OldDatabases, columns_of, contents, copied, dropped, rows
from tests.databases.servers import Server
from tests.databases.test_reliability import check_log

VERSIONS = range(10)
_COPIES = count()


@pytest.fixture(scope="session")
def on_mariadb(mariadb: Server) -> OldDatabases:
    """Databases of all older versions."""
    return OldDatabases(mariadb, "mlmd", VERSIONS, VERSIONS)


@pytest.fixture(scope="session")
def on_postgresql(postgresql: Server) -> OldDatabases:
    """Of the versions that the library knows there; its own upgrades from 1 to 8 fail or leave times of 32 bits."""
    return OldDatabases(postgresql, "mlmd", VERSIONS[1:], VERSIONS[9:])


@pytest.fixture
def copy(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Gives the name of a fresh copy of one of the old databases, and drops it at the end."""
    made: list[tuple[Server, str]] = []

    def make(old: OldDatabases, version: int) -> str:
        name = f"copy{next(_COPIES)}"
        copied(old.server, f"{old.name}{version}", name)
        made.append((old.server, name))
        return name

    yield make
    for server, name in made:
        dropped(server, name)


def expected(old: OldDatabases, version: int) -> dict[str, list[dict[str, Any]]]:
    """What the old database holds, in the columns of version 10."""
    before = rows(old.server, f"{old.name}{version}")
    found: dict[str, list[dict[str, Any]]] = {}
    for table in tables.MLMD_TABLES:
        blank = {column.name: 0 if column.server_default is not None else None for column in table.columns}
        found[table.name] = [
            blank
            | {name: value for name, value in row.items() if name in blank}
            | ({"type_kind": row["is_artifact_type"]} if "is_artifact_type" in row else {})
            for row in before.get(table.name, [])
        ]
    found["MLMDEnv"] = [{"schema_version": 10}]
    return found


@pytest.mark.judge
@pytest.mark.mariadb
@pytest.mark.parametrize("version", VERSIONS)
def test_on_mariadb_an_upgrade_ends_where_the_librarys_own_ends(
    on_mariadb: OldDatabases, copy: Any, version: int
) -> None:
    server, name = on_mariadb.server, copy(on_mariadb, version)

    done = upgrade(server.url(name))

    assert done is not None
    assert done.from_version == version
    ours, theirs = contents(server, name), contents(server, f"{on_mariadb.name}{version}l")
    assert ours.keys() == theirs.keys()
    for table in ours:
        assert ours[table] == theirs[table], table
    assert {name for (name,) in server.execute(name, "SHOW TABLES")} == {table.name for table in tables.MLMD_TABLES}
    # And the columns stand in the order of a new database.
    for table, columns in columns_of(server, name).items():
        assert columns == columns_of(server, f"{on_mariadb.name}10")[table]


@pytest.mark.judge
@pytest.mark.postgresql
@pytest.mark.parametrize("version", VERSIONS[1:])
def test_on_postgresql_an_upgrade_ends_with_a_schema_as_of_a_new_database_and_the_rows_that_were_there(
    on_postgresql: OldDatabases, copy: Any, version: int
) -> None:
    server, name = on_postgresql.server, copy(on_postgresql, version)

    done = upgrade(server.url(name))

    assert done is not None
    assert done.from_version == version
    ours, new = contents(server, name), contents(server, f"{on_postgresql.name}10")
    wanted = expected(on_postgresql, version)
    assert ours.keys() == new.keys()
    for table, (shape, found) in ours.items():
        assert shape == new[table][0], table
        assert sorted(found, key=repr) == sorted(wanted[table], key=repr), table
    assert server.execute(name, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'mdstore%'") == [(0,)]
    # The library's own sequences are back at the beginning after its downgrade to 8.
    made = server.execute(name, "INSERT INTO event (artifact_id, execution_id, type) VALUES (1, 5, 3) RETURNING id")
    assert made == [(max(row["id"] for row in wanted["Event"]) + 1,)]


@pytest.mark.judge
@pytest.mark.postgresql
def test_on_postgresql_the_librarys_own_upgrade_from_9_keeps_the_same(on_postgresql: OldDatabases, copy: Any) -> None:
    server, name = on_postgresql.server, copy(on_postgresql, 9)

    upgrade(server.url(name))

    # But for the names of keys, and conditions of indexes, which its own new databases do not have there.
    ours, theirs = contents(server, name), contents(server, f"{on_postgresql.name}9l")
    assert ours.keys() == theirs.keys()
    for table, (shape, found) in ours.items():
        assert shape["columns"] == theirs[table][0]["columns"], table
        assert found == theirs[table][1], table


@pytest.fixture(
    params=[
        pytest.param("on_postgresql", marks=pytest.mark.postgresql),
        pytest.param("on_mariadb", marks=pytest.mark.mariadb),
    ]
)
def old(request: pytest.FixtureRequest) -> OldDatabases:
    """The old databases of each server."""
    found: OldDatabases = request.getfixturevalue(request.param)
    return found


@pytest.mark.judge
@pytest.mark.parametrize("version", [1, 6])
def test_an_upgraded_database_opens_and_shows_what_it_held(old: OldDatabases, copy: Any, version: int) -> None:
    name = copy(old, version)
    url = old.server.url(name)
    with pytest.raises(FailedPrecondition, match="mdstore upgrade"):
        mdstore.connect(url)
    upgrade(url)

    with mdstore.connect(url) as store:
        artifacts = store.get_artifacts(service.GetArtifactsRequest()).artifacts
        events = store.get_events_by_artifact_ids(
            service.GetEventsByArtifactIDsRequest(artifact_ids=[found.id for found in artifacts])
        ).events
        (new,) = store.put_artifacts(service.PutArtifactsRequest(artifacts=[{"type_id": 10}])).artifact_ids

    assert [found.uri for found in artifacts] == [f"s3://bucket/{number}" for number in range(5)]
    assert [found.properties["share"].double_value for found in artifacts] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [[step.key or step.index for step in event.path.steps] for event in events] == [
        ["model", number] for number in range(5)
    ]
    assert new == max(found.id for found in artifacts) + 1
    check_log(url)


@pytest.mark.judge
def test_a_dry_run_changes_nothing(old: OldDatabases, copy: Any) -> None:
    name = copy(old, 7)
    before = contents(old.server, name)

    plan = plan_upgrade(old.server.url(name))

    assert plan is not None
    assert [step.partition(":")[0] for step in plan.steps] == ["8", "9", "10"]
    assert plan.rows["Artifact"] == 5
    assert contents(old.server, name) == before


@pytest.mark.judge
def test_of_duplicate_events_the_newest_stays_with_its_path(old: OldDatabases, copy: Any) -> None:
    name = copy(old, 7)
    no = "false" if old.server.url("").startswith("postgresql") else "0"
    old.server.execute(
        name,
        "INSERT INTO Event SELECT 100, artifact_id, execution_id, type, 42 FROM Event WHERE id = 1",
        f"INSERT INTO EventPath VALUES (100, {no}, NULL, 'newer'), (100, {no}, NULL, 'and'), (100, {no}, NULL, 'last')",
    )

    plan = plan_upgrade(old.server.url(name))
    upgrade(old.server.url(name))

    assert plan is not None
    assert plan.duplicate_events == 1
    kept = old.server.execute(name, "SELECT id, milliseconds_since_epoch FROM Event WHERE artifact_id = 1")
    steps = old.server.execute(name, "SELECT event_id, step_key FROM EventPath WHERE event_id IN (1, 100)")
    assert kept == [(100, 42)]
    assert steps == [(100, "newer"), (100, "and"), (100, "last")]


@pytest.mark.judge
def test_ids_that_were_given_are_not_given_again(old: OldDatabases, copy: Any) -> None:
    name = copy(old, 9)
    returning = "INSERT INTO Artifact (type_id) VALUES (10) RETURNING id"
    ((given,),) = old.server.execute(name, returning)
    old.server.execute(name, f"DELETE FROM Artifact WHERE id = {given}")

    upgrade(old.server.url(name))

    assert old.server.execute(name, returning) == [(given + 1,)]


@contextmanager
def before_statements(do: Callable[[str], None]) -> Iterator[None]:
    """Call `do` with the text of each statement before it runs."""

    def listener(_connection: object, _cursor: object, text: str, *_: object) -> None:
        do(text)

    event.listen(Engine, "before_cursor_execute", listener)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", listener)


def _killed(url: str, statement: int) -> None:
    """Upgrade, and die before the `statement`-th of all statements."""
    numbers = count(1)
    with before_statements(lambda _: os.kill(os.getpid(), signal.SIGKILL) if next(numbers) == statement else None):
        upgrade(url)


@pytest.mark.judge
def test_an_upgrade_that_is_killed_at_any_statement_is_finished_by_the_next(old: OldDatabases, copy: Any) -> None:
    name, whole = copy(old, 2), copy(old, 2)
    texts: list[str] = []
    with before_statements(texts.append):
        upgrade(old.server.url(whole))
    # All tables are made alike: what is done to one of them, and everything that is done to all.
    points = [
        number
        for number, text in enumerate(texts, start=1)
        if re.search(r"(?i)\b\w*EventPath\b|schema mdstore|LOCK|MLMDEnv|^(BEGIN|SET|COMMIT|RENAME|DROP)", text)
    ]
    # A process that is forked from one that has imported all of it begins in no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    for point in points:
        process = context.Process(target=_killed, args=(old.server.url(name), point))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, texts[point - 1]
        if plan_upgrade(old.server.url(name)) is None:
            # It was done but for the old tables; the next one begins with the database as it was.
            upgrade(old.server.url(name))
            assert contents(old.server, name) == contents(old.server, whole), texts[point - 1]
            dropped(old.server, name)
            copied(old.server, f"{old.name}2", name)

    upgrade(old.server.url(name))
    assert contents(old.server, name) == contents(old.server, whole)


@pytest.mark.judge
@pytest.mark.mariadb
def test_what_a_server_that_fell_over_has_swapped_halfway_is_put_back(on_mariadb: OldDatabases, copy: Any) -> None:
    server, name = on_mariadb.server, copy(on_mariadb, 8)
    server.execute(
        name,
        "CREATE TABLE mdstore_upgrade_Type LIKE Type",
        "CREATE TABLE mdstore_upgrade_Artifact LIKE Artifact",
        "CREATE TABLE mdstore_upgrade_Event LIKE Event",
        "RENAME TABLE Type TO mdstore_old_Type, mdstore_upgrade_Type TO Type",
        "RENAME TABLE Artifact TO mdstore_old_Artifact",
    )

    upgrade(server.url(name))

    assert contents(server, name) == contents(server, f"{on_mariadb.name}8l")
    assert {found for (found,) in server.execute(name, "SHOW TABLES")} == {table.name for table in tables.MLMD_TABLES}


@pytest.mark.judge
@pytest.mark.mariadb
def test_who_writes_during_an_upgrade_on_mariadb_loses_nothing(on_mariadb: OldDatabases, copy: Any) -> None:
    server, name = on_mariadb.server, copy(on_mariadb, 6)

    def write(table: str) -> None:
        if table == "Event":
            server.execute(name, "UPDATE Artifact SET last_update_time_since_epoch = 1 + last_update_time_since_epoch")

    with pytest.raises(Aborted, match="somebody wrote to Artifact"):
        upgrade(server.url(name), write)
    written = rows(server, name)["Artifact"]
    upgrade(server.url(name))

    def updated(found: list[dict[str, Any]]) -> set[tuple[int, int]]:
        return {(row["id"], row["last_update_time_since_epoch"]) for row in found}

    assert updated(rows(server, name)["Artifact"]) == updated(written)


@pytest.mark.judge
@pytest.mark.postgresql
def test_who_uses_the_tables_on_postgresql_is_waited_for_and_then_named(
    on_postgresql: OldDatabases, copy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    from mdstore.store import rebuilding

    monkeypatch.setattr(rebuilding, "LOCK_S", 1)
    server, name = on_postgresql.server, copy(on_postgresql, 6)
    with psycopg.connect(server.url(name)) as connection:
        connection.execute("SELECT * FROM artifact")
        with pytest.raises(Aborted, match="lock timeout"):
            upgrade(server.url(name))
    assert upgrade(server.url(name)) is not None


def test_a_current_database_needs_no_upgrade(server: Server, database: str) -> None:
    mdstore.connect(server.url(database)).close()
    assert plan_upgrade(server.url(database)) is None
    assert upgrade(server.url(database)) is None


def test_what_cannot_be_upgraded_is_said_and_not_made(server: Server, database: str) -> None:
    with pytest.raises(Unavailable, match="cannot open the database"):
        upgrade(server.url(database))
    with pytest.raises(Unavailable, match="cannot open the database"):
        plan_upgrade(server.url(database))
    where = "postgres" if server.url("").startswith("postgresql") else ""
    server.execute(where, f"CREATE DATABASE {database}")
    with pytest.raises(FailedPrecondition, match="no tables of MLMD"):
        upgrade(server.url(database))
