"""One SQLite file, two programs: what the real library wrote is read and extended by ours, and the other way round."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.store import tables
from mdstore.wire import mlmd, service
from tests.judge.library import Both, Library, library, normalised, ours
from tests.store.log import followed, of_log, of_tables, verify
from tests.store.requests import Requests
from tests.store.side_by_side import rows
from tests.store.writing import KINDS, Nodes, call, event, node, put, put_type

pytestmark = pytest.mark.judge


@pytest.fixture(scope="module")
def real() -> Iterator[Library]:
    with library() as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


def requests(seed: int, count: int) -> Iterator[tuple[str, Any]]:
    """Writes: first types and nodes that random ones then meet."""
    for kind in KINDS:
        letters = kind.title()
        for name in "TU":
            declared = {"name": name, "properties": {"i": 1, "d": 2, "s": 3, "t": 4, "b": 6}}
            yield f"Put{letters}Type", getattr(service, f"Put{letters}TypeRequest")(**{f"{kind}_type": declared})
        few = [{"type_id": 10 + 2 * KINDS.index(kind), "name": str(n)} for n in range(3)]
        yield f"Put{letters}s", getattr(service, f"Put{letters}sRequest")(**{f"{kind}s": few})
    source = Requests(seed)
    for _ in range(count):
        yield source.write()


def everything(ask: Any) -> dict[str, Any]:
    """All that the readers show: nodes, types, events, and who is in which context."""
    found = {}
    for kind in KINDS:
        for name in (f"Get{kind.title()}s", f"Get{kind.title()}Types"):
            found[name] = ask(name, getattr(service, f"{name}Request")())
    found["GetEventsByExecutionIDs"] = ask(
        "GetEventsByExecutionIDs", service.GetEventsByExecutionIDsRequest(execution_ids=range(300))
    )
    for context in found["GetContexts"].contexts:
        for name in ("GetArtifactsByContext", "GetExecutionsByContext", "GetParentContextsByContext"):
            found[f"{name} {context.id}"] = ask(name, getattr(service, f"{name}Request")(context_id=context.id))
    # Times too: nothing is made anew here, both read the same rows.
    return {
        name: response
        if name.endswith("s") and "Types" not in name and "Events" not in name
        else normalised(name.split()[0], response)
        for name, response in found.items()
    }


def alike(real: Library, client: Client) -> int:
    """Both show the same; gives how many nodes there are."""
    theirs = everything(lambda name, request: real.call(name, request)[2])
    mine = everything(lambda name, request: ours(client, name, request)[2])
    for name in theirs:
        assert mine[name] == theirs[name], name
    return sum(len(theirs[name].ListFields()[0][1]) for name in ("GetArtifacts", "GetExecutions", "GetContexts"))


def test_a_database_of_the_librarys_is_read_extended_and_read_by_it_again(real: Library, file: Path) -> None:
    real.open(str(file))
    accepted = [real.call(name, request)[0] for name, request in requests(1, 300)].count("OK")
    assert accepted > 80
    with mdstore.connect(f"sqlite:///{file}") as client:
        before = alike(real, client)
        assert {commit.origin for commit in followed(client)} == {"bootstrap"}
        assert of_log(client) == of_tables(client)
        for name, request in requests(2, 300):
            ours(client, name, request)
        assert alike(real, client) > before
        assert of_log(client) == of_tables(client)
    real.open(str(file))
    for name, request in requests(3, 100):
        real.call(name, request)
    with mdstore.connect(f"sqlite:///{file}") as client:
        assert alike(real, client) > before
    verify(f"sqlite:///{file}")


def test_a_database_of_ours_is_read_extended_and_read_by_ours_again(real: Library, file: Path) -> None:
    with mdstore.connect(f"sqlite:///{file}") as client:
        for name, request in requests(4, 300):
            ours(client, name, request)
        # What only ours holds exactly, or stores at all, is read by the library.
        (node_id,) = put(
            client,
            "artifact",
            node("artifact", type_id=10, custom={"tiny": 1e-7, "infinite": float("inf"), "big": 2**63 - 1}),
        )
        real.open(str(file))
        alike(real, client)
        (found,) = real.call("GetArtifactsByID", service.GetArtifactsByIDRequest(artifact_ids=[node_id]))[2].artifacts
        assert found.custom_properties["tiny"].double_value == 1e-7
        assert found.custom_properties["infinite"].double_value == float("inf")
    assert [real.call(name, request)[0] for name, request in requests(5, 300)].count("OK") > 50
    with mdstore.connect(f"sqlite:///{file}") as client:
        alike(real, client)
        assert put_type(client, "artifact", "after", {"p": mlmd.INT}) > 10


def test_both_write_to_one_file_in_turns_and_ids_go_on(real: Library, file: Path) -> None:
    real.open(str(file))
    with mdstore.connect(f"sqlite:///{file}") as client:
        nodes = Nodes(client)
        ids = list(nodes.artifacts)
        for number in range(10):
            request = service.PutArtifactsRequest(artifacts=[nodes.new("artifact", name=f"theirs{number}")])
            ids += real.call("PutArtifacts", request)[2].artifact_ids
            ids += put(client, "artifact", nodes.new("artifact", name=f"mine{number}"))
            code, _, _ = real.call("PutEvents", service.PutEventsRequest(events=[event(ids[-1], 1), event(ids[-2], 2)]))
            assert code == "OK"
        assert ids == list(range(1, 24))
        alike(real, client)
        code, _, _ = real.call(
            "PutArtifacts", service.PutArtifactsRequest(artifacts=[nodes.new("artifact", name="mine1")])
        )
        assert code == "ALREADY_EXISTS"
        assert len(call(client, "GetEventsByExecutionIDs", execution_ids=[1, 2]).events) == 20


def schema(file: Path) -> dict[str, Any]:
    """MLMD's tables and indexes as SQLite describes them; what has our prefix is left out."""
    database = sqlite3.connect(file)
    try:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            if not name.startswith(("mdstore_", "sqlite_"))
        ]
        found: dict[str, Any] = {}
        for name in names:
            found[name] = database.execute(f"PRAGMA table_info('{name}')").fetchall()
            # Indexes by what they are: those of unique keys have no name of their own, and no order.
            indexes = database.execute(f"PRAGMA index_list('{name}')").fetchall()
            found[f"{name} indexes"] = sorted(
                (
                    "" if index.startswith("sqlite_autoindex") else index,
                    unique,
                    origin,
                    condition(database, index) if partial else "",
                    [
                        (column, descending, collation)
                        for _, _, column, descending, collation, key in database.execute(
                            f"PRAGMA index_xinfo('{index}')"
                        )
                        if key
                    ],
                )
                for _, index, unique, origin, partial in indexes
                if not index.startswith("mdstore_")
            )
            (sql,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()
            found[f"{name} counts on"] = "AUTOINCREMENT" in sql.upper()
        return found
    finally:
        database.close()


def condition(database: sqlite3.Connection, index: str) -> str:
    """Of a partial index, as both write it."""
    (sql,) = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
    return " ".join(str(sql).lower().replace("`", "").rpartition("where")[2].split())


def test_a_database_of_ours_has_the_librarys_schema(real: Library, tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs.db", tmp_path / "mine.db"
    real.open(str(theirs))
    mdstore.connect(f"sqlite:///{mine}").close()
    assert schema(mine) == schema(theirs)
    assert [name for name in schema(mine) if " " not in name] == sorted(table.name for table in tables.MLMD_TABLES)


def test_the_same_calls_leave_the_same_rows(real: Library, tmp_path: Path) -> None:
    files = [tmp_path / "theirs.db", tmp_path / "mine.db"]
    real.open(str(files[0]))
    with mdstore.connect(f"sqlite:///{files[1]}") as client:
        both = Both(real, client)
        for name, request in requests(6, 300):
            both.call(
                name, request, known=lambda theirs, mine, _: theirs in {"INTERNAL", "ALREADY_EXISTS"} and mine != "OK"
            )
    theirs, mine = (rows(file) for file in files)
    assert mine.keys() == theirs.keys()
    for table in theirs:
        assert mine[table] == theirs[table], table
