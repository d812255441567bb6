"""Many who write the same things at the same time: only the errors that the contract names, and nothing doubled."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import mdstore
from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, FailedPrecondition, MetadataError
from mdstore.store.store import Store
from mdstore.wire import mlmd, service
from tests.store.log import of_log, of_tables, verify
from tests.store.served import serving
from tests.store.writing import KINDS, Nodes, call, get, get_all, get_one, node, put, put_type, value

CLIENTS = 64


def at_once(work: Callable[[int], Any], count: int = CLIENTS) -> list[Any]:
    """What each of the calls gave: its result, or the type of its error; all begin together."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait(20)
        try:
            return work(number)
        except MetadataError as error:
            return type(error)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_all_create_the_same_types_and_get_the_same_ids(client: Client) -> None:
    found = at_once(lambda n: put_type(client, KINDS[n % 3], "same", {"p": mlmd.INT}))
    assert len(set(found)) == 3
    for kind in KINDS:
        types = getattr(call(client, f"Get{kind.title()}Types"), f"{kind}_types")
        assert [type_.name for type_ in types] == ["same"]


def test_all_extend_one_type_and_no_property_is_lost(client: Client) -> None:
    flags = {"can_add_fields": True, "can_omit_fields": True}
    at_once(lambda n: put_type(client, "artifact", "T", {f"p{n}": mlmd.INT}, **flags))
    assert len(call(client, "GetArtifactType", type_name="T").artifact_type.properties) == CLIENTS


def test_all_create_the_same_node_and_one_does(client: Client) -> None:
    def create(kind: str, sent: dict[str, Any], _: int) -> tuple[int, ...]:
        return tuple(put(client, kind, sent))

    for kind in KINDS:
        type_id = put_type(client, kind)
        sent = {"type_id": type_id, "name": "same", "external_id": "e"}
        found = at_once(partial(create, kind, sent))
        assert Counter(type(outcome) if isinstance(outcome, tuple) else outcome for outcome in found) == {
            tuple: 1,
            AlreadyExists: CLIENTS - 1,
        }
        assert len(getattr(get_all(client, kind), f"{kind}s")) == 1


def test_all_put_executions_into_the_same_new_context(client: Client) -> None:
    nodes = Nodes(client)

    def put_execution(_: int) -> int:
        response = call(
            client,
            "PutExecution",
            execution=nodes.new("execution"),
            artifact_event_pairs=[{"artifact": nodes.new("artifact", external_id="same"), "event": {"type": 4}}],
            contexts=[nodes.new("context", name="same")],
            options=service.PutExecutionRequest.Options(
                reuse_context_if_already_exist=True, reuse_artifact_if_already_exist_by_external_id=True
            ),
        )
        return int(response.context_ids[0])

    (context,) = set(at_once(put_execution))
    assert len(call(client, "GetExecutionsByContext", context_id=context).executions) == CLIENTS
    assert len(call(client, "GetArtifactsByContext", context_id=context).artifacts) == 1


def test_all_update_the_same_executions_and_none_fails(client: Client) -> None:
    nodes = Nodes(client)
    ids = put(client, "execution", *(nodes.new("execution") for _ in range(32)))

    def update(number: int) -> list[int]:
        order = ids if number % 2 else ids[::-1]
        return put(
            client, "execution", *(nodes.new("execution", id=i, custom={"who": number, "too": number}) for i in order)
        )

    outcomes = at_once(update)
    assert [sorted(outcome) for outcome in outcomes] == [ids] * CLIENTS
    for found in get(client, "execution", ids):
        # Of one of them, and all of it.
        assert found.custom_properties["who"] == found.custom_properties["too"]
    assert len({found.custom_properties["who"].int_value for found in get(client, "execution", ids)}) == 1


def test_64_clients_that_update_512_executions_meet_no_errors(on_sqlite: Client) -> None:
    """On the other databases, see tests/databases."""
    nodes = Nodes(on_sqlite)
    ids = put(on_sqlite, "execution", *(nodes.new("execution") for _ in range(512)))

    def update(number: int) -> None:
        for lap in range(4):
            batch = {ids[(number * 37 + lap * 101 + step * 61) % len(ids)] for step in range(16)}
            sent = [node("execution", id=found, last_known_state=1 + number % 4) for found in batch]
            assert put(on_sqlite, "execution", *sent, mask=["last_known_state"]) == [found.id for found in sent]

    assert at_once(update) == [None] * CLIENTS
    assert {found.last_known_state for found in get(on_sqlite, "execution", ids)} == {1, 2, 3, 4}


