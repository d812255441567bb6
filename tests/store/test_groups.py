"""Requests that wait together are one transaction: they share its statements, and else notice nothing of each other."""

import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, InvalidArgument, MetadataError, NotFound
from mdstore.store import commits as committing
from mdstore.store.requests import Call
from mdstore.store.transaction import Transaction
from mdstore.wire import mlmd, nodes, service
from tests.contents import contents
from tests.store.log import followed, of_log, of_tables
from tests.store.writing import KINDS, Nodes, event, get_one, put, put_type, value

Sent = tuple[str, Any]
"""The path of an RPC, and its request."""


def sent(name: str, **fields: Any) -> Sent:
    return f"/ml_metadata.MetadataStoreService/{name}", getattr(service, f"{name}Request")(**fields)


@contextmanager
def held_up(client: Client) -> Iterator[None]:
    """What is sent inside the block waits until its end, and is then one group."""
    begun, go = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        begun.set()
        go.wait(30)

    held = client._store._committer.submit(hold, None)  # type: ignore[attr-defined]  # of a client in this process
    begun.wait(30)
    try:
        yield
    finally:
        go.set()
    held.result(30)


def together(client: Client, requests: list[Sent]) -> list[Any]:
    """The response of each, or its error, when they are done in one group."""
    store = client._store  # type: ignore[attr-defined]  # of a client in this process
    with held_up(client):
        waiting = [store.submit(store.find(path), request, None, Call()) for path, request in requests]
    return [done.exception(30) or done.result() for done in waiting]


def one_by_one(client: Client, requests: list[Sent]) -> list[Any]:
    found: list[Any] = []
    for path, request in requests:
        try:
            found.append(client._call(path, request, None))
        except MetadataError as error:
            found.append(error)
    return found


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[Transaction]:
    """The transactions of the writer, from now on."""
    seen: list[Transaction] = []

    class Remembered(Transaction):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.append(self)

    monkeypatch.setattr(committing, "Transaction", Remembered)
    return seen


@pytest.fixture
def engine(each: Client) -> str:
    return str(each._store.database.dialect.name)  # type: ignore[attr-defined]  # of a client in this process


def step(base: Nodes, number: int, context: str = "run") -> Sent:
    """What a pipeline's step sends: an execution in the context of its run, two outputs and an input."""
    outputs = [
        {
            "artifact": base.new("artifact", name=f"{number}-{output}", custom={"x": output, "y": "z"}),
            "event": event(0, 0, mlmd.Event.OUTPUT, "out"),
        }
        for output in range(2)
    ]
    for output in outputs:
        output["event"].ClearField("artifact_id")
        output["event"].ClearField("execution_id")
    return sent(
        "PutExecution",
        execution=base.new("execution", name=f"step-{number}", custom={"n": number}),
        artifact_event_pairs=[*outputs, {"event": {"artifact_id": base.artifacts[number % 3], "type": 3}}],
        contexts=[base.new("context", name=context)],
        options=service.PutExecutionRequest.Options(reuse_context_if_already_exist=True),
    )


def test_a_group_shares_its_statements(each: Client, engine: str, transactions: list[Transaction]) -> None:
    base = Nodes(each)
    together(each, [step(base, 1000)])  # which makes the context
    transactions.clear()
    responses = together(each, [step(base, number) for number in range(64)])

    (_, tx) = transactions  # the first one is what held the others up
    # Of SQLite a trip is none; on a server, all that is read is one, all that is written is another.
    assert (tx.statements <= 17, tx.trips <= {"sqlite": 5}.get(engine, 2)) == (True, True), (tx.statements, tx.trips)
    for number, response in enumerate(responses):
        assert get_one(each, "execution", response.execution_id).custom_properties["n"] == value(number)
        assert [get_one(each, "artifact", found).name for found in response.artifact_ids[:2]] == [
            f"{number}-0",
            f"{number}-1",
        ]
    assert of_log(each) == of_tables(each)


def test_new_contexts_of_a_group_cost_little_more(each: Client, transactions: list[Transaction]) -> None:
    base = Nodes(each)
    transactions.clear()
    responses = together(each, [step(base, number, context="the same new one") for number in range(64)])
    (_, tx) = transactions
    assert tx.statements <= 24
    assert len({response.context_ids[0] for response in responses}) == 1


def test_a_write_alone_waits_for_a_server_a_few_times(
    each: Client, engine: str, transactions: list[Transaction]
) -> None:
    base = Nodes(each)
    together(each, [step(base, 1000)])
    transactions.clear()
    path, request = step(base, 1)
    each._call(path, request, None)
    (tx,) = transactions
    assert tx.trips <= {"sqlite": 5, "postgresql": 2, "mysql": 5}[engine]

    transactions.clear()
    put(each, "execution", mlmd.Execution(id=base.executions[0], last_known_state=mlmd.Execution.COMPLETE))
    (tx,) = transactions
    assert tx.trips <= {"sqlite": 5}.get(engine, 2)


