"""Reading the store's database in bulk, as frozen values: what GraphQL and reports are answered from.

Every method is one question about many nodes, answered in a constant number of SQL statements. Threads: a reader may be
shared; each call takes a connection of its own from the pool.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mdstore.store import change_log
from mdstore.store.database import Database, open_database
from mdstore.store.filters import NodeFilter, OrderBy
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.store.operations import filtering, links, nodes
from mdstore.store.operations.filtering import Order
from mdstore.store.store import reading
from mdstore.store.transaction import Transaction
from mdstore.values import (
    Artifact,
    ArtifactId,
    Context,
    ContextId,
    Event,
    Execution,
    ExecutionId,
    artifact_from_message,
    context_from_message,
    event_from_message,
    execution_from_message,
)

__all__ = ["NodeFilter", "OrderBy", "Page", "Reader"]

NodeT = TypeVar("NodeT", Artifact, Execution, Context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[NodeT]):
    """A part of a list."""

    nodes: Sequence[NodeT]
    cursors: Sequence[str]
    """Of each node: where the page after it begins."""
    has_next: bool


class Reader:
    """Bulk reads of one database."""

    def __init__(self, database: Database) -> None:
        """Own an open database; `Reader.open` opens one."""
        self._database = database

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at `url`, which must be there, for reading; raises as `mdstore.connect`."""
        return cls(open_database(url, must_exist=True))

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        with reading(self._database) as tx:
            yield tx

    def artifacts(self, ids: Collection[ArtifactId]) -> Mapping[ArtifactId, Artifact]:
        """Those of `ids` that exist."""
        with self._reading() as tx:
            return {ArtifactId(node.id): artifact_from_message(node) for node in nodes.by_ids(tx, ARTIFACT, ids)}

    def executions(self, ids: Collection[ExecutionId]) -> Mapping[ExecutionId, Execution]:
        """Those of `ids` that exist."""
        with self._reading() as tx:
            return {ExecutionId(node.id): execution_from_message(node) for node in nodes.by_ids(tx, EXECUTION, ids)}

    def contexts(self, ids: Collection[ContextId]) -> Mapping[ContextId, Context]:
        """Those of `ids` that exist."""
        with self._reading() as tx:
            return {ContextId(node.id): context_from_message(node) for node in nodes.by_ids(tx, CONTEXT, ids)}

    def list_artifacts(
        self,
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Page[Artifact]:
        """A page of artifacts; `after` is a cursor of an earlier page with the same order.

        Raises:
            InvalidArgument: the cursor is not one, or belongs to another order.
        """
        found, cursors, more = self._page(ARTIFACT, where, Order(order_by, descending), first, after)
        return Page(nodes=[artifact_from_message(node) for node in found], cursors=cursors, has_next=more)

    def list_executions(
        self,
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Page[Execution]:
        """A page of executions, as `list_artifacts`."""
        found, cursors, more = self._page(EXECUTION, where, Order(order_by, descending), first, after)
        return Page(nodes=[execution_from_message(node) for node in found], cursors=cursors, has_next=more)

    def list_contexts(
        self,
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Page[Context]:
        """A page of contexts, as `list_artifacts`."""
        found, cursors, more = self._page(CONTEXT, where, Order(order_by, descending), first, after)
        return Page(nodes=[context_from_message(node) for node in found], cursors=cursors, has_next=more)

    def _page(
        self, kind: Kind, where: NodeFilter, order: Order, first: int, after: str | None
    ) -> tuple[Sequence[Any], Sequence[str], bool]:
        with self._reading() as tx:
            rows = filtering.page(tx, kind, where, order, first + 1, after)
            found = nodes.messages(tx, kind, rows[:first])
        return found, [filtering.cursor(order, node) for node in found], len(rows) > first

    def list_artifacts_in(
        self,
        contexts: Collection[ContextId],
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Mapping[ContextId, Page[Artifact]]:
        """Of each context the page that `list_artifacts` would give; a context without any artifact is absent."""
        return self._page_in_each(
            ARTIFACT, artifact_from_message, contexts, where, Order(order_by, descending), first, after
        )

    def list_executions_in(
        self,
        contexts: Collection[ContextId],
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Mapping[ContextId, Page[Execution]]:
        """Of each context the page that `list_executions` would give; a context without any execution is absent."""
        return self._page_in_each(
            EXECUTION, execution_from_message, contexts, where, Order(order_by, descending), first, after
        )

    def list_contexts_in(
        self,
        contexts: Collection[ContextId],
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Mapping[ContextId, Page[Context]]:
        """Of each context the page of its children that `list_contexts` would give; one without any is absent."""
        return self._page_in_each(
            CONTEXT, context_from_message, contexts, where, Order(order_by, descending), first, after
        )

    def _page_in_each(
        self,
        kind: Kind,
        value: Callable[[Any], NodeT],
        contexts: Collection[ContextId],
        where: NodeFilter,
        order: Order,
        first: int,
        after: str | None,
    ) -> Mapping[ContextId, Page[NodeT]]:
        with self._reading() as tx:
            rows = filtering.page_in_each(tx, kind, contexts, where, order, first + 1, after)
            # A node may be in several of the contexts.
            distinct = {row[1]: row[1:] for row in rows}
            found = {node.id: node for node in nodes.messages(tx, kind, distinct.values())}
        members: dict[int, list[Any]] = {}
        for row in rows:
            members.setdefault(row[0], []).append(found[row[1]])
        return {
            ContextId(context): Page(
                nodes=[value(node) for node in inside[:first]],
                cursors=[filtering.cursor(order, node) for node in inside[:first]],
                has_next=len(inside) > first,
            )
            for context, inside in members.items()
        }

    def count_artifacts_in(self, contexts: Collection[ContextId], where: NodeFilter) -> Mapping[ContextId, int]:
        """Of each context how many of its artifacts the filter leaves; a context without any is absent."""
        with self._reading() as tx:
            return {ContextId(context): n for context, n in filtering.count_in_each(tx, ARTIFACT, contexts, where)}

    def count_executions_in(self, contexts: Collection[ContextId], where: NodeFilter) -> Mapping[ContextId, int]:
        """Of each context how many of its executions the filter leaves; a context without any is absent."""
        with self._reading() as tx:
            return {ContextId(context): n for context, n in filtering.count_in_each(tx, EXECUTION, contexts, where)}

    def count_contexts_in(self, contexts: Collection[ContextId], where: NodeFilter) -> Mapping[ContextId, int]:
        """Of each context how many of its children the filter leaves; a context without any is absent."""
        with self._reading() as tx:
            return {ContextId(context): n for context, n in filtering.count_in_each(tx, CONTEXT, contexts, where)}

    def executions_of_contexts(self, ids: Collection[ContextId]) -> Mapping[ContextId, Sequence[ExecutionId]]:
        """The executions that are associated with each context, by id; a context without any is absent."""
        found: dict[ContextId, list[ExecutionId]] = {}
        with self._reading() as tx:
            for context, execution in links.member_ids(tx, EXECUTION, ids):
                found.setdefault(ContextId(context), []).append(ExecutionId(execution))
        return found

    def count_artifacts(self, where: NodeFilter) -> int:
        """How many artifacts the filter leaves."""
        with self._reading() as tx:
            return filtering.count(tx, ARTIFACT, where)

    def count_executions(self, where: NodeFilter) -> int:
        """How many executions the filter leaves."""
        with self._reading() as tx:
            return filtering.count(tx, EXECUTION, where)

    def count_contexts(self, where: NodeFilter) -> int:
        """How many contexts the filter leaves."""
        with self._reading() as tx:
            return filtering.count(tx, CONTEXT, where)

    def events_of_artifacts(self, ids: Collection[ArtifactId]) -> Mapping[ArtifactId, Sequence[Event]]:
        """Each artifact's events by event id; an artifact without any is absent."""
        found: dict[ArtifactId, list[Event]] = {}
        with self._reading() as tx:
            for message in links.events_of(tx, ARTIFACT, ids):
                event = event_from_message(message)
                found.setdefault(event.artifact_id, []).append(event)
        return found

    def events_of_executions(self, ids: Collection[ExecutionId]) -> Mapping[ExecutionId, Sequence[Event]]:
        """Each execution's events by event id; an execution without any is absent."""
        found: dict[ExecutionId, list[Event]] = {}
        with self._reading() as tx:
            for message in links.events_of(tx, EXECUTION, ids):
                event = event_from_message(message)
                found.setdefault(event.execution_id, []).append(event)
        return found

    def contexts_of_artifacts(self, ids: Collection[ArtifactId]) -> Mapping[ArtifactId, Sequence[Context]]:
        """The contexts that each artifact is attributed to, by id."""
        with self._reading() as tx:
            pairs = links.context_ids_of(tx, ARTIFACT, ids)
            return {ArtifactId(node): found for node, found in _contexts_by_node(tx, pairs).items()}

    def contexts_of_executions(self, ids: Collection[ExecutionId]) -> Mapping[ExecutionId, Sequence[Context]]:
        """The contexts that each execution is associated with, by id."""
        with self._reading() as tx:
            pairs = links.context_ids_of(tx, EXECUTION, ids)
            return {ExecutionId(node): found for node, found in _contexts_by_node(tx, pairs).items()}

    def parents_of_contexts(self, ids: Collection[ContextId]) -> Mapping[ContextId, Sequence[Context]]:
        """The parents of each context, by id."""
        with self._reading() as tx:
            pairs = links.parent_ids(tx, ids)
            return {ContextId(node): found for node, found in _contexts_by_node(tx, pairs).items()}

    def head_seq(self) -> int:
        """The newest position of the change log."""
        with self._reading() as tx:
            return change_log.head(tx).seq

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _contexts_by_node(tx: Transaction, pairs: Sequence[Sequence[int]]) -> dict[int, list[Context]]:
    contexts = {
        node.id: context_from_message(node) for node in nodes.by_ids(tx, CONTEXT, {context for _, context in pairs})
    }
    found: dict[int, list[Context]] = {}
    for node, context in pairs:
        if context in contexts:
            found.setdefault(node, []).append(contexts[context])
    return found