def test_of_all_who_guard_their_update_one_wins_each_round(client: Client) -> None:
    nodes = Nodes(client)
    for lap in range(3):
        current = get_one(client, "artifact", nodes.artifacts[0])

        def update(number: int, current: Any = current, lap: int = lap) -> int:
            number += CLIENTS * lap
            sent = nodes.new(
                "artifact",
                id=current.id,
                custom={"winner": number},
                last_update_time_since_epoch=current.last_update_time_since_epoch,
            )
            put(client, "artifact", sent, options={"abort_if_latest_updated_time_changed": True})
            return number

        outcomes = at_once(update)
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert outcomes.count(FailedPrecondition) == CLIENTS - 1
        assert get_one(client, "artifact", current.id).custom_properties["winner"] == value(winner)


def test_all_link_the_same_nodes_and_parents(client: Client) -> None:
    nodes = Nodes(client)
    a, b, _ = nodes.contexts
    attribution = {"artifact_id": nodes.artifacts[0], "context_id": a}
    assert MetadataError not in at_once(
        lambda _: call(client, "PutAttributionsAndAssociations", attributions=[attribution])
    )
    assert len(call(client, "GetArtifactsByContext", context_id=a).artifacts) == 1
    # Half of them the one way, half the other: whichever is first, the other would close a cycle.
    links = [{"child_id": a, "parent_id": b}, {"child_id": b, "parent_id": a}]
    outcomes = at_once(lambda n: bool(call(client, "PutParentContexts", parent_contexts=[links[n % 2]]) is not None))
    assert outcomes.count(True) == 1


def test_a_server_and_a_program_beside_it_write_to_one_file(url: str) -> None:
    with Store.open(url) as opened, serving(opened) as port, mdstore.connect(url) as beside:
        nodes = Nodes(beside)
        with mdstore.connect(f"grpc://127.0.0.1:{port}") as remote:
            writers = [beside, remote]

            def write(number: int) -> list[int]:
                client = writers[number % 2]
                found = []
                for n in range(10):
                    found += put(client, "execution", nodes.new("execution", name=f"{number}.{n}"))
                    with_type = put_type(client, "artifact", f"T{n}")
                    found += put(
                        client, "execution", nodes.new("execution", id=nodes.executions[0], custom={"x": with_type})
                    )
                return found

            outcomes = at_once(write, 8)
            made = [node_id for outcome in outcomes for node_id in outcome if node_id != nodes.executions[0]]
            assert len(set(made)) == 80
            assert of_log(remote) == of_tables(beside)
            assert len(of_tables(remote)["executions"]) == 83
            assert [found.name for found in call(remote, "GetArtifactTypes").artifact_types].count("T3") == 1
    verify(url)


def test_programs_of_their_own_write_to_one_file(url: str) -> None:
    script = """
import sys, mdstore
from mdstore.wire import service
with mdstore.connect(sys.argv[1]) as client:
    type_id = client.put_execution_type(service.PutExecutionTypeRequest(execution_type={"name": "T"})).type_id
    for n in range(30):
        new = {"type_id": type_id, "name": f"{sys.argv[2]}.{n}"}
        client.put_executions(service.PutExecutionsRequest(executions=[new]))
"""
    running = [
        subprocess.Popen([sys.executable, "-c", script, url, str(n)], stderr=subprocess.PIPE, text=True)
        for n in range(4)
    ]
    for process in running:
        _, printed = process.communicate(timeout=60)
        assert process.returncode == 0, printed
    with mdstore.connect(url) as client:
        assert len({found.name for found in get_all(client, "execution").executions}) == 120
        assert of_log(client) == of_tables(client)
    verify(url)


def test_a_listener_that_fails_stops_nobody_from_writing(store: Store) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("a listener's own fault")

    path = "/ml_metadata.MetadataStoreService/PutArtifactType"
    stop = store.on_commit(fail)
    for name in ("a", "b"):
        request = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=name))
        assert store.submit(store.find(path), request).result(10).type_id
    stop()
