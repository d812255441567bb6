"""Databases of MLMD's older schemas, made by the library itself, upgraded by us and by it."""

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.errors import FailedPrecondition, InvalidArgument, Unavailable
from mdstore.store.upgrade import plan_upgrade, upgrade
from mdstore.wire import service
from tests.judge.driver import judge

VERSIONS = range(10)


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with v0.db .. v9.db, and each as the library's own upgrade leaves it."""
    folder = tmp_path_factory.mktemp("old")
    judge("migrations", port=0, steps=[("fill", str(folder / "v10.db"), 10)])
    old = {version: shutil.copy(folder / "v10.db", folder / f"v{version}.db") for version in VERSIONS}
    judge("migrations", port=0, steps=[("downgrade", str(file), version) for version, file in old.items()])
    up = [shutil.copy(file, folder / f"v{version}-library.db") for version, file in old.items()]
    judge("migrations", port=0, steps=[("upgrade", str(file), 10) for file in up])
    return folder


def copy(old: Path, version: int, folder: Path) -> tuple[Path, str]:
    file = Path(shutil.copy(old / f"v{version}.db", folder))
    return file, f"sqlite:///{file}"


def contents(file: Path) -> dict[str, Any]:
    """Every table of MLMD: its columns, indexes and rows."""
    with sqlite3.connect(file) as database:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            if not name.startswith("mdstore_")
        ]
        return {name: table(database, name) for name in names}


def table(database: sqlite3.Connection, name: str) -> Any:
    indexes = [
        (index if not index.startswith("sqlite_") else "", unique, partial, *database.execute(
            f'SELECT group_concat(name) FROM pragma_index_info("{index}")'
        ).fetchone())
        for _, index, unique, _, partial in database.execute(f'PRAGMA index_list("{name}")')
        if not index.startswith("mdstore_")
    ]  # fmt: skip
    columns = database.execute(f'PRAGMA table_info("{name}")').fetchall()
    # Of a table that never had a row, some histories leave a sequence at 0, and some none.
    where = " WHERE seq > 0" if name == "sqlite_sequence" else ""
    return columns, sorted(indexes), sorted(database.execute(f'SELECT * FROM "{name}"{where}').fetchall(), key=repr)


@pytest.mark.judge
@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgrade_ends_where_the_librarys_own_ends(old: Path, tmp_path: Path, version: int) -> None:
    file, url = copy(old, version, tmp_path)

    done = upgrade(url)

    assert done is not None
    assert done.from_version == version
    ours, theirs = contents(file), contents(old / f"v{version}-library.db")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], name


@pytest.mark.judge
@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_database_opens_and_shows_what_it_held(old: Path, tmp_path: Path, version: int) -> None:
    file, url = copy(old, version, tmp_path)
    with pytest.raises(FailedPrecondition, match="mdstore upgrade"):
        mdstore.connect(url)
    upgrade(url)

    with mdstore.connect(url) as store:
        artifacts = store.get_artifacts(service.GetArtifactsRequest()).artifacts
        events = store.get_events_by_artifact_ids(
            service.GetEventsByArtifactIDsRequest(artifact_ids=[found.id for found in artifacts])
        ).events
        logged = [commit for page in store.follow(once=True) for commit in page.commits]

    assert [found.uri for found in artifacts] == [f"s3://bucket/{number}" for number in range(5)]
    assert [found.properties["share"].double_value for found in artifacts] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [[step.key or step.index for step in event.path.steps] for event in events] == [
        ["model", number] for number in range(5)
    ]
    assert sum(len(commit.changes.artifacts) for commit in logged) == 5
    assert file.exists()


@pytest.mark.judge
def test_a_dry_run_changes_nothing(old: Path, tmp_path: Path) -> None:
    file, url = copy(old, 7, tmp_path)
    before = file.read_bytes()

    plan = plan_upgrade(url)

    assert plan is not None
    assert [step.partition(":")[0] for step in plan.steps] == ["8", "9", "10"]
    assert plan.rows["Artifact"] == 5
    assert file.read_bytes() == before


