"""`kill -9` of `mdstore serve` while clients write: nothing acknowledged is lost, nothing is doubled or half there."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

import mdstore
from tests.databases.fixtures import ENGINES
from tests.ports import free_port
from tests.store.log import verified
from tests.store.mixture import Clients, check
from tests.store.writing import call
from tests.up.processes import Running
from tests.up.processes import mdstore as command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = 10
"""In each of `ROUNDS`."""
ROUNDS = range(5)
_NUMBERS = count()


def serve(url: str, port: int) -> Running:
    return command("serve", "--database", url, "--grpc-port", str(port))


@contextmanager
def said_by(server: Running) -> Iterator[None]:
    """What fails inside shows what the server printed."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}\nthe server said: {server.printed[-5000:]}") from error


def wait_until_ready(server: Running, port: int) -> None:
    server.wait_for(rf"127\.0\.0\.1:{port}", seconds=90)


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind that is not there yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/metadata.db"
        return
    server = request.getfixturevalue(request.param)
    name = f"kills{next(_NUMBERS)}"
    yield server.url(name)
    server.execute("postgres" if request.param == "postgresql" else "", f"DROP DATABASE {name}")


@pytest.mark.parametrize("number", ROUNDS)
def test_killed_under_load_a_server_loses_nothing_and_doubles_nothing(database_url: str, number: int) -> None:
    chance = random.Random(number)
    port = free_port()
    with mdstore.connect(database_url) as setup:
        clients = Clients([f"127.0.0.1:{port}"], setup)
    with clients:
        for life in range(KILLS):
            clients.go_on()
            with serve(database_url, port) as server, said_by(server):
                if life % 5 == 4:
                    # Not always when it is ready: somewhere between its first line and its first answers.
                    time.sleep(chance.uniform(0.1, 0.7))
                else:
                    clients.wait_for_progress(chance.randint(1, 40))
                server.process.kill()
                server.process.wait(10)
            clients.pause()
            assert clients.unexpected() == []
            check(clients.ledgers, verified(database_url))
        with serve(database_url, port) as server:
            wait_until_ready(server, port)
            clients.end()
    assert clients.unexpected() == []
    check(clients.ledgers, verified(database_url), all_answered=True)
    assert clients.acknowledged() > 10 * KILLS


def test_a_server_that_is_stopped_finishes_what_it_accepted(database_url: str) -> None:
    port = free_port()
    with mdstore.connect(database_url) as setup:
        clients = Clients([f"127.0.0.1:{port}"], setup)
    with clients:
        with serve(database_url, port) as server:
            clients.wait_for_progress(50)
            server.process.terminate()
            code, took = server.end()
        assert (code, took < 10) == (0, True)
        clients.pause()
        check(clients.ledgers, verified(database_url))
        with serve(database_url, port) as server:
            wait_until_ready(server, port)
            clients.end()
    assert clients.unexpected() == []
    check(clients.ledgers, verified(database_url), all_answered=True)


def test_a_port_that_is_taken_is_said_in_one_line(url: str, tmp_path: Path) -> None:
    port = free_port()
    with serve(url, port) as server:
        wait_until_ready(server, port)
        with command("serve", "--database", f"sqlite:///{tmp_path}/b.db", "--grpc-port", str(port)) as late:
            code, _ = late.end(seconds=20)
            assert code == 2
            assert len(late.printed.strip().splitlines()) == 1
            assert str(port) in late.printed
        with mdstore.connect(f"grpc://127.0.0.1:{port}") as client:
            assert call(client, "GetArtifactTypes") is not None
