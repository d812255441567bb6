"""Which URLs and files are a lineage graph, and what the others are told."""

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from mdstore.errors import FailedPrecondition, InvalidArgument, MetadataError, PermissionDenied, Unavailable
from mdstore.vocabulary import ContextRole, ContextRoles
from mdstore.wire import changes, mlmd
from mdstore_lineage.embedded import schema
from mdstore_lineage.graph import Direction, Limits, LineageGraph
from mdstore_lineage.opening import open_graph
from mdstore_lineage.position import wait_for_position
from tests.lineage import logs, oracle
from tests.lineage.oracle import STORE, artifact, execution


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("neo4j://localhost:7687", "no lineage graph's URL: write sqlite:///FILE"),
        ("lineage.db", "no lineage graph's URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_names_no_graph_is_an_invalid_argument(url: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        open_graph(url)


def test_a_file_in_no_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"there is no folder {tmp_path}/no"):
        open_graph(f"sqlite:///{tmp_path}/no/lineage.db")


def test_a_folder_is_no_graph(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="it is a folder; name a file"):
        open_graph(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, graph_url: str) -> None:
    file = tmp_path / "lineage.db"
    file.write_text("something else, and long enough not to look like an empty file\n" * 40)

    with pytest.raises(FailedPrecondition, match="no lineage graph"):
        open_graph(graph_url)
    assert file.read_text().startswith("something else")


def test_another_database_is_refused_and_left_alone(tmp_path: Path, graph_url: str) -> None:
    with sqlite3.connect(tmp_path / "lineage.db") as other:
        other.execute("CREATE TABLE Artifact (id INTEGER)")
    other.close()

    with pytest.raises(FailedPrecondition, match="is a database, but no lineage graph"):
        open_graph(graph_url)
    with sqlite3.connect(tmp_path / "lineage.db") as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("Artifact",)]
    other.close()


def test_a_newer_format_is_refused(tmp_path: Path, graph_url: str) -> None:
    open_graph(graph_url).close()
    with sqlite3.connect(tmp_path / "lineage.db") as newer:
        newer.execute("PRAGMA user_version=99")
    newer.close()

    with pytest.raises(FailedPrecondition, match=f"has format 99 and this mdstore knows {schema.FORMAT} at most"):
        open_graph(graph_url)


def test_an_older_format_is_emptied_to_be_projected_again(tmp_path: Path, graph_url: str) -> None:
    old = open_graph(graph_url)
    old.apply(logs.chain(2), store_id=STORE)
    old.close()
    with sqlite3.connect(tmp_path / "lineage.db") as older:
        older.execute("PRAGMA user_version=0")
        older.execute("DROP TABLE parent")
    older.close()

    again = open_graph(graph_url)
    assert (again.position, again.until) == (0, 3)
    again.apply(logs.chain(2)[:2], store_id=STORE)
    with pytest.raises(Unavailable, match="is at commit 2 of 3"):
        again.neighbours([artifact(1)], Direction.DOWNSTREAM)
    again.apply(logs.chain(2), store_id=STORE)
    assert again.neighbours([artifact(1)], Direction.DOWNSTREAM)
    again.close()


