"""`mdstore log verify` finds whatever is altered, and says where."""

import sqlite3

import pytest
from typer.testing import CliRunner

import mdstore
from mdstore.cli.log import app
from mdstore.wire import changes, service
from tests.store.log import followed
from tests.store.writing import Nodes, event, put


@pytest.fixture
def written(url: str) -> str:
    """The URL of a store with some commits."""
    with mdstore.connect(url) as client:
        nodes = Nodes(client)
        for n in range(10):
            put(client, "artifact", nodes.new("artifact", name=f"n{n}", custom={"x": n}))
        client.put_events(service.PutEventsRequest(events=[event(nodes.artifacts[0], nodes.executions[0])]))
        client.put_parent_contexts(
            service.PutParentContextsRequest(
                parent_contexts=[{"child_id": nodes.contexts[0], "parent_id": nodes.contexts[1]}]
            )
        )
    return url


def verify(url: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", "--database", url])
    return result.exit_code, result.output


def altered(url: str, statement: str, *values: object) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        assert database.execute(statement, values).rowcount > 0


def test_a_log_that_nobody_touched_is_whole(written: str) -> None:
    code, said = verify(written)
    assert (code, said.startswith("whole: ")) == (0, True), said
    with mdstore.connect(written) as client:
        newest = followed(client)[-1]
    assert f"to {newest.seq}, hash {newest.hash.hex()}" in said


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE mdstore_commit SET time_ms = time_ms + 1 WHERE seq = 5", ["commit 5: is not what its hash says"]),
        ("UPDATE mdstore_commit SET origin = 'me' WHERE seq = 5", ["commit 5: is not what its hash says"]),
        ("UPDATE mdstore_commit SET actor = 'me' WHERE seq = 5", ["commit 5: is not what its hash says"]),
        ("DELETE FROM mdstore_commit WHERE seq = 4", ["commit 4: the commit is missing", "mdstore_change has the row"]),
        ("DELETE FROM mdstore_commit WHERE seq IN (4, 5)", ["commit 4: the commits up to 5 are missing"]),
        ("DELETE FROM mdstore_commit WHERE seq = 1", ["commit 1: the commit is missing"]),
        ("DELETE FROM mdstore_commit WHERE seq = (SELECT seq FROM mdstore_head)", ["the head says"]),
        ("UPDATE mdstore_head SET seq = seq + 1", ["the head says"]),
        ("UPDATE mdstore_head SET hash = zeroblob(32)", ["the head has another hash"]),
        ("DELETE FROM mdstore_change WHERE kind = 1 AND id = 5", ["mdstore_change lacks the row (kind 1, id 5)"]),
        ("DELETE FROM mdstore_change WHERE kind = 32", ["mdstore_change lacks the row (kind 32, id 1)"]),
        ("INSERT INTO mdstore_change VALUES (1, 99, 5)", ["commit 5: mdstore_change has the row (kind 1, id 99)"]),
        ("UPDATE mdstore_commit SET payload = x'ffff' WHERE seq = 5", ["is not what its hash", "cannot be parsed"]),
    ],
)  # fmt: skip
def test_whatever_is_altered_is_said_where_it_is(written: str, statement: str, says: list[str]) -> None:
    altered(written, statement)
    code, said = verify(written)
    assert code == 1, said
    assert all(text in said for text in says), said


def test_a_changed_image_breaks_its_own_commit_and_no_other(written: str) -> None:
    database = sqlite3.connect(written.removeprefix("sqlite:///"))
    ((seq, payload),) = database.execute("SELECT seq, payload FROM mdstore_commit WHERE seq = 8")
    change = changes.Changes.FromString(payload)
    change.artifacts[0].name = "another"
    database.close()
    altered(written, "UPDATE mdstore_commit SET payload = ? WHERE seq = ?", change.SerializeToString(), seq)
    code, said = verify(written)
    assert code == 1
    assert [line for line in said.splitlines() if "commit 8" not in line and "broken in 1" not in line] == []


def test_a_database_that_is_not_there_is_not_made(tmp_path: object) -> None:
    result = CliRunner().invoke(app, ["verify", "--database", f"sqlite:///{tmp_path}/none.db"])
    assert result.exit_code != 0
    assert isinstance(result.exception, mdstore.errors.Unavailable)


def test_show_says_what_each_commit_changed(written: str) -> None:
    lines = CliRunner().invoke(app, ["show", "--store", written, "--limit", "0"]).output.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert "bootstrap" in lines[0]
    assert lines[-1].endswith("1 parent contexts")
    (last,) = CliRunner().invoke(
        app, ["show", "--store", written, "--from", str(len(lines)), "--full"]
    ).output.splitlines()  # fmt: skip
    assert '"parent_contexts": [{"child_id": "1", "parent_id": "2"}]' in last
