"""The lineage graph: a projection of the store that answers walks of unknown depth.

Why a copy: "everything upstream of this model" is a walk that a graph answers faster than joins do. The store stays the
truth; the graph can be dropped and projected again.

Artifacts and executions are the nodes; the edges are the store's events, and point the way data flows: an input edge
from the artifact to the execution that used it, an output edge from the execution to the artifact that it made. A hop
is one edge, as in MLMD's `GetLineageSubgraph`.

Some executions output what others made: a cache hit, a group of tasks, an importer of what was there. They are those
in state `CACHED` and those of the types `mdstore.vocabulary.HANDING_ON`. So walks upstream and downstream, and paths,
leave an output edge of theirs out when another execution, which is none of these, has output the artifact too. When
nobody else is known to have made it, the edge counts: a cached result is better explained by its cached step than by
nothing. Walks in both directions show everything, and neighbours are the events as they were recorded. States are
those at the position of the answer.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from mdstore.values import ArtifactId, ContextId, EventType, ExecutionId
from mdstore.wire import changes


class Direction(Enum):
    """Which way to walk."""

    UPSTREAM = "upstream"
    """Towards sources: what really made it."""
    DOWNSTREAM = "downstream"
    """Towards results: what was really made from it. B is downstream of A exactly when A is upstream of B."""
    BOTH = "both"
    """Either way at each step: everything connected, cache hits too."""


@dataclass(frozen=True, slots=True, order=True)
class ArtifactNode:
    """An artifact in the graph."""

    id: ArtifactId


@dataclass(frozen=True, slots=True, order=True)
class ExecutionNode:
    """An execution in the graph."""

    id: ExecutionId


Node: TypeAlias = ArtifactNode | ExecutionNode


@dataclass(frozen=True, slots=True)
class Edge:
    """One event. `name` is the input's or output's name: the last key of the event's path, or None."""

    artifact_id: ArtifactId
    execution_id: ExecutionId
    type: EventType
    name: str | None = None
    at_ms: int = 0


class Cut(Enum):
    """Why an answer is not complete."""

    HOPS = "hops"
    """There is more behind the last hop that was allowed, of whatever type."""
    NODES = "nodes"
    """There are more nodes than were allowed."""
    TIME = "time"
    """The time for the answer was over."""
    PATHS = "paths"
    """There are more paths than were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """What a walk reached. Nodes are in breadth-first order, starting nodes first, then by kind and id within a hop.

    When `NODES` or `TIME` cut the answer, all hops but the last are complete; which nodes of the last hop are in is the
    graph's choice, the same each time for `NODES`.
    """

    nodes: Sequence[Node]
    hops: Mapping[Node, int]
    """Of each node: its distance from the nearest starting node."""
    edges: Sequence[Edge]
    """Every edge between two nodes of the answer that the walk may use, once, by artifact, execution and type."""
    cuts: frozenset[Cut]
    """Empty when the answer is complete."""
    position: int
    """The commit up to which the graph has followed the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Shortest paths first; each is a sequence of nodes from start to end."""

    paths: Sequence[Sequence[Node]]
    cuts: frozenset[Cut]
    """Empty when these are all paths. `HOPS`: there may be longer ones."""
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a walk may go."""

    hops: int | None = None
    """None: as far as there is anything."""
    nodes: int = 10_000
    """Of a closure: how many nodes the answer shows. Of paths: how many are looked at from each end."""
    seconds: float = 10.0


class LineageGraph(Protocol):
    """A projection of the store, kept elsewhere. Threads: one may apply, any number may read.

    While the graph is being rebuilt (see `clear`), `neighbours`, `closure`, `paths` and `runs_of` raise `Unavailable`
    with how far it is: what was there before says nothing about the store that is there now.
    """

    @property
    def position(self) -> int:
        """The last commit that was applied; 0 when empty."""

    @property
    def position_hash(self) -> bytes:
        """The hash of that commit, by which another history of the same store is recognised; empty when empty."""

    @property
    def store_id(self) -> str | None:
        """Which store was projected; None when empty."""

    @property
    def until(self) -> int:
        """The graph is being rebuilt as long as its position is before this one; 0 when it never was."""

    def claim(self) -> AbstractContextManager[None]:
        """Be the only one, over all processes, who follows a store into this graph, as long as the block runs.

        A claim ends with its process, however that ends. Reading needs none.

        Raises:
            FailedPrecondition: another one has it.
        """

    def apply(self, commits: Sequence[changes.Commit], *, store_id: str) -> None:
        """Add what the commits changed and move the position to the last of them, in one transaction.

        Commits at or before the position change nothing, so a batch may be applied twice.

        Raises:
            FailedPrecondition: the first new commit is not the one after the position, or comes from another store.
        """

    def clear(self, *, until: int = 0) -> None:
        """Empty the graph, so that a store can be projected from its beginning.

        Args:
            until: questions are `Unavailable` until the position has come to this one.
        """

    def neighbours(self, nodes: Collection[Node], direction: Direction) -> Mapping[Node, Sequence[Edge]]:
        """The edges one hop away from each node, all that there are; a node that is unknown or has none is absent."""

    def closure(
        self,
        start: Collection[Node],
        direction: Direction,
        *,
        limits: Limits,
        artifact_types: Collection[str] = (),
        execution_types: Collection[str] = (),
    ) -> Closure:
        """Everything that can be reached from `start`.

        Types, where given, say which nodes the answer shows; the walk goes through the others all the same, and an edge
        is shown when both its nodes are. Types of one kind do not restrict the other kind. Starting nodes are shown
        always. Unknown starting nodes are left out.
        """

    def paths(self, start: Node, end: Node, *, limits: Limits, most: int = 10) -> Paths:
        """Up to `most` simple paths along the direction of data from `start` to `end`, shortest first.

        None when a node is unknown. From a node to itself there is one path, of no hops. Two events that join the same
        nodes in the same direction are one step.
        """

    def runs_of(self, nodes: Collection[Node]) -> Mapping[Node, Sequence[ContextId]]:
        """The runs that each node belongs to, by id; which contexts are runs is `ContextRoles`' matter.

        A node that belongs to none is absent.
        """

    def close(self) -> None:
        """Let go of files and connections."""
