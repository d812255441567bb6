"""Short reads that their database keeps waiting: others go on, and who is gone leaves no query behind."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import grpc
import psycopg
import pymysql
import pytest
from sqlalchemy.engine import make_url

from mdstore.client.retry import NEVER
from mdstore.server.loop_reads import CONNECTIONS, MOST_ROWS
from mdstore.store.local import LocalClient
from mdstore.store.store import Store
from mdstore.wire import mlmd, service
from tests.databases.fixtures import ENGINES
from tests.databases.servers import Server
from tests.store.served import serving
from tests.store.writing import call, event, node, put, put_type

_NUMBERS = count()
SERVICE = "/ml_metadata.MetadataStoreService/"


class Place:
    """A database of its own on a server."""

    def __init__(self, engine: str, server: Server) -> None:
        self.engine, self.server = engine, server
        self.name = f"blocked{next(_NUMBERS)}"
        self.url = server.url(self.name)
        self._locks = 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Inside the block nobody else can read executions."""
        url = make_url(self.url)
        arguments = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
        if self.engine == "postgresql":
            with psycopg.connect(**arguments, dbname=self.name) as other:
                other.execute("LOCK TABLE execution IN ACCESS EXCLUSIVE MODE")
                yield
                other.rollback()
        else:
            with pymysql.connect(**arguments, database=self.name) as other, other.cursor() as cursor:
                self._locks = other.thread_id()
                cursor.execute("LOCK TABLES Execution WRITE, ExecutionProperty WRITE")
                yield

    def waiting(self) -> int:
        """How many queries wait for that lock."""
        if self.engine == "postgresql":
            text = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{self.name}' AND wait_event_type = 'Lock'"
        else:
            text = (
                f"SELECT count(*) FROM information_schema.processlist WHERE db = '{self.name}' "
                "AND state LIKE 'Waiting for table metadata lock%'"
            )
        return int(self.server.execute("postgres" if self.engine == "postgresql" else "", text)[0][0])

    def cut_off(self) -> None:
        """End all connections of ours to it."""
        if self.engine == "postgresql":
            ours = f"datname = '{self.name}' AND application_name = 'mdstore'"
            self.server.execute("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
            return
        ours = f"db = '{self.name}' AND id <> {self._locks}"
        found = self.server.execute("", f"SELECT id FROM information_schema.processlist WHERE {ours}")
        self.server.execute("", *(f"KILL CONNECTION {number}" for (number,) in found))


@pytest.fixture(params=[param for param in ENGINES if param.values != ("sqlite",)])
def place(request: pytest.FixtureRequest) -> Place:
    return Place(request.param, request.getfixturevalue(request.param))


def until(is_true: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Served:
    """A store's server with an execution in it, and a channel to it."""

    def __init__(self, client: LocalClient, store: Store, channel: grpc.Channel, execution: int) -> None:
        self.client, self.store, self.execution = client, store, execution
        self._executions = channel.unary_unary(f"{SERVICE}GetExecutionsByID")
        self._types = channel.unary_unary(f"{SERVICE}GetArtifactTypes")

    def read(self, timeout: float = 60) -> Any:
        """Begin to read the execution."""
        request = service.GetExecutionsByIDRequest(execution_ids=[self.execution])
        return self._executions.future(request.SerializeToString(), timeout=timeout)

    def name(self, future: Any) -> str:
        (found,) = service.GetExecutionsByIDResponse.FromString(future.result(30)).executions
        return str(found.name)

    def answers_others(self) -> None:
        """What needs no executions is answered at once."""
        self._types(b"", timeout=5)


@pytest.fixture
def served(place: Place) -> Iterator[Served]:
    with Store.open(place.url) as store, LocalClient(store, NEVER) as client:
        (execution,) = put(client, "execution", node("execution", type_id=put_type(client, "execution"), name="it"))
        with serving(store) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(client, store, channel, execution)


def test_while_reads_wait_for_the_database_others_are_answered(place: Place, served: Served) -> None:
    with place.locked():
        waiting = [served.read() for _ in range(4)]
        until(lambda: place.waiting() == 4, "they do not wait")
        served.answers_others()
        assert not any(future.done() for future in waiting)
    assert [served.name(future) for future in waiting] == ["it"] * 4


def test_more_reads_than_there_are_connections_wait_for_their_turn(place: Place, served: Served) -> None:
    with place.locked():
        waiting = [served.read() for _ in range(3 * CONNECTIONS)]
        until(lambda: place.waiting() >= 8, "they do not wait")
    assert [served.name(future) for future in waiting] == ["it"] * len(waiting)
    assert place.waiting() == 0


@pytest.mark.parametrize("ends", ["cancelled", "too late"])
def test_a_read_that_nobody_waits_for_leaves_no_query_behind(place: Place, served: Served, ends: str) -> None:
    for _ in range(3):
        with place.locked():
            waiting = [served.read(0.7 if ends == "too late" else 60) for _ in range(CONNECTIONS + 4)]
            until(lambda: place.waiting() >= 8, "they do not wait")
            if ends == "cancelled":
                for future in waiting:
                    future.cancel()
            else:
                codes = {future.code() for future in waiting}
                assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
            until(lambda: place.waiting() == 0, "their queries go on")
            served.answers_others()
        # And they have left their connections to others.
        assert [served.name(future) for future in [served.read() for _ in range(20)]] == ["it"] * 20


def test_connections_that_were_lost_while_nobody_read_are_not_noticed(place: Place, served: Served) -> None:
    for _ in range(3):
        assert [served.name(future) for future in [served.read() for _ in range(12)]] == ["it"] * 12
        place.cut_off()
        assert served.name(served.read()) == "it"


def test_a_connection_that_is_lost_amid_a_read_is_made_again(place: Place, served: Served) -> None:
    with place.locked():
        waiting = [served.read() for _ in range(3)]
        until(lambda: place.waiting() == 3, "they do not wait")
        place.cut_off()
    assert [served.name(future) for future in waiting] == ["it"] * 3


def test_a_small_question_with_a_large_answer_is_answered_in_full(served: Served) -> None:
    size = 2 * MOST_ROWS
    type_id = put_type(served.client, "artifact")
    artifacts = put(served.client, "artifact", *(node("artifact", type_id=type_id, name=f"a{n}") for n in range(size)))
    events = [event(found, served.execution, mlmd.Event.INPUT) for found in artifacts]
    call(served.client, "PutEvents", events=events)
    with serving(served.store) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = service.GetEventsByExecutionIDsRequest(execution_ids=[served.execution])
        answer = channel.unary_unary(f"{SERVICE}GetEventsByExecutionIDs")(request.SerializeToString(), timeout=60)
    found = service.GetEventsByExecutionIDsResponse.FromString(answer).events
    assert sorted(each.artifact_id for each in found) == sorted(artifacts)


def test_a_server_that_stops_does_not_wait_for_reads_for_long(place: Place, served: Served) -> None:
    with place.locked():
        with serving(served.store) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            waiting = Served(served.client, served.store, channel, served.execution).read()
            until(lambda: place.waiting() == 1, "it does not wait")
            begun = time.monotonic()
        assert time.monotonic() - begun < 10
        assert waiting.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        until(lambda: place.waiting() == 0, "its query goes on")
