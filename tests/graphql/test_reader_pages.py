"""The reader's pages inside many contexts at once: each is the page that one context's list would give."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import mdstore
from mdstore.store.reader import NodeFilter, OrderBy, Page, Reader
from mdstore.values import ContextId, Execution
from mdstore.wire import ingestion

Key, Node = ingestion.NodeKey, ingestion.NodeRecord

NOBODY = ContextId(9999)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Three runs of one pipeline with 5, 2 and 0 executions; one execution is in two of them."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store') / 'metadata.db'}"
    request = ingestion.IngestRequest(origin="test")
    pipeline = Key(type="system.Pipeline", name="churn")
    request.contexts.append(Node(key=pipeline, type="system.Pipeline", name="churn"))
    for run in ("a", "b", "c"):
        key = Key(type="system.PipelineRun", name=run)
        record = request.contexts.add(key=key, type="system.PipelineRun", name=run)
        record.custom_properties["display_name"].string_value = f"run {run}"
        request.parents.append(ingestion.MembershipRecord(context=pipeline, member=key))
    members = {"a": ["e1", "e2", "e3", "e4", "e5"], "b": ["e5", "e6"]}
    for name in ("e1", "e2", "e3", "e4", "e5", "e6"):
        request.executions.add(
            key=Key(external_id=name), type="system.ContainerExecution", name=name, state=3 if name < "e4" else 4
        )
    for run, names in members.items():
        for name in names:
            request.associations.add(context=Key(type="system.PipelineRun", name=run), member=Key(external_id=name))
    with mdstore.connect(url) as client:
        client.ingest(request)
    with Reader.open(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def runs(reader: Reader) -> list[ContextId]:
    page = reader.list_contexts(NodeFilter(types=["system.PipelineRun"]))
    assert [run.name for run in page.nodes] == ["a", "b", "c"]
    return [run.id for run in page.nodes]


def names(page: Page[Execution]) -> list[str | None]:
    return [node.name for node in page.nodes]


@pytest.mark.parametrize("order_by", [order for order in OrderBy if order is not OrderBy.URI])  # of artifacts only
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("where", [NodeFilter(), NodeFilter(states=[3]), NodeFilter(called=["e5", "e6"])])
def test_a_page_in_each_context_is_the_page_of_that_context(
    reader: Reader, runs: list[ContextId], where: NodeFilter, order_by: OrderBy, descending: bool
) -> None:
    after: str | None = None
    for _ in range(4):
        found = reader.list_executions_in(
            [*runs, NOBODY], where, order_by=order_by, descending=descending, first=2, after=after
        )
        for run in runs:
            alone = reader.list_executions(
                NodeFilter(in_contexts=[run], states=where.states, called=where.called),
                order_by=order_by,
                descending=descending,
                first=2,
                after=after,
            )
            if alone.nodes:
                assert found[run] == alone
            else:
                assert run not in found
        first = found.get(runs[0])
        if first is None or not first.has_next:
            break
        after = first.cursors[-1]


def test_a_filter_counts_in_each_context(reader: Reader, runs: list[ContextId]) -> None:
    assert reader.count_executions_in(runs, NodeFilter()) == {runs[0]: 5, runs[1]: 2}
    assert reader.count_executions_in(runs, NodeFilter(states=[3])) == {runs[0]: 3}


def test_children_and_members_are_found_for_many_contexts(reader: Reader, runs: list[ContextId]) -> None:
    pipeline = reader.list_contexts(NodeFilter(types=["system.Pipeline"])).nodes[0].id
    page = reader.list_contexts_in([pipeline], NodeFilter(called=["run b", "c"]), first=1)[pipeline]
    assert ([run.name for run in page.nodes], page.has_next) == (["b"], True)
    assert reader.count_contexts_in([pipeline], NodeFilter()) == {pipeline: 3}
    members = reader.executions_of_contexts(runs)
    assert [len(members.get(run, ())) for run in runs] == [5, 2, 0]


def test_called_finds_the_name_and_the_display_name(reader: Reader) -> None:
    found = reader.list_contexts(NodeFilter(called=["run a", "b"])).nodes
    assert [context.name for context in found] == ["a", "b"]


def test_a_filter_with_quotes_is_only_text(reader: Reader, tmp_path: Path) -> None:
    assert reader.list_contexts(NodeFilter(called=["a' OR '1'='1"])).nodes == []
