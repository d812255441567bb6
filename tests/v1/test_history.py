"""The history of a node, and the store as it was at any position."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mdstore
from mdstore.client.client import Client
from mdstore.errors import InvalidArgument, NotFound, OutOfRange
from mdstore.wire import nodes, service
from tests.store.log import fold, followed
from tests.store.writing import KINDS, Nodes, event, get_one, node, put

NUMBER = {"artifact": nodes.ARTIFACT, "execution": nodes.EXECUTION, "context": nodes.CONTEXT}


@pytest.mark.parametrize("kind", KINDS)
def test_a_history_has_every_image_of_the_node_and_only_its_own(client: Client, kind: str) -> None:
    ours = Nodes(client)
    first, other, _ = getattr(ours, f"{kind}s")
    images = [get_one(client, kind, first)]
    for n in range(5):
        put(client, kind, node(kind, id=first, custom={"n": n}, **({"name": "c0"} if kind == "context" else {})))
        put(client, kind, node(kind, id=other, custom={"n": n}, **({"name": "c1"} if kind == "context" else {})))
        images.append(get_one(client, kind, first))
    response = client.history(nodes.HistoryRequest(kind=NUMBER[kind], id=first))
    assert [getattr(entry, kind) for entry in response.entries] == images
    assert [entry.created for entry in response.entries] == [True] + [False] * 5
    by_seq = {commit.seq: commit for commit in followed(client)}
    for entry in response.entries:
        commit = by_seq[entry.seq]
        assert (entry.time_ms, entry.origin, entry.actor) == (commit.time_ms, commit.origin, commit.actor)


def test_a_history_comes_in_pages(client: Client) -> None:
    ours = Nodes(client)
    for n in range(7):
        put(client, "artifact", node("artifact", id=ours.artifacts[0], custom={"n": n}))
    request = nodes.HistoryRequest(kind=nodes.ARTIFACT, id=ours.artifacts[0], limit=3)
    seen = []
    while True:
        response = client.history(request)
        seen += [entry.seq for entry in response.entries]
        if not response.has_more:
            break
        assert len(response.entries) == 3
        request.after_seq = seen[-1]
    assert seen == [e.seq for e in client.history(nodes.HistoryRequest(kind=1, id=ours.artifacts[0])).entries]
    assert len(seen) == 8
    assert not client.history(nodes.HistoryRequest(kind=1, id=ours.artifacts[0], after_seq=seen[-1])).entries


def test_a_node_that_never_was_has_no_history(client: Client) -> None:
    with pytest.raises(NotFound, match="artifact with the id 77"):
        client.history(nodes.HistoryRequest(kind=nodes.ARTIFACT, id=77))
    with pytest.raises(InvalidArgument, match="kind"):
        client.history(nodes.HistoryRequest(id=77))


def test_a_snapshot_of_any_position_is_what_the_log_up_to_there_adds_up_to(client: Client) -> None:
    ours = Nodes(client)
    for n in range(3):
        put(client, "artifact", node("artifact", id=ours.artifacts[n], custom={"n": n}))
        client.put_events(service.PutEventsRequest(events=[event(ours.artifacts[n], ours.executions[0])]))
        client.put_artifact_type(
            service.PutArtifactTypeRequest(artifact_type={"name": f"t{n}", "properties": {"a": 1}}, can_add_fields=True)
        )
    commits = followed(client)
    for position in range(1, len(commits) + 1):
        pages = list(client.snapshot(position))
        assert {page.seq for page in pages} == {position}
        assert fold(page.changes for page in pages) == fold(commit.changes for commit in commits[:position])


def test_a_position_that_the_log_does_not_have_cannot_be_shown(client: Client) -> None:
    head = len(followed(client))
    for position in (head + 1, -1):
        with pytest.raises(OutOfRange, match=f"positions 1 to {head}"):
            list(client.snapshot(position))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 5)), max_size=20))
def test_the_last_image_of_each_history_is_the_node(writes: list[tuple[str, int, int]]) -> None:
    with mdstore.connect("sqlite://") as client:
        ours = Nodes(client)
        for kind, at, value in writes:
            node_id = getattr(ours, f"{kind}s")[at]
            put(
                client,
                kind,
                node(kind, id=node_id, custom={"n": value}, **({"name": f"c{at}"} if kind == "context" else {})),
            )
        for kind in KINDS:
            for node_id in getattr(ours, f"{kind}s"):
                entries = client.history(nodes.HistoryRequest(kind=NUMBER[kind], id=node_id)).entries
                assert getattr(entries[-1], kind) == get_one(client, kind, node_id)
                stamps = [getattr(entry, kind).last_update_time_since_epoch for entry in entries]
                assert stamps == sorted(stamps)
