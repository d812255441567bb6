"""Answers of walks through the lineage graph, also across runs.

The graph says which nodes and edges there are and up to which position it knows; names, states and properties come from
the store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self, TypeAlias

import strawberry

from mdstore.errors import NotFound
from mdstore.values import ArtifactId, ContextId, EventType
from mdstore_graphql import artifacts, executions, runs
from mdstore_graphql.context import Info
from mdstore_graphql.describing import api_field, api_field_named, api_type
from mdstore_graphql.nodes import LineageNode
from mdstore_graphql.references import ArtifactRef, ExecutionRef, RunRef
from mdstore_graphql.scalars import Position, moment
from mdstore_graphql.walks import Walk
from mdstore_lineage.graph import ArtifactNode, Closure, Cut, Direction, Edge, ExecutionNode, Node, Paths

LoadedNode: TypeAlias = "artifacts.Artifact | executions.Execution"


@api_type
class Reached:
    """A node, and how far it is from where the walk began."""

    hops: int = strawberry.field(description="From an artifact to an execution, or back, is one hop.")
    node: LineageNode


@api_type
class LineageEdge:
    """One use of one artifact by one execution; it points the way data flows."""

    source: strawberry.Private[LineageNode]
    target: strawberry.Private[LineageNode]
    name: str | None = strawberry.field(description="The name of the execution's input or output.")
    event_type: EventType
    at: datetime | None = strawberry.field(description="When it happened.")

    @api_field_named("from")
    def from_(self) -> LineageNode:
        """An input's artifact, an output's execution."""
        return self.source

    @api_field
    def to(self) -> LineageNode:
        """An input's execution, an output's artifact."""
        return self.target


@api_type
class RunPart:
    """The part of a lineage that happened in one run."""

    run: RunRef | None = strawberry.field(description="None for executions that are in no run.")
    executions: list[ExecutionRef]
    made: list[ArtifactRef] = strawberry.field(description="What these executions output, also from a cache.")
    used: list[ArtifactRef] = strawberry.field(description="What these executions took from elsewhere.")


@api_type
class Lineage:
    """What a walk through the lineage graph reached."""

    walk: strawberry.Private[Walk]
    closure: strawberry.Private[Closure]
    position: Position = strawberry.field(description="The commit up to which the graph had followed the store.")
    truncated: bool = strawberry.field(description="There is more than this: see `cutBy`.")
    cut_by: list[Cut] = strawberry.field(description="Why there is more than this; empty when the answer is complete.")

    @classmethod
    async def of(cls, info: Info, walk: Walk, *, ignoring: Iterable[Cut] = ()) -> Self:
        """Walk.

        Raises:
            NotFound: a starting node is not in the store.
        """
        closure = await info.context.walks.closure(walk)
        missing = [node for node in walk.start if node not in closure.hops]
        if missing:
            await require_nodes(info, missing)
            # In the store and not in the graph: the graph is behind what the caller has already seen.
            await info.context.walks.wait_for(await info.context.loaders.head_seq())
            closure = await info.context.walks.closure(walk)
        # Also when nobody asks for the nodes: a page of artifacts, each with its lineage, is many walks.
        info.context.loaders.spend(len(closure.nodes))
        return cls._of(walk, closure, ignoring)

    @classmethod
    def _of(cls, walk: Walk, closure: Closure, ignoring: Iterable[Cut]) -> Self:
        cuts = [cut for cut in Cut if cut in closure.cuts and cut not in ignoring]
        return cls(walk=walk, closure=closure, position=Position(closure.position), truncated=bool(cuts), cut_by=cuts)

    @api_field
    async def nodes(self, info: Info) -> list[LineageNode]:
        """Starting nodes first, then nearest first."""
        found = await load_nodes(info, self.closure.nodes)
        return [found[node] for node in self.closure.nodes if node in found]

    @api_field
    async def reached(self, info: Info) -> list[Reached]:
        """The same nodes with their distances."""
        found = await load_nodes(info, self.closure.nodes)
        hops = self.closure.hops
        return [Reached(hops=hops[node], node=found[node]) for node in self.closure.nodes if node in found]

    @api_field
    async def edges(self, info: Info) -> list[LineageEdge]:
        """Every use between two of the nodes."""
        return _edges(await load_nodes(info, self.closure.nodes), self.closure.edges)

    @api_field
    async def runs(self, info: Info) -> list[RunRef]:
        """The runs that the executions of this lineage were part of, oldest first."""
        closure = self.closure
        if self.walk.types:
            # Executions that are not shown were walked through all the same.
            closure = await info.context.walks.closure(replace(self.walk, types=()))
        members = await info.context.walks.runs_of([node for node in closure.nodes if isinstance(node, ExecutionNode)])
        return await _load_runs(info, {run for found in members.values() for run in found})

    @api_field
    async def by_run(self, info: Info) -> list[RunPart]:
        """This lineage run by run, oldest run first."""
        nodes = await load_nodes(info, self.closure.nodes)
        steps = [node for node in self.closure.nodes if isinstance(node, ExecutionNode)]
        members = await info.context.walks.runs_of(steps)
        found = await _load_runs(info, {run for found in members.values() for run in found})
        parts = [(run, [node for node in steps if run.number in members.get(node, ())]) for run in found]
        alone = [node for node in steps if not members.get(node)]
        return [
            *(_part(run, inside, self.closure.edges, nodes) for run, inside in parts),
            *([_part(None, alone, self.closure.edges, nodes)] if alone else []),
        ]


@api_type
class LineagePath:
    """One way that data took."""

    nodes: list[LineageNode]


@api_type
class LineagePaths:
    """Ways that data took from one node to another, shortest first."""

    paths: list[LineagePath]
    truncated: bool = strawberry.field(description="There are more than these: see `cutBy`.")
    cut_by: list[Cut]
    position: Position = strawberry.field(description="The commit up to which the graph had followed the store.")

    @classmethod
    async def of(cls, info: Info, found: Paths) -> Self:
        """The API's view of paths."""
        nodes = await load_nodes(info, [node for path in found.paths for node in path])
        return cls(
            # A node that was deleted since, and which the graph still has, leads nowhere.
            paths=[
                LineagePath(nodes=[nodes[node] for node in path])
                for path in found.paths
                if all(node in nodes for node in path)
            ],
            truncated=bool(found.cuts),
            cut_by=[cut for cut in Cut if cut in found.cuts],
            position=Position(found.position),
        )


