"""The change log: one order, no gaps, a chain that verifies, and complete: folded, it is what the tables hold."""

import contextlib
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, InvalidArgument, MetadataError, NotFound
from mdstore.store.store import Store
from mdstore.wire import changes, ingestion, mlmd, service
from tests.store.log import fold, followed, of_log, of_tables, verify
from tests.store.writing import Nodes, call, event, node, put, put_type


def test_positions_have_no_gaps_and_no_write_is_missing_under_32_writers(on_sqlite: Client, url: str) -> None:
    nodes = Nodes(on_sqlite)

    def write(number: int) -> int:
        (execution,) = put(on_sqlite, "execution", nodes.new("execution", name=str(number), custom={"x": number}))
        if number % 5 == 0:
            with pytest.raises(AlreadyExists):
                put(on_sqlite, "execution", nodes.new("execution", name=str(number)))
        call(on_sqlite, "PutEvents", events=[event(nodes.artifacts[0], execution)])
        return execution

    with ThreadPoolExecutor(32) as pool:
        executions = set(pool.map(write, range(320)))

    commits = followed(on_sqlite)
    assert [commit.seq for commit in commits] == list(range(1, verify(url) + 1))
    assert executions <= {found for commit in commits for found in commit.changes.created_execution_ids}
    assert of_log(on_sqlite) == of_tables(on_sqlite)
    times = [commit.time_ms for commit in commits]
    assert times == sorted(times)


def test_a_commit_says_what_was_done(client: Client) -> None:
    nodes = Nodes(client)
    before = followed(client)[-1].seq
    put(client, "execution", nodes.new("execution", id=nodes.executions[0], last_known_state=2))
    put(client, "execution", nodes.new("execution", id=nodes.executions[0], last_known_state=2))  # changes nothing
    put(client, "context", nodes.new("context", name="new"))
    call(client, "PutParentContexts", parent_contexts=[{"child_id": 1, "parent_id": 2}])

    update, create, link = followed(client, before + 1)

    assert [commit.origin for commit in (update, create, link)] == ["mlmd"] * 3
    (image,) = update.changes.executions
    assert (image.id, image.last_known_state, image.type) == (nodes.executions[0], 2, "T")
    assert not update.changes.created_execution_ids
    assert [context.name for context in create.changes.contexts] == ["new"]
    assert list(create.changes.created_context_ids) == [create.changes.contexts[0].id]
    assert link.changes == changes.Changes(parent_contexts=[{"child_id": 1, "parent_id": 2}])


def test_what_was_tampered_with_does_not_verify(local: Client, url: str) -> None:
    Nodes(local)
    newest = verify(url)
    database = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    database.execute(
        "UPDATE mdstore_commit SET payload = CAST(payload || ? AS BLOB) WHERE seq = ?", (b"\x0a\x00", newest - 1)
    )
    database.close()
    with pytest.raises(AssertionError, match=f"commit {newest - 1} "):
        verify(url)


def test_a_group_whose_operations_fail_in_between_logs_the_others_only(url: str) -> None:
    """The writer is held up until many requests wait, so that they are one group with savepoints."""
    with Store.open(url) as store:
        paths = "/ml_metadata.MetadataStoreService/"
        type_id = store.call(
            f"{paths}PutArtifactType", service.PutArtifactTypeRequest(artifact_type={"name": "T"})
        ).type_id
        gate = threading.Event()
        held = store._committer.submit(lambda *_: gate.wait(10), None)

        def submit(name: str, **fields: Any) -> Any:
            return store.submit(store.find(paths + name), getattr(service, f"{name}Request")(**fields))

        waiting = []
        for number in range(20):
            waiting += [
                submit("PutArtifacts", artifacts=[{"type_id": type_id, "name": str(number)}]),
                # Fails at its second artifact, after ids were taken and a row was written.
                submit("PutArtifacts", artifacts=[{"type_id": type_id, "name": f"x{number}"}, {"type_id": 999}]),
                submit("PutArtifacts", artifacts=[{"type_id": type_id, "name": "same"}]),
                # Creates a type and then fails: who comes next must not believe that the type is there.
                submit("PutTypes", artifact_types=[{"name": f"new{number}"}], context_types=[{}]),
                submit("PutArtifacts", artifacts=[{"type_id": type_id + 1}]),
            ]
        gate.set()
        held.result(10)
        outcomes = [type(done.exception(10)) for done in waiting]

        assert outcomes == [type(None), NotFound, type(None), InvalidArgument, NotFound] + [
            type(None), NotFound, AlreadyExists, InvalidArgument, NotFound,
        ] * 19  # fmt: skip
        assert [waiting[5 * number].result().artifact_ids[0] for number in range(20)] == [1, *range(3, 22)]
    with mdstore.connect(url) as client:
        assert of_log(client) == of_tables(client)
        assert len(of_tables(client)["artifacts"]) == 21
        assert verify(url) <= 5


