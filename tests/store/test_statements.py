"""How many SQL statements an RPC runs, the change log's included: few, and as many for 100 things as for 10."""

from collections.abc import Callable
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.store import commits as committing
from mdstore.store import store as reading
from mdstore.store.transaction import State, Transaction
from mdstore.wire import mlmd, service
from tests.store.writing import Nodes, call, event, node, put, put_type

Counted = Callable[..., int]


@pytest.fixture
def count(each: Client, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Calls an RPC and says how many statements that took."""
    seen: list[Transaction] = []

    class Remembered(Transaction):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            seen.append(self)

    monkeypatch.setattr(committing, "Transaction", Remembered)
    monkeypatch.setattr(reading, "Transaction", Remembered)

    def counted(name: str, **fields: Any) -> int:
        seen.clear()
        call(each, name, **fields)
        return sum(tx.statements for tx in seen)

    return counted


@pytest.fixture
def nodes(each: Client) -> Nodes:
    return Nodes(each)


def outputs(nodes: Nodes, count: int) -> list[dict[str, Any]]:
    return [
        {"artifact": nodes.new("artifact", custom={"x": n, "y": "z"}), "event": {"type": mlmd.Event.OUTPUT}}
        for n in range(count)
    ]


def test_put_execution(count: Counted, nodes: Nodes) -> None:
    def put_execution(size: int, contexts: int = 2) -> int:
        return count(
            "PutExecution",
            execution=nodes.new("execution", custom={"x": 1}),
            artifact_event_pairs=[
                *({"artifact": mlmd.Artifact(id=a), "event": {"type": 3}} for a in nodes.artifacts),
                *outputs(nodes, size),
            ],
            contexts=[nodes.new("context", name=f"c{n}") for n in range(contexts)],
            options=service.PutExecutionRequest.Options(reuse_context_if_already_exist=True),
        )

    put_execution(1, contexts=30)
    assert put_execution(3) <= 16
    assert put_execution(3) == put_execution(100) == put_execution(3, contexts=30)


def test_put_execution_with_new_contexts(count: Counted, nodes: Nodes) -> None:
    def put_execution(prefix: str, contexts: int) -> int:
        new = [nodes.new("context", name=f"{prefix}{n}") for n in range(contexts)]
        return count("PutExecution", execution=nodes.new("execution"), contexts=new)

    assert put_execution("a", 2) == put_execution("b", 40) <= 16


def test_put_nodes(count: Counted, nodes: Nodes) -> None:
    for kind in ("artifact", "execution", "context"):
        new = {n: [nodes.new(kind, name=f"{n}-{i}", custom={"x": i}) for i in range(n)] for n in (2, 100)}
        method = f"Put{kind.title()}s"
        assert count(method, **{f"{kind}s": new[2]}) == count(method, **{f"{kind}s": new[100]}) <= 8


def test_update_states(each: Client, count: Counted, nodes: Nodes) -> None:
    many = put(each, "execution", *(nodes.new("execution", custom={"x": 1}) for _ in range(100)))

    def update(ids: list[int], state: int) -> int:
        return count("PutExecutions", executions=[mlmd.Execution(id=i, last_known_state=state) for i in ids])

    assert update(nodes.executions[:1], 2) <= 8
    assert update(nodes.executions[:1], 3) <= 7
    update(many, 2)  # which takes away the property
    assert update(many, 3) <= 7
    assert (
        count(
            "PutExecutions",
            executions=[mlmd.Execution(id=many[0], last_known_state=4)],
            update_mask={"paths": ["last_known_state"]},
        )
        <= 7
    )


def test_put_links(each: Client, count: Counted, nodes: Nodes) -> None:
    artifacts = put(each, "artifact", *(nodes.new("artifact") for _ in range(200)))
    contexts = put(each, "context", *(nodes.new("context", name=f"many{n}") for n in range(50)))
    execution, context = nodes.executions[0], nodes.contexts[0]

    def events(ids: list[int]) -> int:
        return count("PutEvents", events=[event(a, execution, mlmd.Event.INPUT, "x", 0) for a in ids])

    def attributions(ids: list[int]) -> int:
        return count(
            "PutAttributionsAndAssociations", attributions=[{"artifact_id": a, "context_id": context} for a in ids]
        )

    assert events(artifacts[:2]) == events(artifacts[2:]) <= 8
    assert attributions(artifacts[:2]) == attributions(artifacts[2:]) <= 7
    assert count("PutParentContexts", parent_contexts=[{"child_id": c, "parent_id": context} for c in contexts]) <= 8


def test_put_types(count: Counted) -> None:
    declared = {f"p{n}": mlmd.INT for n in range(100)}
    new = count("PutArtifactType", artifact_type={"name": "T", "properties": declared})
    again = count("PutArtifactType", artifact_type={"name": "T", "properties": declared})
    assert (new <= 8, again <= 2) == (True, True)


def test_reads(each: Client, count: Counted, nodes: Nodes) -> None:
    type_id = put_type(each, "artifact", "U")
    ids = put(
        each,
        "artifact",
        *(
            node("artifact", type_id=type_id, name=str(n), uri="u", external_id=str(n), custom={"x": n})
            for n in range(100)
        ),
    )
    context = nodes.contexts[0]
    call(each, "PutAttributionsAndAssociations", attributions=[{"artifact_id": a, "context_id": context} for a in ids])
    call(each, "PutEvents", events=[event(a, nodes.executions[0], mlmd.Event.INPUT, "x") for a in ids])
    page = {"max_result_size": 100, "order_by_field": {"field": "CREATE_TIME", "is_asc": False}}

    assert count("GetArtifactsByID", artifact_ids=ids) == 2
    assert count("GetArtifactsByURI", uris=["u"]) == 2
    assert count("GetArtifactsByExternalIds", external_ids=[str(n) for n in range(100)]) == 2
    assert count("GetArtifacts", options=page) == 2
    assert count("GetArtifacts") == 2
    assert count("GetEventsByArtifactIDs", artifact_ids=ids) == 1
    assert count("GetEventsByExecutionIDs", execution_ids=nodes.executions) == 1
    assert count("GetArtifactByTypeAndName", type_name="U", artifact_name="5") == 2
    assert count("GetArtifactsByContext", context_id=context, options=page) <= 3
    assert count("GetArtifactsByType", type_name="U", options=page) <= 4
    assert count("GetContextsByArtifact", artifact_id=ids[0]) <= 3
    assert count("GetArtifactType", type_name="U") <= 2
    assert count("GetArtifactTypes") <= 2
    assert count("GetArtifactsByID", artifact_ids=ids, populate_artifact_types=True) <= 4


def test_what_is_asked_for_by_its_key_is_one_message_without_a_transaction(
    each: Client, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (artifact,), (execution,) = nodes.artifacts[:1], nodes.executions[:1]
    call(each, "PutEvents", events=[event(artifact, execution, mlmd.Event.INPUT, "x")])
    put(each, "context", nodes.new("context", name="there", custom={"x": 1}))
    seen: list[Transaction] = []

    class Remembered(Transaction):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            seen.append(self)

    monkeypatch.setattr(reading, "Transaction", Remembered)
    assert len(call(each, "GetArtifactsByID", artifact_ids=[artifact]).artifacts) == 1
    assert len(call(each, "GetExecutionsByID", execution_ids=nodes.executions).executions) == len(nodes.executions)
    assert len(call(each, "GetEventsByExecutionIDs", execution_ids=[execution]).events) == 1
    found = call(each, "GetContextByTypeAndName", type_name="T", context_name="there").context
    assert (found.name, found.custom_properties["x"].int_value) == ("there", 1)
    assert [(tx.trips, tx.state) for tx in seen] == [(1, State.OVER)] * 4


def test_ingest_is_flat(each: Client, count: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    from mdstore.wire import ingestion

    def request(prefix: str, size: int) -> ingestion.IngestRequest:
        found = ingestion.IngestRequest()
        found.contexts.add(key={"type": "Run", "name": "r"}, type="Run")
        for n in range(size):
            found.executions.add(
                key={"external_id": f"{prefix}e{n}"}, type="E", state=2, custom_properties={"x": {"int_value": n}}
            )
            found.artifacts.add(key={"external_id": f"{prefix}a{n}"}, type="A", uri=f"u{n}")
            found.events.add(
                execution={"external_id": f"{prefix}e{n}"}, artifact={"external_id": f"{prefix}a{n}"}, type=4
            )
            found.associations.add(context={"type": "Run", "name": "r"}, member={"external_id": f"{prefix}e{n}"})
        return found

    seen: list[Transaction] = []

    class Remembered(Transaction):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            seen.append(self)

    monkeypatch.setattr(committing, "Transaction", Remembered)

    def ingest(prefix: str, size: int) -> int:
        seen.clear()
        each.ingest(request(prefix, size))
        return seen[0].statements

    ingest("first", 1)
    assert ingest("few", 2) == ingest("many", 100)
    assert ingest("few", 2) == ingest("many", 100) <= 18
