"""Uses by location: the store finds the version, once."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdstore
from mdstore.store.store import Store
from mdstore.wire import ingestion, mlmd, service
from tests.client.ways import WAYS, Waiting, Way, connected
from tests.databases.fixtures import ENGINES, EmptyStores
from tests.store.served import serving
from tests.store.writing import properties

URI = "s3://b/table.csv"


@pytest.fixture(params=[*WAYS, *ENGINES[1:]])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """A client of an empty store: of SQLite in all ways, of a server in one."""
    if request.param in ("postgresql", "mariadb"):
        stores: EmptyStores = request.getfixturevalue("empty_stores")
        yield Waiting(stores.client(request.param))
        return
    database = request.getfixturevalue("database")
    with Store.open(database) as store, serving(store) as port, connected(request.param, database, port) as found:
        yield found


def version(external_id: str, uri: str = URI, **custom: Any) -> dict[str, Any]:
    return {
        "key": {"external_id": external_id},
        "type": "T",
        "uri": uri,
        "custom_properties": properties(custom),
    }


def made_by(execution: str, artifact: str) -> dict[str, Any]:
    return {"execution": {"external_id": execution}, "artifact": {"external_id": artifact}, "type": mlmd.Event.OUTPUT}


def ingest(way: Way, **fields: Any) -> ingestion.IngestResponse:
    response: ingestion.IngestResponse = way.call("ingest", ingestion.IngestRequest(**fields))
    return response


def use(way: Way, execution: str = "e", uri: str = URI, **fields: Any) -> list[str]:
    """Record a use; returns the external ids of all that the execution then uses, in the order of the events."""
    record = {"execution": {"external_id": execution}, "name": "table", "uri": uri, **fields}
    (execution_id,) = ingest(
        way, executions=[{"key": {"external_id": execution}, "type": "E"}], uses=[record]
    ).execution_ids
    return used(way, execution_id)


def used(way: Way, execution_id: int) -> list[str]:
    events = way.call(
        "get_events_by_execution_ids", service.GetEventsByExecutionIDsRequest(execution_ids=[execution_id])
    ).events
    ids = [event.artifact_id for event in events if event.type == mlmd.Event.INPUT]
    found = way.call("get_artifacts_by_id", service.GetArtifactsByIDRequest(artifact_ids=ids)).artifacts
    names = {artifact.id: artifact.external_id for artifact in found}
    return [names[artifact_id] for artifact_id in ids]


def test_the_newest_version_is_what_was_used(way: Way) -> None:
    ingest(way, artifacts=[version("old"), version("new"), version("elsewhere", "s3://b/other.csv")])

    assert use(way) == ["new"]


def test_the_same_use_again_keeps_its_version_whatever_came_meanwhile(way: Way) -> None:
    ingest(way, artifacts=[version("old")])
    assert use(way) == ["old"]
    ingest(way, artifacts=[version("new")])

    assert use(way) == ["old"]
    assert use(way, "another") == ["new"]


def test_a_version_that_nobody_was_seen_to_make_is_made_up_once(way: Way) -> None:
    assert use(way) == [f"uri:{URI}"]
    assert use(way, "another") == [f"uri:{URI}"]

    (artifact,) = way.call("get_artifacts_by_uri", service.GetArtifactsByURIRequest(uris=[URI])).artifacts
    assert (artifact.type, artifact.state) == ("system.Artifact", mlmd.Artifact.LIVE)


def test_equal_content_goes_before_newer_versions(way: Way) -> None:
    ingest(way, artifacts=[version("one", digest="sha256:1"), version("two", digest="sha256:2"), version("unknown")])

    assert use(way, "a", digest="sha256:1") == ["one"]
    assert use(way, "b", digest="sha256:3") == ["unknown"]
    assert use(way, "c") == ["unknown"]


def test_other_content_than_that_of_all_versions_is_a_version_of_its_own(way: Way) -> None:
    ingest(way, artifacts=[version("one", digest="sha256:1")])
    assert use(way, "a", digest="sha256:9") == [f"uri:{URI}"]
    assert use(way, "b", digest="sha256:8") == [f"uri:{URI}#sha256:8"]
    assert use(way, "b", digest="sha256:8") == [f"uri:{URI}#sha256:8"]
    assert use(way, "c", digest="sha256:9") == [f"uri:{URI}"]


def test_what_came_later_than_the_use_counts_only_when_there_is_nothing_else(way: Way) -> None:
    moments = {"old": "2026-01-01T00:00:01.000Z", "new": "2026-01-01T00:00:03.000Z"}
    ingest(way, artifacts=[version(name, produced_at=moment) for name, moment in moments.items()])
    second = 1_767_225_600_000 + 2000

    assert use(way, "a", as_of_ms=second) == ["old"]
    assert use(way, "b", as_of_ms=second + 5000) == ["new"]
    assert use(way, "c", as_of_ms=second - 5000) == ["old"]


def test_what_the_execution_made_itself_is_not_what_it_used(way: Way) -> None:
    ingest(way, artifacts=[version("before")])
    execution = {"key": {"external_id": "e"}, "type": "E"}
    ingest(way, executions=[execution], artifacts=[version("mine")], events=[made_by("e", "mine")])

    assert use(way) == ["before"]


def test_what_the_execution_makes_in_the_same_request_is_not_what_it_used(way: Way) -> None:
    ingest(way, artifacts=[version("before")])
    request = {
        "executions": [{"key": {"external_id": "e"}, "type": "E"}],
        "artifacts": [version("mine")],
        "events": [made_by("e", "mine")],
        "uses": [{"execution": {"external_id": "e"}, "name": "table", "uri": URI}],
    }
    (execution_id,) = ingest(way, **request).execution_ids

    assert used(way, execution_id) == ["before"]
    assert ingest(way, **request).seq == 0


def test_a_use_finds_what_the_same_request_made(way: Way) -> None:
    response = ingest(
        way,
        executions=[{"key": {"external_id": name}, "type": "E"} for name in ("maker", "user")],
        artifacts=[version("made")],
        events=[made_by("maker", "made")],
        uses=[{"execution": {"external_id": "user"}, "name": "x", "uri": URI}] * 2,
    )

    assert used(way, response.execution_ids[1]) == ["made"]


def test_more_versions_than_a_page(way: Way) -> None:
    ingest(way, artifacts=[version(f"v{number:03}", digest=f"sha256:{number}") for number in range(350)])

    assert use(way, "a", digest="sha256:7") == ["v007"]
    assert use(way, "b") == ["v349"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["make", "use"]), st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_repeating_everything_at_the_end_changes_nothing(actions: list[tuple[str, int, int]]) -> None:
    with mdstore.connect("sqlite://") as client:
        requests = []
        for place, (action, who, digest) in enumerate(actions):
            execution = {"key": {"external_id": f"e{who}"}, "type": "E"}
            known = f"sha256:{digest}" if digest else ""
            if action == "make":
                made = version(f"e{who}/{place}", **({"digest": known} if known else {}))
                request = {"artifacts": [made], "events": [made_by(f"e{who}", f"e{who}/{place}")]}
            else:
                request = {"uses": [{"execution": execution["key"], "name": "t", "uri": URI, "digest": known}]}
            requests.append(ingestion.IngestRequest(executions=[execution], **request))
            client.ingest(requests[-1])

        assert [client.ingest(request).seq for request in requests if request.uses] == [
            0 for request in requests if request.uses
        ]
