"""Deleting nodes: what goes, what stays, what is still known, and what keeps a node from going."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mdstore
from mdstore.client.client import Client
from mdstore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from mdstore.wire import mlmd, nodes, service
from tests.store.log import followed, of_log, of_tables, verify
from tests.store.writing import KINDS, Nodes, call, event, events_of, get, get_one, node, put, put_type

NUMBER = {"artifact": nodes.ARTIFACT, "execution": nodes.EXECUTION, "context": nodes.CONTEXT}
OUTPUT, INPUT = mlmd.Event.OUTPUT, mlmd.Event.INPUT


def refs(kind: str, *ids: int) -> list[nodes.NodeRef]:
    return [nodes.NodeRef(kind=NUMBER[kind], id=node_id) for node_id in ids]


def delete(client: Client, *named: nodes.NodeRef, **fields: Any) -> nodes.DeleteNodesResponse:
    return client.delete_nodes(nodes.DeleteNodesRequest(nodes=named, **fields))


class Chain:
    """a0 -> e0 -> a1 -> e1 -> a2, all in c0, which is in c1."""

    def __init__(self, client: Client) -> None:
        self.nodes = Nodes(client)
        self.a, self.e, self.c = self.nodes.artifacts, self.nodes.executions, self.nodes.contexts
        client.put_events(
            service.PutEventsRequest(
                events=[
                    event(self.a[0], self.e[0], INPUT, "in", 0),
                    event(self.a[1], self.e[0], OUTPUT, "out"),
                    event(self.a[1], self.e[1], INPUT),
                    event(self.a[2], self.e[1], OUTPUT),
                ]
            )
        )
        client.put_attributions_and_associations(
            service.PutAttributionsAndAssociationsRequest(
                attributions=[{"artifact_id": a, "context_id": self.c[0]} for a in self.a],
                associations=[{"execution_id": e, "context_id": self.c[0]} for e in self.e],
            )
        )
        client.put_parent_contexts(
            service.PutParentContextsRequest(parent_contexts=[{"child_id": self.c[0], "parent_id": self.c[1]}])
        )


@pytest.fixture
def chain(client: Client) -> Chain:
    return Chain(client)


def test_an_artifact_goes_with_its_events_and_memberships(client: Client, chain: Chain) -> None:
    delete(client, *refs("artifact", chain.a[1]))
    assert get(client, "artifact", [chain.a[1]]) == []
    assert [found.artifact_id for found in events_of(client, "execution", *chain.e)] == [chain.a[0], chain.a[2]]
    assert events_of(client, "artifact", chain.a[1]) == []
    inside = call(client, "GetArtifactsByContext", context_id=chain.c[0]).artifacts
    assert [found.id for found in inside] == [chain.a[0], chain.a[2]]
    with pytest.raises(NotFound):
        call(client, "GetContextsByArtifact", artifact_id=chain.a[1])


def test_a_context_goes_with_its_links_and_leaves_its_members(client: Client, chain: Chain) -> None:
    delete(client, *refs("context", chain.c[0]))
    assert get(client, "context", [chain.c[0]]) == []
    assert len(get(client, "artifact", chain.a)) == 3
    assert call(client, "GetChildrenContextsByContext", context_id=chain.c[1]).contexts == []
    with pytest.raises(NotFound):
        call(client, "GetContextsByExecution", execution_id=chain.e[0])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_deleted_is_named_in_the_log_with_who_when_and_why(client: Client, chain: Chain, kind: str) -> None:
    node_id = getattr(chain.nodes, f"{kind}s")[0]
    image = get_one(client, kind, node_id)
    response = delete(client, *refs(kind, node_id), actor="ada", reason="test data")
    commit = followed(client)[-1]
    assert (commit.seq, commit.origin, commit.actor) == (response.seq, "delete", "ada")
    (gone,) = getattr(commit.changes, f"deleted_{kind}s")
    assert (gone.id, gone.type, gone.name, gone.actor, gone.reason) == (node_id, "T", image.name, "ada", "test data")
    history = client.history(nodes.HistoryRequest(kind=NUMBER[kind], id=node_id)).entries
    assert getattr(history[0], kind) == image
    assert (history[-1].seq, history[-1].deletion.reason) == (response.seq, "test data")
    assert not history[-1].HasField(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_external_ids_are_free_again_and_ids_are_not(client: Client, chain: Chain, kind: str) -> None:
    wanted = chain.nodes.new(kind, name="n", external_id="x")
    (first,) = put(client, kind, wanted)
    with pytest.raises(AlreadyExists):
        put(client, kind, wanted)
    delete(client, nodes.NodeRef(kind=NUMBER[kind], external_id="x"))
    (second,) = put(client, kind, wanted)
    assert second > first
    delete(client, *refs(kind, second))
    (third,) = put(client, kind, chain.nodes.new(kind, name="other"))
    assert third > second


def test_a_dry_run_says_what_would_go_and_changes_nothing(client: Client, chain: Chain) -> None:
    head = followed(client)[-1].seq
    named = [*refs("artifact", chain.a[0]), *refs("execution", chain.e[0])]
    impact = delete(client, *named, dry_run=True).impact
    assert followed(client)[-1].seq == head
    assert (impact.artifacts, impact.executions, impact.contexts) == (1, 1, 0)
    assert (impact.events, impact.attributions, impact.associations, impact.parent_contexts) == (2, 1, 1, 0)
    assert list(impact.downstream_artifact_ids) == [chain.a[1], chain.a[2]]
    assert list(impact.downstream_execution_ids) == [chain.e[1]]
    assert (impact.downstream_artifacts, impact.downstream_executions, impact.downstream_is_cut) == (2, 1, False)
    assert (impact.contexts_touched, list(impact.context_ids)) == (1, [chain.c[0]])
    assert delete(client, *named).impact == impact


def test_what_others_were_made_from_can_be_kept(client: Client, chain: Chain) -> None:
    with pytest.raises(FailedPrecondition, match=r"2 artifacts and 2 executions were made from"):
        delete(client, *refs("artifact", chain.a[0]), only_without_downstream=True)
    delete(client, *refs("artifact", chain.a[2]), only_without_downstream=True)
    assert len(get(client, "artifact", chain.a)) == 2


def test_a_filter_names_many(client: Client, chain: Chain) -> None:
    put(client, "artifact", *(chain.nodes.new("artifact", uri=f"s3://old/{n}") for n in range(5)))
    impact = client.delete_nodes(
        nodes.DeleteNodesRequest(kind=nodes.ARTIFACT, filter=nodes.NodeFilter(uri_prefix="s3://old/"))
    ).impact
    assert impact.artifacts == 5
    assert [found.id for found in call(client, "GetArtifacts").artifacts] == chain.a


@pytest.mark.parametrize(
    "request_",
    [
        nodes.DeleteNodesRequest(),
        nodes.DeleteNodesRequest(kind=nodes.ARTIFACT, filter=nodes.NodeFilter()),
        nodes.DeleteNodesRequest(kind=nodes.ARTIFACT, filter=nodes.NodeFilter(in_children_too=True)),
        nodes.DeleteNodesRequest(
            kind=nodes.ARTIFACT, filter=nodes.NodeFilter(custom_property_ranges={"x": nodes.TextRange()})
        ),
        nodes.DeleteNodesRequest(filter=nodes.NodeFilter(names=["x"])),
        nodes.DeleteNodesRequest(kind=nodes.CONTEXT, filter=nodes.NodeFilter(states=[1])),
        nodes.DeleteNodesRequest(nodes=[{"id": 1}]),
        nodes.DeleteNodesRequest(nodes=[{"kind": nodes.ARTIFACT}]),
    ],
)
def test_a_request_that_names_nothing_deletes_nothing(
    client: Client, chain: Chain, request_: nodes.DeleteNodesRequest
) -> None:
    with pytest.raises(InvalidArgument):
        client.delete_nodes(request_)
    assert len(get(client, "artifact", chain.a)) == 3


def test_one_node_that_is_not_there_stops_the_whole_deletion(client: Client, chain: Chain) -> None:
    with pytest.raises(NotFound, match="artifact 999"):
        delete(client, *refs("artifact", chain.a[0], 999))
    assert len(get(client, "artifact", chain.a)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_held_node_stays_until_all_its_holds_are_released(client: Client, chain: Chain, kind: str) -> None:
    node_id = getattr(chain.nodes, f"{kind}s")[0]
    named = refs(kind, node_id)
    assert client.hold_nodes(nodes.HoldNodesRequest(nodes=named, name="audit", reason="case 7", actor="eve")).seq > 0
    assert client.hold_nodes(nodes.HoldNodesRequest(nodes=named, name="audit")).seq == 0
    client.hold_nodes(nodes.HoldNodesRequest(nodes=named))
    (held, _) = client.list_holds(nodes.ListHoldsRequest(nodes=named)).holds
    assert (held.id, held.name, held.reason, held.actor) == (node_id, "audit", "case 7", "eve")
    assert [found.name for found in delete(client, *named, dry_run=True).impact.holds] == ["audit", "hold"]
    for name in ("audit", "hold"):
        with pytest.raises(FailedPrecondition, match=f"{kind} {node_id} is held by '{name}'"):
            delete(client, *named)
        client.release_nodes(nodes.ReleaseNodesRequest(nodes=named, name=name))
    assert client.release_nodes(nodes.ReleaseNodesRequest(nodes=named)).seq == 0
    delete(client, *named)
    assert client.list_holds(nodes.ListHoldsRequest()).holds == []
    assert [commit.origin for commit in followed(client)[-5:]] == ["hold", "hold", "hold", "hold", "delete"]


def test_what_is_not_there_cannot_be_held(client: Client, chain: Chain) -> None:
    with pytest.raises(NotFound, match="execution 999"):
        client.hold_nodes(nodes.HoldNodesRequest(nodes=refs("execution", chain.e[0], 999)))
    assert client.list_holds(nodes.ListHoldsRequest()).holds == []


def test_a_snapshot_before_the_deletion_has_the_node_and_after_it_not(client: Client, chain: Chain) -> None:
    before = followed(client)[-1].seq
    after = delete(client, *refs("artifact", chain.a[1]), *refs("context", chain.c[0])).seq
    put(client, "artifact", chain.nodes.new("artifact"))

    def shown(seq: int) -> tuple[set[int], int, int, int]:
        pages = [page.changes for page in client.snapshot(seq)]
        return (
            {artifact.id for page in pages for artifact in page.artifacts},
            sum(len(page.events) for page in pages),
            sum(len(page.attributions) + len(page.associations) for page in pages),
            sum(len(page.parent_contexts) for page in pages),
        )

    assert shown(before) == (set(chain.a), 4, 6, 1)
    assert shown(after) == ({chain.a[0], chain.a[2]}, 2, 0, 0)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "link", "delete"]), st.integers(0, 30), st.integers(0, 30)), max_size=25
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STEPS)
def test_whatever_is_deleted_the_log_adds_up_to_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('delete')}/store.db"
    with mdstore.connect(url) as client:
        types = {kind: put_type(client, kind) for kind in KINDS}
        there: dict[str, list[int]] = {kind: [] for kind in KINDS}
        for number, (step, left, right) in enumerate(steps):
            kind = KINDS[left % 3]
            if step == "create":
                there[kind] += put(client, kind, node(kind, type_id=types[kind], name=f"n{number}"))
            elif step == "link" and there["artifact"] and there["execution"]:
                artifact = there["artifact"][left % len(there["artifact"])]
                execution = there["execution"][right % len(there["execution"])]
                wanted = event(artifact, execution, INPUT if right % 2 else OUTPUT)
                try:
                    client.put_events(service.PutEventsRequest(events=[wanted]))
                except AlreadyExists:
                    continue
            elif step == "delete" and there[kind]:
                gone = there[kind].pop(right % len(there[kind]))
                delete(client, *refs(kind, gone))
        verify(url)
        for kind in KINDS:
            assert [found.id for found in getattr(call(client, f"Get{kind.title()}s"), f"{kind}s")] == there[kind]
        assert of_log(client) == of_tables(client)


_KILLED = """
import sys, mdstore
from mdstore.wire import nodes
with mdstore.connect(sys.argv[1]) as client:
    print("ready", flush=True)
    for start in range(1, 10_000, 40):
        named = [nodes.NodeRef(kind=nodes.ARTIFACT, id=start + n) for n in range(40)]
        client.delete_nodes(nodes.DeleteNodesRequest(nodes=named))
        print(start, flush=True)
"""


def test_being_killed_while_deleting_leaves_whole_deletions(url: str) -> None:
    """Each deletion is of 40 artifacts: all of them go, or none, and what was answered is gone."""
    with mdstore.connect(url) as client:
        ours = {kind: put_type(client, kind) for kind in ("artifact", "execution")}
        put(client, "artifact", *(node("artifact", type_id=ours["artifact"]) for _ in range(8000)))
        (execution,) = put(client, "execution", node("execution", type_id=ours["execution"]))
        client.put_events(
            service.PutEventsRequest(events=[event(artifact, execution, INPUT) for artifact in range(1, 8001)])
        )
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    answered = 0
    for line in process.stdout:
        if line.strip().isdigit():
            answered = int(line)
        if answered > 2000:
            break
    process.kill()
    rest = [int(line) for line in process.stdout.read().splitlines() if line.isdigit()]
    process.wait()
    answered = max([answered, *rest])
    with mdstore.connect(url) as client:
        left = {found.id for found in call(client, "GetArtifacts").artifacts}
        assert not left & set(range(1, answered + 40))
        assert len(left) % 40 == 0
        assert {found.artifact_id for found in events_of(client, "execution", execution)} == left
        assert of_log(client) == of_tables(client)
    verify(url)
