"""A MySQL database whose collation takes `a` and `A` for one, as it is by default."""

from collections.abc import Iterator

import pytest

import mdstore
from mdstore.client.client import Client
from mdstore.errors import AlreadyExists
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


@pytest.mark.parametrize("mask", [(), ("custom_properties.foo",)])
def test_a_property_does_not_take_the_place_of_one_whose_name_is_the_same_to_the_database(
    client: Client, mask: tuple[str, ...]
) -> None:
    base = Nodes(client)
    (there,) = put(client, "artifact", base.new("artifact", custom={"Foo": 1}))
    with pytest.raises(AlreadyExists):
        put(client, "artifact", base.new("artifact", id=there, custom={"Foo": 1, "foo": 2}), mask=mask)
    with pytest.raises(AlreadyExists):
        put(client, "artifact", base.new("artifact", custom={"Foo": 1, "foo": 2}))
    assert dict(get_one(client, "artifact", there).custom_properties) == {"Foo": value(1)}


def test_an_artifact_is_reused_by_an_external_id_that_is_the_same_to_the_database(client: Client) -> None:
    base = Nodes(client)
    (there,) = put(client, "artifact", base.new("artifact", external_id="Run-1"))
    made = client.put_execution(
        service.PutExecutionRequest(
            execution=base.new("execution"),
            artifact_event_pairs=[
                service.PutExecutionRequest.ArtifactAndEvent(artifact=base.new("artifact", external_id=name))
                for name in ("run-1", "run-2")
            ],
            options={"reuse_artifact_if_already_exist_by_external_id": True},
        )
    )
    assert made.artifact_ids[0] == there != made.artifact_ids[1]
    assert get_one(client, "artifact", there).external_id == "run-1"
    linked = service.PutLineageSubgraphRequest(artifacts=[base.new("artifact", external_id="RUN-1")])
    linked.options.reuse_artifact_if_already_exist_by_external_id = True
    assert client.put_lineage_subgraph(linked).artifact_ids == [there]
