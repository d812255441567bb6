"""A MySQL database whose collation takes `a` and `A` for one, as it is by default."""

from collections.abc import Iterator

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.wire import service
from tests.databases.servers import Server
from tests.store.test_groups import sent, together
from tests.store.writing import Nodes, get_one, put, value

pytestmark = pytest.mark.mariadb


@pytest.fixture
def server(mariadb: Server) -> Server:
    """The one that this is about."""
    return mariadb


@pytest.fixture
def client(mariadb: Server, database: str) -> Iterator[Client]:
    mariadb.execute("", f"CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
    with mdstore.connect(mariadb.url(database)) as found:
        yield found


def step(base: Nodes, name: str) -> service.PutExecutionRequest:
    return service.PutExecutionRequest(
        execution=base.new("execution"),
        contexts=[base.new("context", name=name)],
        options=service.PutExecutionRequest.Options(reuse_context_if_already_exist=True),
    )


@pytest.mark.parametrize("name", ["RUN", "run "])
def test_a_context_whose_name_the_database_takes_for_this_one_is_reused(client: Client, name: str) -> None:
    base = Nodes(client)
    (context,) = client.put_execution(step(base, "run")).context_ids
    assert client.put_execution(step(base, name)).context_ids == [context]
    assert [
        list(outcome.context_ids)
        for outcome in together(
            client,
            [
                (
                    "/ml_metadata.MetadataStoreService/PutExecution",
                    step(base, each),
                )
                for each in ("run", name, "other")
            ],
        )
    ][:2] == [[context], [context]]


def test_a_property_may_get_the_same_name_in_other_letters(client: Client) -> None:
    base = Nodes(client)
    first, second = put(client, "artifact", *(base.new("artifact", custom={"Foo": n}) for n in range(2)))
    together(
        client,
        [
            sent("PutArtifacts", artifacts=[base.new("artifact", id=first, custom={"Foo": 5})]),
            sent("PutArtifacts", artifacts=[base.new("artifact", id=second, custom={"foo": 6})]),
        ],
    )
    assert dict(get_one(client, "artifact", second).custom_properties) == {"foo": value(6)}
