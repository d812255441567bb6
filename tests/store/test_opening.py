"""Opening databases: new ones, old ones, broken ones, and what is none."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mdstore
from mdstore.errors import Aborted, DataLoss, FailedPrecondition, InvalidArgument, MetadataError, Unavailable
from mdstore.store import tables
from tests.store.writing import Nodes, call, get, get_type, put_type


@contextmanager
def raw(url: str) -> Iterator[sqlite3.Connection]:
    """The database as it is."""
    database = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def new(tmp_path: Path) -> str:
    """The URL of a file that is not there."""
    return f"sqlite:///{tmp_path / 'new.db'}"


def test_an_empty_database_becomes_one_of_version_10(new: str) -> None:
    mdstore.connect(new).close()
    with raw(new) as database:
        assert database.execute("SELECT schema_version FROM MLMDEnv").fetchall() == [(10,)]
        assert database.execute("SELECT id, name, type_kind FROM Type").fetchall() == [
            (1, "mlmd.Dataset", 1), (2, "mlmd.Model", 1), (3, "mlmd.Metrics", 1), (4, "mlmd.Statistics", 1),
            (5, "mlmd.Train", 0), (6, "mlmd.Transform", 0), (7, "mlmd.Process", 0), (8, "mlmd.Evaluate", 0),
            (9, "mlmd.Deploy", 0),
        ]  # fmt: skip
        assert database.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_what_was_written_is_there_after_opening_again(new: str) -> None:
    with mdstore.connect(new) as client:
        ids = Nodes(client).artifacts
    with mdstore.connect(new) as client:
        assert [found.id for found in get(client, "artifact", ids)] == ids
        assert put_type(client, "artifact") == 10


def test_a_store_in_memory_is_one_store_and_gone_at_the_end() -> None:
    for _ in range(2):
        with mdstore.connect("sqlite://") as client:
            assert put_type(client, "artifact") == 10
            assert get_type(client, "artifact").id == 10


def test_opening_twice_changes_nothing(new: str) -> None:
    mdstore.connect(new).close()
    with raw(new) as database:
        before = list(database.iterdump())
    mdstore.connect(new).close()
    with raw(new) as database:
        assert list(database.iterdump()) == before


@pytest.mark.parametrize("name", ["mlmd.Model", "mlmd.Train"])
def test_system_types_that_are_missing_come_back_and_the_log_says_so(url: str, name: str) -> None:
    with raw(url) as database:
        database.execute("DELETE FROM Type WHERE name = ?", (name,))
    with mdstore.connect(url) as client:
        kind = "artifact" if name == "mlmd.Model" else "execution"
        found = get_type(client, kind, name)
        assert found.id == 10
        (*_, last) = [commit for page in client.follow(once=True) for commit in page.commits]
        assert (last.origin, [type_.name for type_ in getattr(last.changes, f"{kind}_types")]) == ("bootstrap", [name])


def test_indexes_that_mlmd_lacks_are_made(new: str) -> None:
    mdstore.connect(new).close()
    with raw(new) as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    assert {index.name for index in tables.MISSING_INDEXES} <= names


def version(number: int) -> Callable[[sqlite3.Connection], None]:
    return lambda database: void(database.execute(f"UPDATE MLMDEnv SET schema_version = {number}"))


def statement(text: str) -> Callable[[sqlite3.Connection], None]:
    return lambda database: void(database.execute(text))


def void(_: object) -> None:
    return None


def as_of_0_13(database: sqlite3.Connection) -> None:
    """The shape of the library's first release: no version, and `is_artifact_type` where `type_kind` is now."""
    for table in tables.MLMD_TABLES:
        if table.name not in {"Type", "TypeProperty", "Artifact", "Execution", "Event", "EventPath"}:
            database.execute(f"DROP TABLE {table.name}")
    database.execute("ALTER TABLE Type RENAME COLUMN type_kind TO is_artifact_type")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (version(11), FailedPrecondition, "version 11.*newer mdstore"),
        (version(9), FailedPrecondition, "version 9.*upgrade"),
        (version(0), FailedPrecondition, "version 0.*upgrade"),
        (as_of_0_13, FailedPrecondition, "version 0.*upgrade"),
        (statement("DELETE FROM MLMDEnv"), Aborted, "MLMDEnv is empty"),
        (statement("INSERT INTO MLMDEnv VALUES (9)"), DataLoss, "2 rows"),
        (statement("DROP TABLE MLMDEnv"), Aborted, "MLMDEnv"),
        (statement("DROP TABLE ParentContext"), Aborted, "ParentContext"),
        (statement("UPDATE mdstore_head SET format = 2"), FailedPrecondition, "format 2.*newer mdstore"),
        (statement("DELETE FROM mdstore_head"), DataLoss, "mdstore_head has 0 rows"),
    ],
)
def test_a_database_that_is_not_ours_to_use_is_refused_and_left_alone(
    url: str, change: Callable[[sqlite3.Connection], None], error: type[MetadataError], says: str
) -> None:
    with raw(url) as database:
        change(database)
        before = list(database.iterdump())
    with pytest.raises(error, match=says):
        mdstore.connect(url)
    with raw(url) as database:
        assert list(database.iterdump()) == before


@pytest.mark.parametrize("wrong", ["no url", "http://x", "sqlite+nothing:///x", "grpc://", "grpc://host"])
def test_what_is_no_url_of_a_store_is_an_invalid_argument(wrong: str) -> None:
    with pytest.raises(InvalidArgument):
        mdstore.connect(wrong)


def test_what_cannot_be_opened_is_unavailable_and_said_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("This is no database, and long enough to be taken for a header. " * 3)
    for file in ("", "/", "missing/x.db", "text"):
        with pytest.raises(Unavailable, match="cannot open the database"):
            mdstore.connect(f"sqlite:///{tmp_path}/{file}" if file else f"sqlite:///{tmp_path}")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["text"]


def test_a_database_that_is_locked_is_unavailable(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mdstore.store.dialects import sqlite as opening

    monkeypatch.setattr(opening, "BUSY_TIMEOUT_S", 0.05)
    with raw(url) as database:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            mdstore.connect(url)


OPEN_AND_WRITE = """
import sys, mdstore
from mdstore.wire import mlmd, service
with mdstore.connect(sys.argv[1]) as client:
    found = client.put_artifact_type(service.PutArtifactTypeRequest(artifact_type={"name": "T"}))
    client.put_artifacts(service.PutArtifactsRequest(artifacts=[{"type_id": found.type_id, "name": sys.argv[2]}]))
"""


def test_processes_that_open_a_new_database_at_once_make_one(new: str) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", OPEN_AND_WRITE, new, str(n)], stderr=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for process in running:
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 0, printed
    with mdstore.connect(new) as client:
        assert sorted(found.name for found in call(client, "GetArtifacts").artifacts) == ["0", "1", "2", "3"]
        assert get_type(client, "artifact").id == 10


def test_a_closed_store_refuses_calls(url: str) -> None:
    client = mdstore.connect(url)
    client.close()
    client.close()
    with pytest.raises(FailedPrecondition, match="closed"):
        call(client, "GetArtifacts")
    with pytest.raises(FailedPrecondition, match="closed"):
        put_type(client, "artifact")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with mdstore.connect("grpc://127.0.0.1:9") as client, pytest.raises(Unavailable):
        call(client, "GetArtifacts")