def test_random_writes_fold_to_what_the_tables_hold(local: Client, url: str) -> None:
    chance = random.Random(7)
    nodes = Nodes(local)
    for _ in range(300):
        kind = chance.choice(["artifact", "execution", "context"])
        ids = getattr(nodes, f"{kind}s")
        custom: dict[str, Any] = {chance.choice("abc"): chance.choice([1, 2.5, "ä", True, {"k": None}])}
        with contextlib.suppress(MetadataError):
            match chance.randrange(6):
                case 0:
                    ids += put(local, kind, nodes.new(kind, name=str(chance.randrange(100)), custom=custom))
                case 1:
                    put(
                        local,
                        kind,
                        nodes.new(kind, id=chance.choice(ids), name=str(chance.randrange(100)), custom=custom),
                    )
                case 2:
                    mask = ["custom_properties." + chance.choice("abc"), "external_id"]
                    put(
                        local,
                        kind,
                        nodes.new(kind, id=chance.choice(ids), custom=custom, external_id=chance.choice("xyz")),
                        mask=mask,
                    )
                case 3:
                    call(
                        local,
                        "PutExecution",
                        execution=nodes.new("execution", custom=custom),
                        artifact_event_pairs=[
                            {
                                "artifact": nodes.new("artifact", name=chance.choice("nm")),
                                "event": {"type": 4, "path": {"steps": [{"index": 1}]}},
                            },
                            {"event": {"artifact_id": chance.choice(nodes.artifacts), "type": chance.randrange(8)}},
                        ],
                        contexts=[nodes.new("context", name=chance.choice(["c0", "new"]))],
                        options=service.PutExecutionRequest.Options(
                            reuse_context_if_already_exist=chance.random() < 0.8
                        ),
                    )
                case 4:
                    call(
                        local,
                        "PutParentContexts",
                        parent_contexts=[
                            {"child_id": chance.choice(nodes.contexts), "parent_id": chance.choice(nodes.contexts)}
                        ],
                    )
                case 5:
                    put_type(
                        local,
                        kind,
                        chance.choice("TU"),
                        {chance.choice("pqr"): mlmd.INT},
                        can_add_fields=True,
                        can_omit_fields=True,
                    )
    assert of_log(local) == of_tables(local)
    verify(url)


class TestFollow:
    def test_from_the_middle_and_from_the_position_after_the_newest(self, client: Client) -> None:
        Nodes(client)
        everything = followed(client)
        assert followed(client, 0) == followed(client, 1) == everything
        for start in range(1, len(everything) + 2):
            assert followed(client, start) == everything[start - 1 :]

    @pytest.mark.parametrize("once", [True, False])
    def test_beyond_the_end_is_an_invalid_argument_that_says_where_it_ends(self, client: Client, once: bool) -> None:
        newest = followed(client)[-1].seq
        with pytest.raises(InvalidArgument, match=f"ends at {newest}"):
            next(iter(client.follow(newest + 2, once=once)))

    def test_live_it_shows_what_is_written_afterwards(self, client: Client) -> None:
        newest = followed(client)[-1].seq
        heard: list[changes.Commit] = []
        enough = threading.Event()

        def listen() -> None:
            for page in client.follow(newest + 1):
                heard.extend(page.commits)
                if heard and heard[-1].changes.context_types:
                    enough.set()
                    return

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        time.sleep(0.1)
        begun = time.monotonic()
        for kind in ("artifact", "execution", "context"):
            put_type(client, kind)
        assert enough.wait(5)
        assert time.monotonic() - begun < 2
        assert [commit.seq for commit in heard] == [newest + 1, newest + 2, newest + 3]

    def test_a_store_says_who_it_is_and_where_its_head_is(self, client: Client) -> None:
        put_type(client, "artifact")
        page = next(iter(client.follow(once=True)))
        assert page.head_seq == page.commits[-1].seq
        assert len(page.store_id) == 36
        assert next(iter(client.snapshot())).store_id == page.store_id

    def test_a_long_log_comes_in_messages_of_bounded_size(self, on_sqlite: Client) -> None:
        type_id = put_type(on_sqlite, "artifact")
        for number in range(5):
            put(on_sqlite, "artifact", node("artifact", type_id=type_id, custom={"x": "y" * 1_000_000, "n": number}))
        pages = list(on_sqlite.follow(once=True))
        assert len(pages) >= 2
        assert all(page.ByteSize() < 4_000_000 for page in pages)
        (first, *_) = on_sqlite.follow(once=True, max_commits=1)
        assert len(first.commits) == 1

    def test_two_who_follow_hear_the_same(self, client: Client) -> None:
        type_id = put_type(client, "artifact")
        start = followed(client)[-1].seq + 1

        def listen() -> list[int]:
            heard: list[int] = []
            for page in client.follow(start):
                heard += [image for commit in page.commits for image in commit.changes.created_artifact_ids]
                if len(heard) >= 50:
                    break
            return heard

        with ThreadPoolExecutor(3) as pool:
            listeners = [pool.submit(listen) for _ in range(3)]
            for _ in range(50):
                put(client, "artifact", node("artifact", type_id=type_id))
            assert [listener.result(20) for listener in listeners] == [list(range(1, 51))] * 3