def test_updates_of_a_group_share_their_statements(each: Client, transactions: list[Transaction]) -> None:
    base = Nodes(each)
    ids = put(each, "execution", *(base.new("execution", custom={"x": 0}) for _ in range(32)))
    transactions.clear()

    def update(number: int) -> Sent:
        execution = mlmd.Execution(id=ids[number % 32], last_known_state=mlmd.Execution.RUNNING)
        execution.custom_properties["x"].int_value = number
        return sent("PutExecutions", executions=[execution])

    together(each, [update(number) for number in range(64)])
    (_, tx) = transactions
    assert tx.statements <= 9
    # Of two that wrote the same execution, the later one counts.
    for number, node_id in enumerate(ids):
        found = get_one(each, "execution", node_id)
        assert found.custom_properties["x"] == value(number + 32)
        assert found.last_known_state == mlmd.Execution.RUNNING
    assert of_log(each) == of_tables(each)


def test_what_fails_before_it_is_written_costs_the_others_nothing(
    each: Client, transactions: list[Transaction]
) -> None:
    base = Nodes(each)
    together(each, [step(base, 1000)])
    transactions.clear()
    outcomes = together(
        each,
        [
            step(base, number)
            if number % 2
            # Its artifact is in order, and its context is not.
            else sent(
                "PutExecution",
                execution=base.new("execution"),
                artifact_event_pairs=[{"artifact": base.new("artifact", name=f"bad-{number}")}],
                contexts=[base.new("context", name="run")],
            )
            for number in range(20)
        ],
    )
    assert [type(outcome) for outcome in outcomes] == [AlreadyExists, service.PutExecutionResponse] * 10
    assert len(transactions) == 2
    assert transactions[-1].statements <= 17
    assert of_log(each) == of_tables(each)


