"""Reads of one request, gathered: all nodes of a level are asked for together, and nothing is asked for twice.

Resolvers run one by one; a loader waits until the event loop has nothing else to do and then asks the reader once for
every id that was asked for in between. So a level of a query costs the same number of reads for one node and for a
thousand. The reader is synchronous: its calls run in a thread pool.
"""

import asyncio
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar

from strawberry.dataloader import DataLoader

from mdstore.errors import ResourceExhausted
from mdstore.store.reader import NodeFilter, OrderBy, Page, Reader
from mdstore.values import Artifact, ArtifactId, Context, ContextId, Event, Execution, ExecutionId

MOST_CALLED: Final = 1000
"""Contexts of one name that are looked at."""

P = ParamSpec("P")
T = TypeVar("T")
IdT = TypeVar("IdT", ArtifactId, ExecutionId, ContextId)
NodeT = TypeVar("NodeT", Artifact, Execution, Context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A page of a list."""

    where: NodeFilter = field(default_factory=NodeFilter)
    order_by: OrderBy = OrderBy.ID
    descending: bool = False
    first: int = 20
    after: str | None = None

    def options(self) -> dict[str, Any]:
        """What the reader's lists take beside the filter."""
        return {
            "order_by": self.order_by,
            "descending": self.descending,
            "first": self.first,
            "after": self.after,
        }


QuestionT = TypeVar("QuestionT", Question, NodeFilter)


@dataclass(frozen=True, slots=True)
class Inside(Generic[QuestionT]):
    """A question about the members of one context: a run's executions, a pipeline's runs."""

    context: ContextId
    question: QuestionT


@dataclass(frozen=True, slots=True)
class RunUses:
    """What a run took from outside and what it made: each artifact once, by id."""

    inputs: Sequence[ArtifactId]
    outputs: Sequence[ArtifactId]


class Loaders:
    """The reads of one request. Belongs to one event loop; the reader and the pool may be shared."""

    def __init__(self, reader: Reader, pool: Executor, *, max_nodes: int) -> None:
        self._reader = reader
        self._pool = pool
        self._max_nodes = max_nodes
        self._nodes = 0
        self.artifacts: DataLoader[ArtifactId, Artifact | None] = self._by_id(reader.artifacts)
        self.executions: DataLoader[ExecutionId, Execution | None] = self._by_id(reader.executions)
        self.contexts: DataLoader[ContextId, Context | None] = self._by_id(reader.contexts)
        self.events_of_artifact: DataLoader[ArtifactId, Sequence[Event]] = self._many(reader.events_of_artifacts)
        self.events_of_execution: DataLoader[ExecutionId, Sequence[Event]] = self._many(reader.events_of_executions)
        self.contexts_of_execution: DataLoader[ExecutionId, Sequence[Context]] = self._many(
            reader.contexts_of_executions
        )
        self.parents_of_context: DataLoader[ContextId, Sequence[Context]] = self._many(reader.parents_of_contexts)
        self._contexts_called: DataLoader[tuple[tuple[str, ...], str], Sequence[Context]] = DataLoader(
            self._load_called
        )
        self.uses_of_run: DataLoader[ContextId, RunUses] = DataLoader(self._uses_of_runs)
        self.artifact_lists = Lists(
            self, reader.list_artifacts, reader.count_artifacts, reader.list_artifacts_in, reader.count_artifacts_in
        )
        self.execution_lists = Lists(
            self, reader.list_executions, reader.count_executions, reader.list_executions_in, reader.count_executions_in
        )
        self.context_lists = Lists(
            self, reader.list_contexts, reader.count_contexts, reader.list_contexts_in, reader.count_contexts_in
        )

    async def call(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One synchronous read in the thread pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(read, *args, **kwargs))

    async def head_seq(self) -> int:
        """The newest position of the store's change log."""
        return await self.call(self._reader.head_seq)

    def spend(self, nodes: int) -> None:
        """Count nodes against what one request may load.

        Raises:
            ResourceExhausted: it is more than that.
        """
        self._nodes += nodes
        if self._nodes > self._max_nodes:
            raise ResourceExhausted(
                f"the request loads more than {self._max_nodes} nodes: ask for smaller pages or fewer levels"
            )

    async def contexts_called(self, types: Sequence[str], name: str) -> Sequence[Context]:
        """The contexts of these types with this name or display name, newest first; at most `MOST_CALLED`."""
        return await self._contexts_called.load((tuple(types), name))

    async def _load_called(self, asked: list[tuple[tuple[str, ...], str]]) -> Sequence[Sequence[Context]]:
        async def read(types: tuple[str, ...], name: str) -> Sequence[Context]:
            where = NodeFilter(types=types, called=[name])
            return (await self.call(self._reader.list_contexts, where, descending=True, first=MOST_CALLED)).nodes

        return await asyncio.gather(*(read(types, name) for types, name in asked))

    def _by_id(self, read: Callable[[Collection[IdT]], Mapping[IdT, NodeT]]) -> DataLoader[IdT, NodeT | None]:
        async def load(ids: list[IdT]) -> Sequence[NodeT | None]:
            self.spend(len(ids))
            found = await self.call(read, ids)
            return [found.get(each) for each in ids]

        return DataLoader(load)

    def _many(self, read: Callable[[Collection[IdT]], Mapping[IdT, Sequence[T]]]) -> DataLoader[IdT, Sequence[T]]:
        async def load(ids: list[IdT]) -> Sequence[Sequence[T]]:
            found = await self.call(read, ids)
            return [found.get(each, ()) for each in ids]

        return DataLoader(load)

    async def _uses_of_runs(self, runs: list[ContextId]) -> Sequence[RunUses]:
        members = await self.call(self._reader.executions_of_contexts, runs)
        executions = sorted({each for found in members.values() for each in found})
        events = dict(zip(executions, await self.events_of_execution.load_many(executions), strict=True))
        uses = []
        for run in runs:
            own = [event for execution in members.get(run, ()) for event in events[execution]]
            made = {event.artifact_id for event in own if event.type.is_output}
            used = {event.artifact_id for event in own if event.type.is_input}
            uses.append(RunUses(inputs=sorted(used - made), outputs=sorted(made)))
        return uses


class Lists(Generic[NodeT]):
    """Pages of one kind of node: of the whole store, or of many contexts at once."""

    def __init__(
        self,
        loaders: Loaders,
        page: Callable[..., Page[NodeT]],
        count: Callable[[NodeFilter], int],
        page_in_each: Callable[..., Mapping[ContextId, Page[NodeT]]],
        count_in_each: Callable[[Collection[ContextId], NodeFilter], Mapping[ContextId, int]],
    ) -> None:
        self._loaders = loaders
        self._page: Callable[..., Page[NodeT]] = page
        self._count = count
        self._page_in_each: Callable[..., Mapping[ContextId, Page[NodeT]]] = page_in_each
        self._count_in_each = count_in_each
        self._pages: DataLoader[Inside[Question], Page[NodeT]] = DataLoader(self._load_pages, cache_key_fn=_key)
        self._counts: DataLoader[Inside[NodeFilter], int] = DataLoader(self._load_counts, cache_key_fn=_key)

    async def page(self, question: Question) -> Page[NodeT]:
        """One page of all there is."""
        page = await self._loaders.call(self._page, question.where, **question.options())
        self._loaders.spend(len(page.nodes))
        return page

    async def page_inside(self, context: ContextId, question: Question) -> Page[NodeT]:
        """One page of a context's members; gathered over all contexts that get the same question."""
        return await self._pages.load(Inside(context, question))

    async def count(self, where: NodeFilter) -> int:
        """How many there are in all."""
        return await self._loaders.call(self._count, where)

    async def count_inside(self, context: ContextId, where: NodeFilter) -> int:
        """How many of a context's members there are; gathered over all contexts that get the same filter."""
        return await self._counts.load(Inside(context, where))

    async def _load_pages(self, asked: list[Inside[Question]]) -> Sequence[Page[NodeT]]:
        found: dict[Hashable, Page[NodeT]] = {}
        for group in _by_question(asked):
            question = group[0].question
            contexts = [each.context for each in group]
            pages = await self._loaders.call(self._page_in_each, contexts, question.where, **question.options())
            self._loaders.spend(sum(len(page.nodes) for page in pages.values()))
            found |= {_key(each): pages.get(each.context, _EMPTY) for each in group}
        return [found[_key(each)] for each in asked]

    async def _load_counts(self, asked: list[Inside[NodeFilter]]) -> Sequence[int]:
        found: dict[Hashable, int] = {}
        for group in _by_question(asked):
            counts = await self._loaders.call(self._count_in_each, [each.context for each in group], group[0].question)
            found |= {_key(each): counts.get(each.context, 0) for each in group}
        return [found[_key(each)] for each in asked]


_EMPTY: Final[Page[Any]] = Page(nodes=(), cursors=(), has_next=False)


def _key(asked: Inside[QuestionT]) -> Hashable:
    # A filter holds a mapping and so has no hash; its repr is equal for equal filters of one request.
    return asked.context, repr(asked.question)


def _by_question(asked: Sequence[Inside[QuestionT]]) -> Iterable[Sequence[Inside[QuestionT]]]:
    groups: dict[str, list[Inside[QuestionT]]] = {}
    for each in asked:
        groups.setdefault(repr(each.question), []).append(each)
    return groups.values()