class TestSnapshot:
    def test_it_is_one_moment_while_writes_go_on(self, client: Client) -> None:
        nodes = Nodes(client)
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                # Both or none: an artifact and its execution with an event between them.
                call(
                    client,
                    "PutExecution",
                    execution=nodes.new("execution"),
                    artifact_event_pairs=[{"artifact": nodes.new("artifact"), "event": {"type": 4}} for _ in range(3)],
                )

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(5):
                pages = list(client.snapshot())
                (seq,) = {page.seq for page in pages}
                shown = [page.changes for page in pages]
                assert fold(shown) == fold(commit.changes for commit in followed(client) if commit.seq <= seq)
        finally:
            stop.set()
            for writer in writers:
                writer.join()

    def test_the_log_goes_on_where_it_ends(self, client: Client) -> None:
        Nodes(client)
        seq = next(iter(client.snapshot())).seq
        put_type(client, "artifact", "later")
        (commit,) = followed(client, seq + 1)
        assert [found.name for found in commit.changes.artifact_types] == ["later"]

    def test_more_than_a_page(self, local: Client) -> None:
        type_id = put_type(local, "artifact")
        put(local, "artifact", *(node("artifact", type_id=type_id) for _ in range(2500)))
        assert len(of_tables(local)["artifacts"]) == 2500
        assert of_log(local) == of_tables(local)

    def test_a_link_comes_after_what_it_links(self, local: Client) -> None:
        nodes = Nodes(local)
        call(local, "PutEvents", events=[event(nodes.artifacts[0], nodes.executions[0])])
        seen: set[tuple[str, int]] = set()
        for page in local.snapshot():
            seen |= {("artifact", image.id) for image in page.changes.artifacts}
            seen |= {("execution", image.id) for image in page.changes.executions}
            for link in page.changes.events:
                assert {("artifact", link.artifact_id), ("execution", link.execution_id)} <= seen


class TestBootstrap:
    def forget(self, url: str) -> None:
        """Leave the database as one that never had a log."""
        database = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        for table in ("mdstore_head", "mdstore_commit", "mdstore_change", "mdstore_document"):
            database.execute(f"DROP TABLE {table}")
        database.close()

    def test_what_was_there_before_the_log_is_in_it_from_the_beginning(self, url: str) -> None:
        with mdstore.connect(url) as client:
            nodes = Nodes(client)
            put(client, "artifact", *(nodes.new("artifact", custom={"x": n}) for n in range(1500)))
            call(client, "PutEvents", events=[event(nodes.artifacts[0], nodes.executions[0], mlmd.Event.INPUT, "a", 1)])
            call(
                client,
                "PutAttributionsAndAssociations",
                attributions=[{"artifact_id": 1, "context_id": 1}],
                associations=[{"execution_id": 1, "context_id": 1}],
            )
            call(client, "PutParentContexts", parent_contexts=[{"child_id": 1, "parent_id": 2}])
            before = of_log(client)
        self.forget(url)
        with mdstore.connect(url) as client:
            assert of_log(client) == of_tables(client) == before
            commits = followed(client)
            assert {commit.origin for commit in commits} == {"bootstrap"}
            put_type(client, "artifact", "later")
            assert followed(client)[-1].seq == commits[-1].seq + 1
        verify(url)


def test_the_history_of_a_node_is_found_by_its_id(local: Client, url: str) -> None:
    nodes = Nodes(local)
    for state in (1, 2):
        put(local, "execution", nodes.new("execution", id=nodes.executions[1], last_known_state=state))
    local.ingest(
        ingestion.IngestRequest(executions=[{"key": {"id": nodes.executions[1]}, "state": 3}], origin="writer")
    )
    database = sqlite3.connect(Path(url.removeprefix("sqlite:///")))
    rows = database.execute(
        "SELECT seq FROM mdstore_change WHERE kind = 0 AND id = ? ORDER BY seq", (nodes.executions[1],)
    )
    positions = [seq for (seq,) in rows]
    database.close()
    states = [
        image.last_known_state
        for commit in followed(local)
        if commit.seq in positions
        for image in commit.changes.executions
        if image.id == nodes.executions[1]
    ]
    assert states == [0, 1, 2, 3]
