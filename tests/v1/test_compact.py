"""Compacting the log: it begins later, and still adds up to the same, stays whole, and is followed."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mdstore
from mdstore.cli.log import app
from mdstore.client.client import Client
from mdstore.client.retry import NEVER
from mdstore.errors import Aborted, FailedPrecondition, NotFound, OutOfRange
from mdstore.server.feeds import Feeds
from mdstore.store.local import LocalClient
from mdstore.store.store import Store
from mdstore.store.verification import verify as verify_log
from mdstore.wire import changes, mlmd, nodes, service
from mdstore_lineage.graph import ArtifactNode, Direction, Limits
from mdstore_lineage.opening import open_graph
from tests.store.log import fold, followed, of_log, of_tables
from tests.store.writing import Nodes, event, get_one, node, put
from tests.v1.graphs import project


def verify(url: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", "--database", url])
    return result.exit_code, result.output


def write_history(client: Client, updates: int = 40) -> Nodes:
    """Nodes that were updated often, with links, and one that was deleted."""
    ours = Nodes(client)
    for n in range(updates):
        put(client, "artifact", node("artifact", id=ours.artifacts[n % 3], custom={"n": n}))
    client.put_events(
        service.PutEventsRequest(
            events=[
                event(ours.artifacts[0], ours.executions[0], mlmd.Event.INPUT),
                event(ours.artifacts[1], ours.executions[0], mlmd.Event.OUTPUT),
                event(ours.artifacts[2], ours.executions[1], mlmd.Event.INPUT),
            ]
        )
    )
    client.delete_nodes(
        nodes.DeleteNodesRequest(nodes=[{"kind": nodes.EXECUTION, "id": ours.executions[1]}], actor="ada")
    )
    return ours


def compacted(url: str, *, behind: int = 0) -> int:
    """Compact the log up to so many commits before its end; the position."""
    with Store.open(url) as store:
        seq = store.head_seq() - behind
        assert store.compact(seq).seq == seq
    return seq


def test_a_compacted_log_is_shorter_and_adds_up_to_the_same(url: str) -> None:
    with mdstore.connect(url) as client:
        write_history(client)
        before, state = followed(client), of_log(client)
    seq = compacted(url, behind=3)
    with mdstore.connect(url) as client:
        after = followed(client)
        assert len(after) < 10 < len(before)
        assert of_log(client) == state == of_tables(client)
        kept = [commit for commit in after if commit.seq > seq]
        assert kept[:3] == before[-3:]
        assert [found.seq for found in kept[3].changes.compactions] == [seq]
        assert [commit.seq for commit in after] == list(range(after[0].seq, after[-1].seq + 1))
        (last_page,) = [commit for commit in after if commit.seq == seq]
        assert last_page.hash == before[seq - 1].hash
    assert verify(url)[0] == 0


def test_any_database_can_be_compacted(each: Client) -> None:
    write_history(each)
    state = of_log(each)
    store: Store = each._store  # type: ignore[attr-defined]  # a client in this process
    seq = store.head_seq() - 2
    store.compact(seq)
    assert of_log(each) == state == of_tables(each)
    assert followed(each)[0].seq <= seq
    with store.reading() as tx:
        assert verify_log(tx).breaks == []


def test_it_can_be_compacted_again_and_again(any_url: str) -> None:
    with mdstore.connect(any_url) as client:
        write_history(client)
    for _ in range(3):
        with mdstore.connect(any_url) as client:
            for n in range(10):
                put(client, "artifact", node("artifact", id=1, custom={"n": n}))
            state = of_tables(client)
        compacted(any_url, behind=1)
        assert verify(any_url)[0] == 0
        with mdstore.connect(any_url) as client:
            assert of_log(client) == state


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE mdstore_commit SET payload = CAST(payload || x'420408011001' AS BLOB) WHERE origin = 'compaction'",
            "hash",
        ),
        ("DELETE FROM mdstore_commit WHERE seq = (SELECT min(seq) FROM mdstore_commit)", "missing"),
        ("UPDATE mdstore_commit SET hash = zeroblob(32) WHERE seq = (SELECT min(seq) FROM mdstore_commit)", "hash"),
    ],
)
def test_whoever_alters_a_compacted_log_is_found(url: str, statement: str, says: str) -> None:
    with mdstore.connect(url) as client:
        write_history(client, updates=20)
    compacted(url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        assert database.execute(statement).rowcount > 0
    code, said = verify(url)
    assert code == 1
    assert says in said


def test_a_compaction_that_the_log_does_not_know_of_is_found(url: str) -> None:
    with mdstore.connect(url) as client:
        write_history(client, updates=20)
    compacted(url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        ((data,),) = database.execute("SELECT compaction FROM mdstore_compaction").fetchall()
        forged = changes.Compaction.FromString(data)
        forged.removed += 1
        database.execute("UPDATE mdstore_compaction SET compaction = ?", (forged.SerializeToString(),))
    code, said = verify(url)
    assert code == 1
    assert "does not say of its compaction" in said


def test_who_follows_from_a_position_that_is_gone_is_told_where_to_begin(on_sqlite: Client, url: str) -> None:
    client = on_sqlite
    write_history(client)
    compacted(url)
    first = followed(client)[0].seq
    with pytest.raises(OutOfRange, match=f"compacted and begins at {first}.*begin at 1"):
        followed(client, 2)
    assert followed(client, first)[0].seq == first
    with pytest.raises(OutOfRange, match=f"positions {compacted_to(client)} to"):
        list(client.snapshot(2))


def compacted_to(client: Client) -> int:
    return max(commit.seq for commit in followed(client) if not commit.changes.compactions)


def test_a_node_has_its_history_from_the_compaction_on(on_sqlite: Client, url: str) -> None:
    client = on_sqlite
    ours = write_history(client)
    image = get_one(client, "artifact", ours.artifacts[0])
    seq = compacted(url)
    put(client, "artifact", node("artifact", id=image.id, custom={"n": 99}))
    entries = client.history(nodes.HistoryRequest(kind=nodes.ARTIFACT, id=image.id)).entries
    assert [entry.origin for entry in entries] == ["compaction", "mlmd"]
    assert entries[0].artifact == image
    assert entries[0].seq <= seq
    (gone,) = client.history(nodes.HistoryRequest(kind=nodes.EXECUTION, id=ours.executions[1])).entries
    assert (gone.deletion.actor, gone.HasField("execution")) == ("ada", False)
    with pytest.raises(NotFound):
        client.history(nodes.HistoryRequest(kind=nodes.EXECUTION, id=999))


def test_positions_behind_a_compaction_are_shown_as_they_were(any_url: str) -> None:
    with mdstore.connect(any_url) as client:
        write_history(client)
        commits = followed(client)
    seq = compacted(any_url, behind=5)
    with mdstore.connect(any_url) as client:
        for position in range(seq, len(commits) + 1):
            found = fold(page.changes for page in client.snapshot(position))
            assert found == fold(commit.changes for commit in commits[:position])


def test_where_nothing_is_to_be_won_nothing_is_done(any_url: str) -> None:
    with Store.open(any_url) as store:
        head = store.head_seq()
        with pytest.raises(FailedPrecondition, match="no more than"):
            store.compact(1)
        with pytest.raises(OutOfRange):
            store.compact(head + 1)
        assert store.head_seq() == head
    assert verify(any_url)[0] == 0


def test_writers_and_readers_go_on_while_it_compacts(any_url: str) -> None:
    with Store.open(any_url) as store, mdstore.connect(any_url) as client:
        ours = write_history(client)
        over = threading.Event()
        written: list[int] = []

        def work() -> None:
            while not over.is_set():
                written.extend(put(client, "artifact", ours.new("artifact", name=f"w{len(written)}")))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(5):
                store.compact(store.head_seq())
        finally:
            over.set()
            thread.join()
        assert written
        assert of_log(client) == of_tables(client)
    assert verify(any_url)[0] == 0


_COMPACT = """
import sys
from mdstore.store.store import Store
from mdstore.store.verification import verify as verify_log
with Store.open(sys.argv[1]) as store:
    print("open", flush=True)
    store.compact(store.head_seq())