async def used_by(
    info: Info, artifact: ArtifactId, *, transitively: bool, max_nodes: int, min_position: int | None
) -> Lineage:
    """The executions and runs that used an artifact, or anything that was made from it."""
    walk = Walk(
        start=(ArtifactNode(artifact),),
        direction=Direction.DOWNSTREAM,
        max_hops=None if transitively else 1,
        max_nodes=max_nodes,
        min_position=min_position,
    )
    # Direct users are one hop away: that there is more behind them is no cut of what was asked for.
    return await Lineage.of(info, walk, ignoring=() if transitively else (Cut.HOPS,))


async def load_nodes(info: Info, nodes: Sequence[Node]) -> "Mapping[Node, LoadedNode]":
    """What the store says about nodes; one that is not there is absent."""
    artifact_ids = [node.id for node in nodes if isinstance(node, ArtifactNode)]
    execution_ids = [node.id for node in nodes if isinstance(node, ExecutionNode)]
    loaders = info.context.loaders
    found: dict[Node, LoadedNode] = {}
    for artifact in await loaders.artifacts.load_many(artifact_ids):
        if artifact is not None:
            found[ArtifactNode(artifact.id)] = artifacts.Artifact.of(artifact)
    for execution in await loaders.executions.load_many(execution_ids):
        if execution is not None:
            found[ExecutionNode(execution.id)] = executions.Execution.of(execution)
    return found


async def require_nodes(info: Info, nodes: Sequence[Node]) -> None:
    """Raise `NotFound` unless the store has all these nodes."""
    found = await load_nodes(info, nodes)
    for node in nodes:
        if node not in found:
            kind = "artifact" if isinstance(node, ArtifactNode) else "execution"
            raise NotFound(f"the store has no {kind} with id {node.id}")


async def _load_runs(info: Info, ids: Iterable[ContextId]) -> "list[runs.Run]":
    found = await info.context.loaders.contexts.load_many(sorted(ids))
    return [runs.Run.of(context) for context in found if context is not None]


def _ends(edge: Edge) -> tuple[Node, Node]:
    artifact, execution = ArtifactNode(edge.artifact_id), ExecutionNode(edge.execution_id)
    return (execution, artifact) if edge.type.is_output else (artifact, execution)


def _edges(nodes: Mapping[Node, LineageNode], edges: Sequence[Edge]) -> list[LineageEdge]:
    made = []
    for edge in edges:
        source, target = _ends(edge)
        if source in nodes and target in nodes:
            made.append(
                LineageEdge(
                    source=nodes[source],
                    target=nodes[target],
                    name=edge.name,
                    event_type=edge.type,
                    at=moment(edge.at_ms),
                )
            )
    return made


def _part(
    run: "runs.Run | None",
    steps: Sequence[ExecutionNode],
    edges: Sequence[Edge],
    nodes: "Mapping[Node, LoadedNode]",
) -> RunPart:
    inside = {node.id for node in steps}
    own = [edge for edge in edges if edge.execution_id in inside]
    made = {edge.artifact_id for edge in own if edge.type.is_output}
    used = {edge.artifact_id for edge in own if edge.type.is_input} - made
    return RunPart(
        run=run,
        executions=[found for node in steps if isinstance(found := nodes.get(node), executions.Execution)],
        made=_artifacts(made, nodes),
        used=_artifacts(used, nodes),
    )


def _artifacts(ids: Iterable[ArtifactId], nodes: "Mapping[Node, LoadedNode]") -> "list[artifacts.Artifact]":
    found = [nodes.get(ArtifactNode(each)) for each in sorted(ids)]
    return [each for each in found if isinstance(each, artifacts.Artifact)]
