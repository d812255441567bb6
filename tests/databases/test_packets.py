"""A MySQL server that takes short statements only: what is too long is refused, and is nobody else's trouble."""

from collections.abc import Iterator

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import InvalidArgument
from mdstore.wire import service
from tests.databases.servers import Server
from tests.store.test_groups import sent, together
from tests.store.writing import Nodes

pytestmark = pytest.mark.mariadb

MOST = 1024 * 1024
"""Bytes of a statement."""


@pytest.fixture
def server(mariadb: Server) -> Server:
    """The one that this is about."""
    return mariadb


@pytest.fixture
def client(mariadb: Server, database: str) -> Iterator[Client]:
    ((usual,),) = mariadb.execute("", "SELECT @@GLOBAL.max_allowed_packet")
    mariadb.execute("", f"SET GLOBAL max_allowed_packet = {MOST}")
    try:
        with mdstore.connect(mariadb.url(database)) as found:
            yield found
    finally:
        mariadb.execute("", f"SET GLOBAL max_allowed_packet = {usual}")


def test_what_cannot_be_asked_is_refused_and_leaves_no_lock(client: Client, mariadb: Server, database: str) -> None:
    base = Nodes(client)
    with pytest.raises(InvalidArgument, match="max_allowed_packet"):
        client.put_execution(
            service.PutExecutionRequest(
                execution=base.new("execution"), contexts=[base.new("context", name="x" * (2 * MOST))]
            )
        )
    assert mariadb.execute(database, "SELECT seq FROM mdstore_head FOR UPDATE NOWAIT")


def test_what_one_cannot_ask_costs_its_neighbours_nothing(client: Client) -> None:
    base = Nodes(client)
    outcomes = together(
        client,
        [
            sent(
                "PutExecution",
                execution=base.new("execution", name=f"n{number}"),
                contexts=[base.new("context", name="x" * (2 * MOST) if number == 3 else "run")],
                options=service.PutExecutionRequest.Options(reuse_context_if_already_exist=True),
            )
            for number in range(8)
        ],
    )
    assert [type(outcome) for outcome in outcomes] == [
        InvalidArgument if number == 3 else service.PutExecutionResponse for number in range(8)
    ]