"""


def test_being_killed_while_compacting_loses_nothing(url: str) -> None:
    with mdstore.connect(url) as client:
        write_history(client, updates=300)
        for n in range(40):
            put(client, "artifact", *(mlmd.Artifact(type_id=10, name=f"{n}-{i}") for i in range(100)))
        state = of_tables(client)
    chance = random.Random(7)
    for _ in range(8):
        process = subprocess.Popen([sys.executable, "-c", _COMPACT, url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        process.wait()
        process.stdout.close()
        code, said = verify(url)
        assert code == 0, said
        with mdstore.connect(url) as client:
            assert of_log(client) == state
            put(
                client,
                "artifact",
                *(mlmd.Artifact(id=1, custom_properties={"n": mlmd.Value(int_value=i)}) for i in range(3)),
            )
            state = of_tables(client)
    assert_nothing_is_left_when_it_ends(url)


def assert_nothing_is_left_when_it_ends(url: str) -> None:
    with mdstore.connect(url) as client:
        for n in range(20):
            put(client, "artifact", node("artifact", id=1, custom={"n": n}))
    compacted(url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        assert database.execute("SELECT count(*) FROM mdstore_commit WHERE seq < 1").fetchall() == [(0,)]


def test_the_command_compacts_by_position_and_by_time(any_url: str) -> None:
    with mdstore.connect(any_url) as client:
        write_history(client)
        state = of_tables(client)
    run = CliRunner().invoke
    assert "nothing is older" in run(app, ["compact", "--database", any_url, "--before", "2001-01-01"]).output
    assert run(app, ["compact", "--database", any_url]).exit_code != 0
    result = run(app, ["compact", "--database", any_url, "--up-to", "20"])
    assert result.exit_code == 0, result.output
    assert "with what the store held at 20" in result.output
    assert run(app, ["compact", "--database", any_url, "--before", "2100-01-01"]).exit_code == 0
    assert verify(any_url)[0] == 0
    with mdstore.connect(any_url) as client:
        assert of_log(client) == state


@pytest.mark.parametrize("where", ["before", "at", "behind"])
def test_a_lineage_graph_goes_on_or_begins_anew(url: str, tmp_path: Path, where: str) -> None:
    with mdstore.connect(url) as client:
        ours = write_history(client)
    graph_url = f"sqlite:///{tmp_path / 'graph.db'}"
    project(url, graph_url)
    with mdstore.connect(url) as client:
        before = len(followed(client))
        for n in range(10):
            put(client, "artifact", node("artifact", id=ours.artifacts[0], custom={"n": -n}))
    compacted(url, behind={"before": 0, "at": 10, "behind": 12}[where])
    with mdstore.connect(url) as client:
        client.put_events(
            service.PutEventsRequest(events=[event(ours.artifacts[1], ours.executions[2], mlmd.Event.INPUT)])
        )
    anew = project(url, graph_url)
    assert anew == (where == "before"), before
    with closing(open_graph(graph_url)) as graph:
        closure = graph.closure([ArtifactNode(ours.artifacts[0])], Direction.DOWNSTREAM, limits=Limits())
        assert [type(found).__name__[0] + str(found.id) for found in closure.nodes] == [
            f"A{ours.artifacts[0]}", f"E{ours.executions[0]}", f"A{ours.artifacts[1]}", f"E{ours.executions[2]}",
        ]  # fmt: skip


def write_pages(client: Client, ours: Nodes) -> None:
    """So much that a compaction makes several pages of it."""
    for n in range(30):
        put(client, "artifact", *(ours.new("artifact", name=f"{n}-{m}") for m in range(100)))


def parked(store: Store) -> int:
    with store.reading() as tx:
        ((count,),) = tx.text_rows("SELECT count(*) FROM mdstore_commit WHERE seq < 1")
    return int(count)


def test_of_two_that_compact_at_once_one_does(any_url: str) -> None:
    with Store.open(any_url) as store, Store.open(any_url) as other, LocalClient(store, NEVER) as client:
        write_pages(client, write_history(client))
        state = of_tables(client)
        head = store.head_seq()

        def interfere(pages: int) -> None:
            if pages == 2:
                other.compact(head - 5)

        with pytest.raises(Aborted, match="another compaction of this log has begun"):
            store.compact(head, interfere)
        assert of_log(client) == state
        assert parked(store) == 0
        with store.reading() as tx:
            assert verify_log(tx).breaks == []


def test_a_compaction_that_another_one_cuts_off_leaves_that_alone(any_url: str) -> None:
    """The second one has parked some pages when the first one goes on."""
    with Store.open(any_url) as store, Store.open(any_url) as other, LocalClient(store, NEVER) as client:
        write_pages(client, write_history(client))
        state = of_tables(client)
        head = store.head_seq()
        outcome: list[BaseException | None] = []

        def first() -> None:
            try:
                store.compact(head, lambda pages: (reached.set(), go.wait(30)) if pages == 1 else None)
            except BaseException as error:
                outcome.append(error)

        reached, go = threading.Event(), threading.Event()
        thread = threading.Thread(target=first)
        thread.start()
        assert reached.wait(30)

        def let_go(pages: int) -> None:
            if pages == 2:
                go.set()
                thread.join(30)

        found = other.compact(head - 5, let_go)
        assert isinstance(outcome[0], Aborted)
        assert found.seq == head - 5
        assert of_log(client) == state
        assert parked(store) == 0


def test_who_follows_while_the_log_is_compacted_misses_nothing(url: str) -> None:
    """From the middle of what the pages replace, nothing is told as if it followed."""
    with mdstore.connect(url) as client:
        write_pages(client, write_history(client))
        head = followed(client)[-1].seq
        messages = client.follow(1, once=True, max_commits=1)
        seen = [commit for _ in range(head - 1) for commit in next(messages).commits]
        assert seen[-1].seq == head - 1
        assert compacted(url) == head
        with pytest.raises(OutOfRange, match="begin at 1"):
            list(messages)
        # Who begins at the pages reads them and what comes behind, in messages of any size.
        one_by_one = [commit for page in client.follow(1, once=True, max_commits=1) for commit in page.commits]
        assert one_by_one == followed(client)
        assert one_by_one[0].seq < head - 1


def test_a_server_tells_it_too(url: str) -> None:
    async def follow() -> None:
        with Store.open(url) as store, ThreadPoolExecutor(1) as pool:
            feeds = Feeds(store, pool)
            head = store.head_seq()
            messages = feeds.follow(changes.FollowRequest(max_commits=1))
            for _ in range(head - 1):
                await anext(messages)
            await asyncio.to_thread(store.compact, head)
            with pytest.raises(OutOfRange, match="begin at 1"):
                await anext(messages)
            await feeds.close()

    with mdstore.connect(url) as client:
        write_pages(client, write_history(client))
    asyncio.run(follow())


def test_a_compaction_that_fails_leaves_no_pages(any_url: str) -> None:
    with Store.open(any_url) as store, LocalClient(store, NEVER) as client:
        write_history(client, updates=3)
        with pytest.raises(FailedPrecondition, match="no more than"):
            store.compact(1)

        def fail(_pages: int) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            store.compact(store.head_seq(), fail)
        assert parked(store) == 0


def test_what_is_compacted_already_is_not_older(url: str) -> None:
    with mdstore.connect(url) as client:
        write_history(client)
    before = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep(max(0.0, (before - datetime.now(UTC)).total_seconds()))
    for says in ("compacted: the log begins at", "nothing is older"):
        result = CliRunner().invoke(
            app, ["compact", "--database", url, "--before", before.strftime("%Y-%m-%dT%H:%M:%S")]
        )
        assert result.exit_code == 0, result.output
        assert says in result.output