def test_who_is_refused_by_the_database_is_told_and_nobody_else(each: Client) -> None:
    base = Nodes(each)
    outcomes = together(
        each,
        [
            sent("PutArtifacts", artifacts=[base.new("artifact", name=f"n{number // 2}")])
            if number % 3
            else sent("PutArtifacts", artifacts=[base.new("artifact", external_id=f"e{number}"), {"type_id": 999}])
            for number in range(30)
        ],
    )
    taken: set[int] = set()
    for number, outcome in enumerate(outcomes):
        if number % 3 == 0:
            assert type(outcome) is NotFound
        elif number // 2 in taken:
            assert type(outcome) is AlreadyExists
            assert "name" in str(outcome)
        else:
            taken.add(number // 2)
            assert len(outcome.artifact_ids) == 1
    assert of_log(each) == of_tables(each)


class Named(Nodes):
    """Nodes that can be told from each other whatever their ids are."""

    def __init__(self, client: Client) -> None:
        self.types = {kind: put_type(client, kind) for kind in KINDS}
        self.artifacts, self.executions, self.contexts = (
            put(client, kind, *(self.new(kind, name=f"old-{kind}-{n}", custom={"a": n}) for n in range(3)))
            for kind in KINDS
        )


def _some(rng: random.Random, base: Nodes, number: int) -> Sent:
    """A request that may get along with its neighbours, or not."""
    new: Callable[..., Any] = base.new
    artifact, execution, context = (rng.choice(found) for found in (base.artifacts, base.executions, base.contexts))
    custom = {rng.choice("abc"): rng.choice([1, 2, "x", 2.5, True]) for _ in range(rng.randrange(3))}
    some_id = f"x{rng.randrange(6)}"
    match rng.randrange(11):
        case 0 | 1 | 2:
            made: dict[str, Any] = {"name": f"a{number}", "custom": custom}
            if rng.random() < 0.3:
                made["external_id"] = some_id
            old = rng.random() < 0.4
            return sent(
                "PutExecution",
                execution=mlmd.Execution(id=execution, last_known_state=rng.randrange(1, 5))
                if old
                else new("execution", name=f"e{number}", custom=custom),
                artifact_event_pairs=[
                    {"artifact": new("artifact", **made), "event": {"type": 4, "milliseconds_since_epoch": 7}},
                    {"event": {"artifact_id": artifact, "type": 3, "milliseconds_since_epoch": 7}},
                ],
                contexts=[new("context", name=f"c{rng.randrange(5)}") for _ in range(rng.randrange(3))],
                options=service.PutExecutionRequest.Options(
                    reuse_context_if_already_exist=rng.random() < 0.8,
                    reuse_artifact_if_already_exist_by_external_id=rng.random() < 0.5,
                ),
            )
        case 3:
            node = new("execution", id=execution, custom=custom, last_known_state=rng.randrange(1, 5))
            if rng.random() < 0.3:
                node.external_id = some_id
            return sent("PutExecutions", executions=[node])
        case 4:
            node = mlmd.Artifact(id=artifact, uri=f"u{number}", state=mlmd.Artifact.LIVE)
            node.custom_properties["a"].int_value = number
            return sent("PutArtifacts", artifacts=[node], update_mask={"paths": ["uri", "custom_properties.a"]})
        case 5:
            return sent("PutContexts", contexts=[new("context", name=f"c{rng.randrange(8)}", custom=custom)])
        case 6:
            return sent("PutContexts", contexts=[new("context", id=context, name=f"c{rng.randrange(8)}")])
        case 7:
            return sent(
                "PutEvents", events=[event(artifact, execution, rng.randrange(1, 4), "k", number % 3, at_ms=number)]
            )
        case 8:
            return sent(
                "PutAttributionsAndAssociations",
                attributions=[{"artifact_id": artifact, "context_id": context}],
                associations=[{"execution_id": rng.choice([execution, 999]), "context_id": context}],
            )
        case 9:
            return sent("PutArtifacts", artifacts=[new("artifact", name=f"b{number}"), {"type_id": 999}])
        case _:
            kind, node_id = rng.choice([(nodes.ARTIFACT, artifact), (nodes.CONTEXT, context)])
            if rng.random() < 0.6:
                request = nodes.WriteRequest(
                    contexts=[new("context", name=f"w{number}")],
                    expected=[{"node": {"kind": nodes.CONTEXT, "id": context}}],
                )
                return "/mdstore.v1.Nodes/Write", request
            return "/mdstore.v1.Nodes/DeleteNodes", nodes.DeleteNodesRequest(nodes=[{"kind": kind, "id": node_id}])


@pytest.mark.parametrize("seed", range(6))
def test_a_group_does_what_its_requests_do_one_by_one(each: Client, seed: int) -> None:
    with mdstore.connect("sqlite://") as alone:
        answers = []
        for client, do in ((alone, one_by_one), (each, together)):
            base = Named(client)
            rng = random.Random(seed)
            outcomes = []
            for start in range(0, 180, 60):
                outcomes += do(client, [_some(rng, base, number) for number in range(start, start + 60)])
            answers.append([type(outcome) for outcome in outcomes])
        assert answers[1] == answers[0]
        assert len({*answers[0]} & {AlreadyExists, NotFound, InvalidArgument}) == 3
        assert contents(each) == contents(alone)
        assert of_log(each) == of_tables(each)


def test_what_a_group_writes_is_commits_of_some_size(each: Client) -> None:
    """A database takes no row of any size, nor a follower any message."""
    base = Nodes(each)
    texts = {f"p{n}": f"{n}".ljust(2000, "x") for n in range(120)}
    head = followed(each)[-1].seq
    requests = [sent("PutArtifacts", artifacts=[base.new("artifact", name=f"n{n}", custom=texts)]) for n in range(12)]
    together(each, requests)
    sizes = [commit.changes.ByteSize() for commit in followed(each, head + 1)]
    assert 1 < len(sizes) < 12
    assert sum(sizes) > 12 * 240_000
    assert max(sizes) < 1_048_576 + 300_000
    assert of_log(each) == of_tables(each)


def test_what_is_held_again_in_a_group_is_held_as_the_log_has_it(each: Client) -> None:
    base = Nodes(each)
    named = [nodes.NodeRef(kind=nodes.ARTIFACT, id=base.artifacts[0])]
    hold = ("/mdstore.v1.Nodes/HoldNodes", nodes.HoldNodesRequest(nodes=named))
    release = ("/mdstore.v1.Nodes/ReleaseNodes", nodes.ReleaseNodesRequest(nodes=named))
    for steps, is_held in (([hold, release], False), ([hold, release, hold], True), ([release, hold, release], False)):
        together(each, steps)
        held: set[tuple[int, str]] = set()
        for commit in followed(each):
            held |= {(found.id, found.name) for found in commit.changes.holds}
            held -= {(found.id, found.name) for found in commit.changes.releases}
        assert bool(held) is is_held
        assert bool(each.list_holds(nodes.ListHoldsRequest()).holds) is is_held


def test_a_write_that_is_done_keeps_no_memory(local: Client) -> None:
    class Request:
        """Large, perhaps."""

    committer = local._store._committer  # type: ignore[attr-defined]  # of a client in this process
    request = Request()
    kept = weakref.ref(request)
    committer.submit(lambda *_: None, request).result(30)
    del request
    until = time.monotonic() + 30
    while kept() is not None and time.monotonic() < until:
        time.sleep(0.001)
    assert kept() is None
