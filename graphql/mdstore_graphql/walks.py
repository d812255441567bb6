"""Walks through the lineage graph on behalf of one request: opening it, waiting for a position, bounding.

The graph belongs to the projector, which may start later than this server or be some commits behind the store. A graph
that is not there yet is an error of the fields that need it, and of nothing else.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final, ParamSpec, TypeVar

import strawberry

from mdstore.errors import DeadlineExceeded, InvalidArgument
from mdstore.values import ContextId
from mdstore_graphql.scalars import Position
from mdstore_lineage.graph import Closure, Cut, Direction, Limits, LineageGraph, Node, Paths

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_NODES: Final = 1000
MAX_NODES: Final = 10_000
MAX_PATHS: Final = 100
_POLL_S: Final = 0.01

strawberry.enum(
    Direction,
    name="Direction",
    description="Which way to walk: UPSTREAM towards sources, DOWNSTREAM towards results, BOTH everything connected. "
    "An output that came from a cache leads nowhere up or down while another execution is known to have made it.",
)
strawberry.enum(Cut, name="Cut", description="Why an answer is not complete.")

MaxHops = Annotated[
    int | None,
    strawberry.argument(
        description="At most so far from the start; from an artifact to an execution is one hop. Default: all the way."
    ),
]
MaxNodes = Annotated[int, strawberry.argument(description=f"At most so many nodes in the answer, up to {MAX_NODES}.")]
Types = Annotated[
    list[str] | None,
    strawberry.argument(
        description="Show only artifacts and executions of these types; the walk goes through the others all the same."
    ),
]
MinPosition = Annotated[
    Position | None,
    strawberry.argument(
        description="Wait until the graph has followed the store up to here. The header `x-mdstore-min-position` says "
        "the same for a whole request."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A walk as it was asked for."""

    start: tuple[Node, ...]
    direction: Direction
    max_hops: int | None = None
    max_nodes: int = DEFAULT_NODES
    types: Collection[str] = ()
    min_position: int | None = None


class GraphSource:
    """Opens the graph once it is there. Threads may share it."""

    def __init__(self, open_graph: Callable[[], LineageGraph]) -> None:
        """Take what opens the graph; it raises `Unavailable` as long as there is none."""
        self._open = open_graph
        self._lock = threading.Lock()
        self._graph: LineageGraph | None = None

    def get(self) -> LineageGraph:
        """The graph.

        Raises:
            Unavailable: there is none yet.
        """
        with self._lock:
            if self._graph is None:
                self._graph = self._open()
            return self._graph

    def close(self) -> None:
        """Let go of the graph."""
        with self._lock:
            if self._graph is not None:
                self._graph.close()
                self._graph = None


class Walks:
    """The walks of one request. Belongs to one event loop; the source and the pool may be shared."""

    def __init__(
        self, source: GraphSource, pool: Executor, *, seconds: float, wait_s: float, min_position: str | None = None
    ) -> None:
        """Take the time for one walk, the time to wait for a position, and the header with the position demanded."""
        self._source = source
        self._pool = pool
        self._seconds = seconds
        self._wait_s = wait_s
        self._min_position = min_position

    async def closure(self, walk: Walk) -> Closure:
        """Everything that a walk reaches.

        Raises:
            InvalidArgument: a limit is out of range.
            Unavailable: there is no graph.
            DeadlineExceeded: the graph did not reach the position that is demanded.
        """
        limits = self._limits(walk.max_hops, walk.max_nodes)
        graph = await self._graph(walk.min_position)
        return await self._call(
            graph.closure,
            walk.start,
            walk.direction,
            limits=limits,
            artifact_types=walk.types,
            execution_types=walk.types,
        )

    async def paths(
        self, start: Node, end: Node, *, most: int, max_hops: int | None, min_position: int | None
    ) -> Paths:
        """Paths along the direction of data; errors as `closure`."""
        if not 1 <= most <= MAX_PATHS:
            raise InvalidArgument(f"most: {most} is not from 1 to {MAX_PATHS}")
        graph = await self._graph(min_position)
        return await self._call(graph.paths, start, end, limits=self._limits(max_hops, MAX_NODES), most=most)

    async def runs_of(self, nodes: Sequence[Node]) -> Mapping[Node, Sequence[ContextId]]:
        """The runs that nodes belong to."""
        return await self._call(self._source.get().runs_of, nodes) if nodes else {}

    async def wait_for(self, position: int) -> None:
        """Wait until the graph shows this position; errors as `closure`."""
        await self._graph(position)

    async def _graph(self, min_position: int | None) -> LineageGraph:
        graph = await self._call(self._source.get)
        wanted = max(min_position or 0, self._demanded())
        if wanted:
            await self._wait(graph, wanted)
        return graph

    def _demanded(self) -> int:
        text = self._min_position
        if text is None:
            return 0
        if not (text.isascii() and text.isdigit()):
            raise InvalidArgument(f"x-mdstore-min-position: {text!r} is not a position: write a whole number")
        return int(text)

    async def _wait(self, graph: LineageGraph, wanted: int) -> None:
        end = time.monotonic() + self._wait_s
        while (found := await self._call(lambda: graph.position)) < wanted:
            if time.monotonic() >= end:
                raise DeadlineExceeded(
                    f"the lineage graph has followed the store up to position {found} and not yet to {wanted}: "
                    "ask again later, and if it stays so, see whether `mdstore lineage follow` runs"
                )
            await asyncio.sleep(_POLL_S)

    def _limits(self, hops: int | None, nodes: int) -> Limits:
        if hops is not None and hops < 0:
            raise InvalidArgument(f"maxHops: {hops} is negative")
        if not 1 <= nodes <= MAX_NODES:
            raise InvalidArgument(f"maxNodes: {nodes} is not from 1 to {MAX_NODES}")
        return Limits(hops=hops, nodes=nodes, seconds=self._seconds)

    async def _call(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(read, *args, **kwargs))