@pytest.mark.judge
def test_of_duplicate_events_the_newest_stays_with_its_path(old: Path, tmp_path: Path) -> None:
    file, url = copy(old, 7, tmp_path)
    with sqlite3.connect(file) as database:
        database.execute("INSERT INTO Event SELECT 100, artifact_id, execution_id, type, 42 FROM Event WHERE id = 1")
        database.execute("INSERT INTO EventPath VALUES (100, 0, NULL, 'newer')")

    plan = plan_upgrade(url)
    upgrade(url)

    assert plan is not None
    assert plan.duplicate_events == 1
    with sqlite3.connect(file) as database:
        kept = database.execute("SELECT id, milliseconds_since_epoch FROM Event WHERE artifact_id = 1").fetchall()
        steps = database.execute("SELECT event_id, step_key FROM EventPath WHERE event_id IN (1, 100)").fetchall()
    assert kept == [(100, 42)]
    assert steps == [(100, "newer")]


@pytest.mark.judge
def test_ids_that_were_given_are_not_given_again(old: Path, tmp_path: Path) -> None:
    file, url = copy(old, 4, tmp_path)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE sqlite_sequence SET seq = 900 WHERE name = 'Artifact'")

    upgrade(url)

    with sqlite3.connect(file) as database:
        assert database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'Artifact'").fetchone() == (900,)


@pytest.mark.judge
def test_an_upgrade_that_is_killed_has_changed_nothing(old: Path, tmp_path: Path) -> None:
    file, url = copy(old, 0, tmp_path)
    before = contents(file)
    killed = subprocess.run(
        [sys.executable, "-c", (
            "import os, signal, sys\n"
            "from mdstore.store.upgrade import upgrade\n"
            "upgrade(sys.argv[1], lambda table: table == 'Event' and os.kill(os.getpid(), signal.SIGKILL))\n"
        ), url],
        check=False,
    )  # fmt: skip

    assert killed.returncode == -9
    assert contents(file) == before
    upgrade(url)
    assert contents(file).keys() == contents(old / "v0-library.db").keys()


def test_a_current_database_needs_no_upgrade(url: str) -> None:
    assert plan_upgrade(url) is None
    assert upgrade(url) is None


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (None, Unavailable),
        ("CREATE TABLE other (id INT)", FailedPrecondition),
        (
            "CREATE TABLE MLMDEnv (schema_version INTEGER PRIMARY KEY); INSERT INTO MLMDEnv VALUES (11)",
            FailedPrecondition,
        ),
    ],
)
def test_what_cannot_be_upgraded_is_said(tmp_path: Path, make: str | None, error: type[Exception]) -> None:
    file = tmp_path / "some.db"
    if make is not None:
        with sqlite3.connect(file) as database:
            database.executescript(make)

    with pytest.raises(error):
        upgrade(f"sqlite:///{file}")


@pytest.mark.parametrize("wrong", ["metadata.db", "oracle://host/metadata", "sqlite+nothing:///x"])
def test_what_names_no_database_is_an_invalid_argument(wrong: str) -> None:
    with pytest.raises(InvalidArgument):
        upgrade(wrong)


@pytest.mark.judge
def test_the_command_says_what_it_will_do_and_does_it(old: Path, tmp_path: Path) -> None:
    _, url = copy(old, 8, tmp_path)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "mdstore", "upgrade", "--database", url, *arguments],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    dry = run("--dry-run")
    real = run()
    again = run()

    assert "9: external ids" in dry.stdout
    assert "Nothing was changed" in dry.stdout
    assert real.stdout.splitlines()[-1] == "upgraded to version 10"
    assert "nothing to do" in again.stdout
    assert (dry.returncode, real.returncode, again.returncode) == (0, 0, 0)
