"""Many who write at once, several servers on one database, and databases that go away and come back."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import grpc
import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, Unavailable
from mdstore.store.dialects import POOL_SIZE
from mdstore.store.store import Store, reading
from mdstore.store.verification import verify
from mdstore.wire import mlmd, service
from tests.databases.servers import Server
from tests.ports import free_port
from tests.store.log import verified
from tests.store.mixture import Clients, check
from tests.store.served import serving
from tests.store.test_kills import serve, wait_until_ready
from tests.store.writing import call, get_all, node, put, put_type

WRITERS = 64


@pytest.fixture
def url(server: Server, database: str) -> str:
    return server.url(database)


def check_log(url: str) -> int:
    """Every position is there once and every hash is right; returns the newest position."""
    with Store.open(url) as store, reading(store.database) as tx:
        found = verify(tx)
    assert not found.breaks
    assert found.commits == found.head_seq - found.first_seq + 1
    return int(found.head_seq)


def count_rows(server: Server, database: str, table: str) -> int:
    ((count,),) = server.execute(database, f"SELECT count(*) FROM {table}")
    return int(count)


@contextmanager
def two_servers(url: str) -> Iterator[list[Client]]:
    """Clients of two servers on one database."""
    with (
        Store.open(url) as one,
        Store.open(url) as other,
        serving(one) as first,
        serving(other) as second,
        mdstore.connect(f"grpc://127.0.0.1:{first}") as to_first,
        mdstore.connect(f"grpc://127.0.0.1:{second}") as to_second,
    ):
        yield [to_first, to_second]


def test_two_servers_on_one_database_have_one_log_without_gaps(server: Server, database: str, url: str) -> None:
    with two_servers(url) as clients:
        types = {put_type(client, "execution") for client in clients}
        assert len(types) == 1
        (type_id,) = types

        def write(number: int) -> int:
            sent = node("execution", type_id=type_id, name=f"n{number}", custom={"x": number})
            return put(clients[number % 2], "execution", sent)[0]

        with ThreadPoolExecutor(16) as pool:
            ids = list(pool.map(write, range(400)))

        assert len(set(ids)) == 400
        for client in clients:
            seqs = [commit.seq for page in client.follow(once=True) for commit in page.commits]
            assert seqs == list(range(1, len(seqs) + 1))
            logged = [
                created
                for page in client.follow(once=True)
                for commit in page.commits
                for created in commit.changes.created_execution_ids
            ]
            assert sorted(logged) == sorted(ids)
    check_log(url)
    assert count_rows(server, database, "Execution") == 400


def test_two_servers_make_the_same_things_once(server: Server, database: str, url: str) -> None:
    """Contexts and types by name, artifacts by external id: whoever comes first makes them, the others find them."""
    with two_servers(url) as clients:

        def write(number: int) -> None:
            client = clients[number % 2]
            which = number % 5
            types = {kind: put_type(client, kind, f"T{which}") for kind in ("artifact", "execution", "context")}
            call(
                client,
                "PutExecution",
                execution=node("execution", type_id=types["execution"]),
                artifact_event_pairs=[
                    {
                        "artifact": node("artifact", type_id=types["artifact"], external_id=f"a{which}", uri="u"),
                        "event": {"type": mlmd.Event.INPUT},
                    }
                ],
                contexts=[node("context", type_id=types["context"], name="c")],
                options=service.PutExecutionRequest.Options(
                    reuse_context_if_already_exist=True, reuse_artifact_if_already_exist_by_external_id=True
                ),
            )

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(write, range(200)))

    counted = {table: count_rows(server, database, table) for table in ("Artifact", "Context", "Execution", "Event")}
    assert counted == {"Artifact": 5, "Context": 5, "Execution": 200, "Event": 200}
    assert count_rows(server, database, "Type") == 9 + 15
    check_log(url)


def test_64_clients_that_update_512_executions_meet_no_errors(server: Server, url: str) -> None:
    # In process: a client of a server would call again what was aborted.
    with mdstore.connect(url) as client:
        type_id = put_type(client, "execution")
        ids = put(client, "execution", *(node("execution", type_id=type_id, custom={"n": 0}) for _ in range(512)))

        def update(number: int) -> None:
            batch = [ids[(number * 37 + step * 61) % len(ids)] for step in range(8)]
            sent = [node("execution", id=found, last_known_state=1 + number % 4) for found in set(batch)]
            put(client, "execution", *sent, mask=["last_known_state"])

        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(update, range(640)))
        assert {found.last_known_state for found in get_all(client, "execution").executions} == {1, 2, 3, 4}
    check_log(url)


def test_the_same_name_at_once_is_there_once_and_else_already_exists(server: Server, url: str) -> None:
    with two_servers(url) as clients:
        type_id = put_type(clients[0], "context")

        def write(number: int) -> str:
            sent = node("context", type_id=type_id, name=f"n{number // 8}")
            try:
                put(clients[number % 2], "context", sent)
            except AlreadyExists as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(WRITERS) as pool:
            answers = list(pool.map(write, range(160)))
        assert answers.count("") == 20
        assert {text for text in answers if text} == {
            "Context: another one with the same type_id and name is already there"
        }
        assert len(get_all(clients[0], "context").contexts) == 20


@pytest.mark.parametrize("how", [None, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_database_that_goes_away_is_unavailable_and_used_again_when_it_is_back(
    own_server: Server, how: signal.Signals | None
) -> None:
    url = own_server.url("gone")
    with Store.open(url) as store, serving(store) as port:
        with mdstore.connect(url) as setup:
            clients = Clients([f"127.0.0.1:{port}"], setup)
        with clients:
            for _ in range(3):
                clients.wait_for_progress()
                if how is None:
                    own_server.stop()
                else:
                    own_server.stop(how)
                time.sleep(0.3)
                own_server.start()
            clients.wait_for_progress()
        assert clients.unexpected() == []
        assert clients.codes()[grpc.StatusCode.UNAVAILABLE] >= 3
        # Every one of them says when to try again.
        hints = {hint for ledger in clients.ledgers for hint in ledger.hints}
        assert all(hint is not None and int(hint) > 0 for hint in hints), hints
    check(clients.ledgers, verified(url), all_answered=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_one_of_two_servers_killed_the_other_goes_on(server: Server, url: str) -> None:
    """Whoever lost an answer asks the other server, which knows whether the first has done it."""
    ports = [free_port(), free_port()]
    with mdstore.connect(url) as setup:
        clients = Clients([f"127.0.0.1:{port}" for port in ports], setup)
    with ExitStack() as stack, clients:
        running = [stack.enter_context(serve(url, port)) for port in ports]
        for started, port in zip(running, ports, strict=True):
            wait_until_ready(started, port)
        for kill in range(6):
            which = kill % 2
            clients.wait_for_progress(20)
            running[which].process.kill()
            running[which].process.wait(10)
            clients.wait_for_progress(20)
            running[which] = stack.enter_context(serve(url, ports[which]))
            wait_until_ready(running[which], ports[which])
        clients.end()
    assert clients.unexpected() == []
    assert clients.codes()[grpc.StatusCode.UNAVAILABLE] >= 6
    check(clients.ledgers, verified(url), all_answered=True)


def test_without_its_database_a_store_says_so_at_once(own_server: Server) -> None:
    url = own_server.url("gone")
    with mdstore.connect(url) as client:
        type_id = put_type(client, "artifact")
        own_server.stop()
        begun = time.monotonic()
        for do in (
            lambda: put(client, "artifact", node("artifact", type_id=type_id)),
            lambda: get_all(client, "artifact"),
        ):
            with pytest.raises(Unavailable) as caught:
                do()
            assert caught.value.retry_after_ms
        assert time.monotonic() - begun < 5
        own_server.start()
        assert put(client, "artifact", node("artifact", type_id=type_id))


def test_a_write_does_not_fail_by_connections_that_were_lost_while_nobody_used_them(own_server: Server) -> None:
    with Store.open(own_server.url("back")) as store, mdstore.connect(own_server.url("back")) as other:
        type_id = put_type(other, "artifact")
        with ExitStack() as stack:
            for _ in range(POOL_SIZE):
                stack.enter_context(store.database.connection())
        own_server.stop()
        own_server.start()
        request = service.PutArtifactsRequest(artifacts=[node("artifact", type_id=type_id)])
        assert store.call("/ml_metadata.MetadataStoreService/PutArtifacts", request).artifact_ids