def test_what_may_not_be_written_is_refused(tmp_path: Path) -> None:
    # Run as another user where the tests are root's, to whom nothing is forbidden.
    file = tmp_path / "lineage.db"
    open_graph(f"sqlite:///{file}").close()
    closed = tmp_path / "closed"
    closed.mkdir()
    file.chmod(0o444)
    closed.chmod(0o555)

    def refusal(path: Path) -> str:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if os.getuid() == 0:
                    os.setuid(65534)
                open_graph(f"sqlite:///{path}")
                os.write(writer, b"nothing")
            except MetadataError as error:
                os.write(writer, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with open(reader, "rb") as answer:
            return answer.read().decode()

    for parent in (tmp_path, *tmp_path.parents[:3]):
        if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    name = PermissionDenied.__name__
    assert (
        refusal(file)
        == f"{name}: the lineage graph {file} cannot be written to; give the file and its folder this user"
    )
    assert refusal(closed / "lineage.db").startswith(f"{name}: the lineage graph {closed}/lineage.db cannot be written")


def test_a_new_graph_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def open_it(url: str, together: threading.Barrier) -> None:
        together.wait()
        try:
            graph = open_graph(url)
            graph.apply(logs.chain(1), store_id=STORE)
            graph.close()
        except BaseException as error:
            failed.append(error)
            raise

    for number in range(20):
        together = threading.Barrier(4)
        url = f"sqlite:///{tmp_path}/{number}.db"
        threads = [threading.Thread(target=open_it, args=(url, together)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


def test_only_one_at_a_time_follows_a_store_into_a_graph_by_whatever_name(tmp_path: Path, graph_url: str) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "lineage.db")
    one, other = open_graph(graph_url), open_graph(f"sqlite:///{tmp_path}/link.db")
    with one.claim(), pytest.raises(FailedPrecondition, match=f"another projector \\(process {os.getpid()}\\)"):
        other.claim().__enter__()
    with other.claim():
        pass
    one.close()
    other.close()


def test_a_lock_that_may_not_be_taken_is_said(tmp_path: Path, graph: LineageGraph) -> None:
    (tmp_path / "lineage.db.lock").mkdir()

    with pytest.raises(Unavailable, match=f"{tmp_path}/lineage.db.lock cannot be opened"):
        graph.claim().__enter__()


def test_one_graph_is_read_while_another_opening_of_it_writes(graph_url: str) -> None:
    commits = logs.chain(300)
    writer, reader = open_graph(graph_url), open_graph(graph_url)
    wrong: list[object] = []
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            found = reader.closure([artifact(1)], Direction.DOWNSTREAM, limits=Limits())
            # Commit 1 has the types; each later one adds an artifact, an execution and the edges to them.
            if len(found.nodes) != 2 * max(0, found.position - 1):
                wrong.append((found.position, len(found.nodes)))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for commit in commits:
        writer.apply([commit], store_id=STORE)
    is_done.set()
    for thread in threads:
        thread.join()

    assert not wrong
    assert reader.position == len(commits)
    writer.close()
    reader.close()


def test_which_contexts_are_runs_is_the_callers_table(graph_url: str) -> None:
    first = changes.Changes(
        context_types=[mlmd.ContextType(id=1, name="my.Run"), mlmd.ContextType(id=2, name="system.PipelineRun")],
        contexts=[mlmd.Context(id=1, type_id=1, name="a"), mlmd.Context(id=2, type_id=2, name="b")],
        executions=[mlmd.Execution(id=5, type_id=9)],
        associations=[mlmd.Association(execution_id=5, context_id=number) for number in (1, 2)],
    )
    graph = open_graph(graph_url, ContextRoles({"my.Run": ContextRole.RUN}))
    graph.apply(oracle.commits_of([first]), store_id=STORE)
    usual = open_graph(graph_url)

    assert graph.runs_of([execution(5)]) == {execution(5): [1]}
    assert usual.runs_of([execution(5)]) == {execution(5): [2]}
    graph.close()
    usual.close()


def test_a_closed_graph_says_so(graph: LineageGraph) -> None:
    graph.close()

    with pytest.raises(FailedPrecondition, match="is closed"):
        graph.neighbours([artifact(1)], Direction.BOTH)


def test_waiting_for_a_position_ends_when_it_is_there(graph: LineageGraph) -> None:
    commits = logs.chain(3)
    timer = threading.Timer(0.05, lambda: graph.apply(commits, store_id=STORE))
    timer.start()

    assert wait_for_position(graph, 2, timeout=5) == len(commits)
    timer.join()


def test_waiting_for_a_position_ends_in_time(graph: LineageGraph) -> None:
    graph.apply(logs.chain(1), store_id=STORE)

    with pytest.raises(Exception, match="is at commit 2 and not yet at 7") as caught:
        wait_for_position(graph, 7, timeout=0.02)
    assert type(caught.value).__name__ == "DeadlineExceeded"


def test_no_walk_needs_the_whole_edge_table(tmp_path: Path, graph: LineageGraph) -> None:
    from mdstore_lineage.embedded import graph as answers
    from mdstore_lineage.embedded import walk

    graph.apply(logs.hub(500), store_id=STORE)
    walks = [*walk._NEXT.values(), walk._EDGES_INTO, walk._EDGES_THAT_COUNT_INTO, walk._EDGES_OUT_OF]
    texts = [*walks, walk._KNOWN, walk._OF_TYPES, answers._RUNS]
    with sqlite3.connect(tmp_path / "lineage.db") as connection:
        for text in texts:
            arguments = ["[]"] * (2 if text.count("?") > 1 and "?1" not in text else 1)
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", arguments)]
            # The few types may be read all, and json_each is the ids that were asked for.
            scans = [step for step in plan if step.startswith("SCAN") and step != "SCAN type" and "VIRTUAL" not in step]
            assert not scans, (text, plan)
            if text in walk._NEXT.values():
                edges = [step for step in plan if " edge " in step]
                assert edges
                assert all("USING PRIMARY KEY" in step or "USING COVERING INDEX" in step for step in edges), plan
        assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_stat1'").fetchone() == (0,)
    connection.close()
