"""Conditional writes: nothing is written unless everything is as expected."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from mdstore.store import commits
from mdstore.store.store import Store
from mdstore.wire import ingestion, mlmd, nodes
from tests.store.log import followed
from tests.store.test_groups import together
from tests.store.writing import KINDS, Nodes, get_one, node, put, value

NUMBER = {"artifact": nodes.ARTIFACT, "execution": nodes.EXECUTION, "context": nodes.CONTEXT}


@pytest.fixture
def ours(client: Client) -> Nodes:
    return Nodes(client)


def ref(kind: str, node_id: int = 0, external_id: str = "") -> nodes.NodeRef:
    return nodes.NodeRef(kind=NUMBER[kind], id=node_id, external_id=external_id)


def changed(kind: str, node_id: int, n: int) -> dict[str, Any]:
    """The fields of a request that writes a custom property of one node."""
    return {f"{kind}s": [node(kind, id=node_id, custom={"n": n})], "update_paths": ["custom_properties.n"]}


def newest_seq(client: Client, kind: str, node_id: int) -> int:
    return client.history(nodes.HistoryRequest(kind=NUMBER[kind], id=node_id)).entries[-1].seq


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_time_that_is_expected_and_found_lets_the_write_through_once(
    client: Client, ours: Nodes, kind: str
) -> None:
    node_id = getattr(ours, f"{kind}s")[0]
    before = get_one(client, kind, node_id).last_update_time_since_epoch
    request = nodes.WriteRequest(
        **changed(kind, node_id, 1), expected=[{"node": ref(kind, node_id), "last_update_time": before}]
    )
    response = client.write(request)
    assert list(getattr(response, f"{kind}_ids")) == [node_id]
    after = get_one(client, kind, node_id)
    assert after.last_update_time_since_epoch > before
    assert response.seq == followed(client)[-1].seq
    with pytest.raises(FailedPrecondition, match=f"{kind} {node_id} as updated at {before}, found it updated at"):
        client.write(request)
    assert get_one(client, kind, node_id) == after


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_that_is_expected_and_found_lets_the_write_through_once(
    client: Client, ours: Nodes, kind: str
) -> None:
    node_id = getattr(ours, f"{kind}s")[0]
    seq = newest_seq(client, kind, node_id)
    request = nodes.WriteRequest(**changed(kind, node_id, 1), expected=[{"node": ref(kind, node_id), "seq": seq}])
    written = client.write(request).seq
    assert newest_seq(client, kind, node_id) == written
    with pytest.raises(FailedPrecondition, match=f"changed in commit {seq}, found it changed in commit {written}"):
        client.write(request)


def test_one_expectation_that_fails_stops_the_whole_write(client: Client, ours: Nodes) -> None:
    head = followed(client)[-1].seq
    execution = get_one(client, "execution", ours.executions[0])
    with pytest.raises(FailedPrecondition, match=f"artifact {ours.artifacts[0]} as updated at 1"):
        client.write(
            nodes.WriteRequest(
                executions=[node("execution", id=execution.id, custom={"n": 1})],
                contexts=[ours.new("context", name="new")],
                expected=[
                    {
                        "node": ref("execution", execution.id),
                        "last_update_time": execution.last_update_time_since_epoch,
                    },
                    {"node": ref("artifact", ours.artifacts[0]), "last_update_time": 1},
                ],
            )
        )
    assert followed(client)[-1].seq == head


def test_absent_creates_once(client: Client, ours: Nodes) -> None:
    request = nodes.WriteRequest(
        executions=[ours.new("execution", external_id="mine")],
        expected=[{"node": ref("execution", external_id="mine"), "absent": True}],
    )
    (made,) = client.write(request).execution_ids
    with pytest.raises(FailedPrecondition, match=f"expected no execution with the external id 'mine'.* {made}"):
        client.write(request)
    with pytest.raises(FailedPrecondition, match="expected artifact 999, found none"):
        client.write(nodes.WriteRequest(expected=[{"node": ref("artifact", 999)}]))


@pytest.mark.parametrize(
    "expected",
    [
        {"node": {"id": 1}, "seq": 1},
        {"node": {"kind": nodes.ARTIFACT}, "seq": 1},
        {"node": {"kind": 9, "id": 1}, "seq": 1},
        {"node": {"kind": nodes.ARTIFACT, "id": 1}, "absent": False},
    ],
)
def test_an_expectation_that_says_nothing_is_an_invalid_argument(
    client: Client, ours: Nodes, expected: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        client.write(nodes.WriteRequest(expected=[expected]))


def test_mlmds_rules_hold_for_what_is_written(client: Client, ours: Nodes) -> None:
    with pytest.raises(AlreadyExists):
        client.write(nodes.WriteRequest(contexts=[ours.new("context", name="c0")]))
    with pytest.raises(InvalidArgument):
        client.write(nodes.WriteRequest(artifacts=[mlmd.Artifact()]))


def test_the_log_says_who_wrote(client: Client, ours: Nodes) -> None:
    client.write(nodes.WriteRequest(artifacts=[ours.new("artifact")], actor="ada"))
    client.write(nodes.WriteRequest(artifacts=[ours.new("artifact")], origin="runner", actor="bob"))
    assert [(commit.origin, commit.actor) for commit in followed(client)[-2:]] == [("write", "ada"), ("runner", "bob")]


@pytest.mark.parametrize("by", ["seq", "last_update_time"])
def test_of_many_writers_that_expect_the_same_exactly_one_wins_each_round(client: Client, ours: Nodes, by: str) -> None:
    node_id = ours.executions[0]
    rounds, writers, wins = 5, 12, []
    lock = threading.Lock()

    def compete(expected: int, n: int) -> None:
        try:
            condition = {"node": ref("execution", node_id), by: expected}
            client.write(nodes.WriteRequest(**changed("execution", node_id, n), expected=[condition]))
        except FailedPrecondition:
            return
        with lock:
            wins.append(n)

    with ThreadPoolExecutor(writers) as pool:
        for _ in range(rounds):
            expected = (
                newest_seq(client, "execution", node_id)
                if by == "seq"
                else get_one(client, "execution", node_id).last_update_time_since_epoch
            )
            before = len(wins)
            list(pool.map(lambda n, expected=expected: compete(expected, n), range(writers)))
            assert len(wins) == before + 1
            assert get_one(client, "execution", node_id).custom_properties["n"] == value(wins[-1])


def test_neighbours_in_one_transaction_count(store: Store) -> None:
    """Both expect the same position, and both are in one group: the second one sees what the first one did."""
    ours = nodes.WriteRequest(
        contexts=[mlmd.Context(type_id=store.call(*_context_type()).type_id, name="c")],
    )
    (made,) = store.call("/mdstore.v1.Nodes/Write", ours).context_ids
    seq = store.call("/mdstore.v1.Nodes/History", nodes.HistoryRequest(kind=nodes.CONTEXT, id=made)).entries[-1].seq
    rpc = store.find("/mdstore.v1.Nodes/Write")
    blocked, go = threading.Event(), threading.Event()

    def block(_tx: object, _request: object) -> None:
        blocked.set()
        go.wait(10)

    store._committer.submit(block, None)
    blocked.wait(10)
    futures = [
        store.submit(
            rpc,
            nodes.WriteRequest(
                contexts=[mlmd.Context(id=made, name=f"c{n}")],
                expected=[{"node": {"kind": nodes.CONTEXT, "id": made}, "seq": seq}],
            ),
        )
        for n in range(3)
    ]
    go.set()
    outcomes = [future.exception(10) for future in futures]
    assert [type(outcome) for outcome in outcomes] == [type(None), FailedPrecondition, FailedPrecondition]
    assert "just now" in str(outcomes[1])


def _context_type() -> tuple[str, Any]:
    from mdstore.wire import service

    return "/ml_metadata.MetadataStoreService/PutContextType", service.PutContextTypeRequest(context_type={"name": "T"})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"actor": "ä" * 128}, "the actor has 256 bytes"),
        ({"origin": "o" * 256}, "the origin has 256 bytes"),
        ({"actor": "a\0b"}, "the actor holds a NUL"),
        ({"origin": "bootstrap"}, "'bootstrap' is the change log's own"),
        ({"origin": "external"}, "'external' is the change log's own"),
        ({"origin": "compaction"}, "'compaction' is the change log's own"),
    ],
)
def test_who_writes_is_said_so_that_the_log_can_hold_it(each: Client, fields: dict[str, str], says: str) -> None:
    """What the log cannot hold is refused, and takes no neighbour along."""
    ours = Nodes(each)
    good = nodes.WriteRequest(**changed("artifact", ours.artifacts[0], 1), actor="ä" * 127, origin="o" * 255)
    bad = nodes.WriteRequest(**changed("artifact", ours.artifacts[1], 1), **fields)
    ingested = ingestion.IngestRequest(contexts=[{"key": {"type": "T", "name": "new"}}], **fields)
    outcomes = together(
        each,
        [
            ("/mdstore.v1.Nodes/Write", good),
            ("/mdstore.v1.Nodes/Write", bad),
            ("/mdstore.v1.Ingestion/Ingest", ingested),
        ],
    )
    assert list(outcomes[0].artifact_ids) == [ours.artifacts[0]], outcomes
    for outcome in outcomes[1:]:
        assert isinstance(outcome, InvalidArgument)
        assert says in str(outcome)
    newest = followed(each)[-1]
    assert (newest.actor, newest.origin) == ("ä" * 127, "o" * 255)


def test_two_updates_within_a_millisecond_are_told_apart(each: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of MLMD's RPCs, and when the clock is put back: a reader in between must not overwrite the second."""
    ours = Nodes(each)
    then = get_one(each, "artifact", ours.artifacts[0]).last_update_time_since_epoch - 1000
    monkeypatch.setattr(commits, "now_ms", lambda: then)
    put(each, "artifact", node("artifact", id=ours.artifacts[0], custom={"n": 1}))
    read = get_one(each, "artifact", ours.artifacts[0])
    put(each, "artifact", node("artifact", id=ours.artifacts[0], custom={"n": 2}))
    with pytest.raises(FailedPrecondition):
        put(each, "artifact", read, options={"abort_if_latest_updated_time_changed": True})
    expected = {"node": ref("artifact", read.id), "last_update_time": read.last_update_time_since_epoch}
    with pytest.raises(FailedPrecondition):
        each.write(nodes.WriteRequest(artifacts=[read], expected=[expected]))
    assert get_one(each, "artifact", read.id).custom_properties["n"] == value(2)
