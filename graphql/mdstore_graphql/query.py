"""The questions that the API answers."""

import asyncio
from functools import partial
from typing import Annotated

import strawberry

from mdstore.errors import InvalidArgument
from mdstore.store.reader import NodeFilter, OrderBy
from mdstore.values import ArtifactId, Context, ContextId, ExecutionId
from mdstore.vocabulary import ContextRole
from mdstore_graphql import walks
from mdstore_graphql.artifacts import Artifact
from mdstore_graphql.connections import DEFAULT_FIRST, MAX_FIRST, After, Connection, First
from mdstore_graphql.context import Info
from mdstore_graphql.describing import api_field, api_type
from mdstore_graphql.executions import Execution
from mdstore_graphql.filters import ArtifactFilter, ExecutionFilter, NodeOrder, PipelineFilter, RunFilter
from mdstore_graphql.ids import Kind, expect_kind, metadata_id, parse_global_id
from mdstore_graphql.lineage import Lineage, LineagePaths, require_nodes, used_by
from mdstore_graphql.listing import listed
from mdstore_graphql.loaders import Question
from mdstore_graphql.nodes import Node
from mdstore_graphql.runs import Artifacts, Executions, Pipeline, Run, Runs
from mdstore_graphql.walks import Walk
from mdstore_lineage.graph import ArtifactNode, Direction, ExecutionNode
from mdstore_lineage.graph import Node as GraphNode

Pipelines = Connection[Pipeline]

Of = Annotated[list[strawberry.ID], strawberry.argument(description="Where to begin: ids of artifacts or executions.")]


@api_type
class Query:
    """What the API answers. Lists are in the order of recording unless `orderBy` says otherwise."""

    @api_field
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:  # noqa: A002 - Relay's name for it
        """Any node by its global id; null when there is none."""
        return await _load(info, id)

    @api_field
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Node | None]:
        """Many nodes by their global ids, in the same order; null where there is none."""
        if len(ids) > MAX_FIRST:
            raise InvalidArgument(f"ids: {len(ids)} are more than {MAX_FIRST}")
        return list(await asyncio.gather(*(_load(info, each) for each in ids)))

    @api_field
    async def artifact(
        self,
        info: Info,
        id: strawberry.ID | None = None,  # noqa: A002 - Relay's name for it
        metadata_id: strawberry.ID | None = None,
        uri: str | None = None,
    ) -> Artifact | None:
        """One artifact, by its global id, by its id in the store or, of those with this URI, the newest."""
        _one_of(id=id, metadataId=metadata_id, uri=uri)
        if uri is not None:
            newest = Question(where=NodeFilter(uris=[uri]), order_by=OrderBy.ID, descending=True, first=1)
            page = await info.context.loaders.artifact_lists.page(newest)
            return Artifact.of(page.nodes[0]) if page.nodes else None
        found = await info.context.loaders.artifacts.load(ArtifactId(_number(Kind.ARTIFACT, id, metadata_id)))
        return None if found is None else Artifact.of(found)

    @api_field
    async def artifacts(
        self,
        info: Info,
        filter: ArtifactFilter | None = None,  # noqa: A002 - the usual name of this argument
        order_by: NodeOrder | None = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
    ) -> Artifacts:
        """Artifacts."""
        where = await (filter or ArtifactFilter()).where(info)
        return await listed(info.context.loaders.artifact_lists, Artifact.of, where, order_by, first, after)

    @api_field
    async def execution(
        self,
        info: Info,
        id: strawberry.ID | None = None,  # noqa: A002 - Relay's name for it
        metadata_id: strawberry.ID | None = None,
    ) -> Execution | None:
        """One execution, by its global id or by its id in the store."""
        _one_of(id=id, metadataId=metadata_id)
        found = await info.context.loaders.executions.load(ExecutionId(_number(Kind.EXECUTION, id, metadata_id)))
        return None if found is None else Execution.of(found)

    @api_field
    async def executions(
        self,
        info: Info,
        filter: ExecutionFilter | None = None,  # noqa: A002 - the usual name of this argument
        order_by: NodeOrder | None = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
    ) -> Executions:
        """Executions."""
        where = await (filter or ExecutionFilter()).where(info)
        return await listed(info.context.loaders.execution_lists, Execution.of, where, order_by, first, after)

    @api_field
    async def run(
        self,
        info: Info,
        id: strawberry.ID | None = None,  # noqa: A002 - Relay's name for it
        metadata_id: strawberry.ID | None = None,
        name: str | None = None,
    ) -> Run | None:
        """One run, by its global id, by its id in the store, or by its run id or name; of several the newest."""
        _one_of(id=id, metadataId=metadata_id, name=name)
        if name is not None:
            found = await _called(info, ContextRole.RUN, name)
        else:
            found = await _context(info, ContextRole.RUN, _number(Kind.RUN, id, metadata_id))
        return None if found is None else Run.of(found)

    @api_field
    async def runs(
        self,
        info: Info,
        filter: RunFilter | None = None,  # noqa: A002 - the usual name of this argument
        order_by: NodeOrder | None = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
    ) -> Runs:
        """Runs of pipelines."""
        where = await (filter or RunFilter()).where(info)
        return await listed(info.context.loaders.context_lists, Run.of, where, order_by, first, after)

    @api_field
    async def pipeline(
        self,
        info: Info,
        id: strawberry.ID | None = None,  # noqa: A002 - Relay's name for it
        metadata_id: strawberry.ID | None = None,
        name: str | None = None,
    ) -> Pipeline | None:
        """One pipeline, by its global id, by its id in the store or by its name."""
        _one_of(id=id, metadataId=metadata_id, name=name)
        if name is not None:
            found = await _called(info, ContextRole.PIPELINE, name)
        else:
            found = await _context(info, ContextRole.PIPELINE, _number(Kind.PIPELINE, id, metadata_id))
        return None if found is None else Pipeline.of(found)

    @api_field
    async def pipelines(
        self,
        info: Info,
        filter: PipelineFilter | None = None,  # noqa: A002 - the usual name of this argument
        order_by: NodeOrder | None = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
    ) -> Pipelines:
        """Pipelines."""
        where = (filter or PipelineFilter()).where(info)
        return await listed(info.context.loaders.context_lists, Pipeline.of, where, order_by, first, after)

    @api_field
    async def lineage(
        self,
        info: Info,
        of: Of,
        direction: Direction = Direction.UPSTREAM,
        max_hops: walks.MaxHops = None,
        max_nodes: walks.MaxNodes = walks.DEFAULT_NODES,
        types: walks.Types = None,
        min_position: walks.MinPosition = None,
    ) -> Lineage:
        """What artifacts or executions came from (UPSTREAM), what came from them (DOWNSTREAM), over all runs.

        BOTH is all that is connected to them in any way.
        """
        if not 1 <= len(of) <= MAX_FIRST:
            raise InvalidArgument(f"of: write from 1 to {MAX_FIRST} ids, not {len(of)}")
        walk = Walk(
            start=tuple(dict.fromkeys(_graph_node(each) for each in of)),
            direction=direction,
            max_hops=max_hops,
            max_nodes=max_nodes,
            types=types or (),
            min_position=min_position,
        )
        return await Lineage.of(info, walk)

    @api_field
    async def used_by(
        self,
        info: Info,
        artifact: strawberry.ID,
        transitively: bool = True,
        max_nodes: walks.MaxNodes = walks.DEFAULT_NODES,
        min_position: walks.MinPosition = None,
    ) -> Lineage:
        """Which executions and runs used an artifact and, unless `transitively` is false, what was made from it."""
        number = ArtifactId(expect_kind(artifact, Kind.ARTIFACT)[1])
        return await used_by(info, number, transitively=transitively, max_nodes=max_nodes, min_position=min_position)

    @api_field
    async def paths(
        self,
        info: Info,
        from_: Annotated[strawberry.ID, strawberry.argument(name="from")],
        to: strawberry.ID,
        most: Annotated[int, strawberry.argument(description=f"At most so many, up to {walks.MAX_PATHS}.")] = 10,
        max_hops: walks.MaxHops = None,
        min_position: walks.MinPosition = None,
    ) -> LineagePaths:
        """The ways that data took from one artifact or execution to another, shortest first."""
        start, end = _graph_node(from_), _graph_node(to)
        await require_nodes(info, [start, end])
        ask = partial(info.context.walks.paths, start, end, most=most, max_hops=max_hops)
        found = await ask(min_position=min_position)
        if not found.paths and found.position < (head := await info.context.loaders.head_seq()):
            # Nothing, as far as the graph knows; so it should at least know what the store had when it was asked.
            found = await ask(min_position=head)
        return await LineagePaths.of(info, found)


def _one_of(**given: object) -> None:
    """Raise `InvalidArgument` unless exactly one of these arguments is given."""
    if sum(value is not None for value in given.values()) != 1:
        raise InvalidArgument(f"give exactly one of {', '.join(given)}")


def _number(kind: Kind, global_id: str | None, number: str | None) -> int:
    return expect_kind(global_id, kind)[1] if global_id is not None else metadata_id(number or "")


def _graph_node(text: str) -> GraphNode:
    kind, number = expect_kind(text, Kind.ARTIFACT, Kind.EXECUTION)
    return ArtifactNode(ArtifactId(number)) if kind is Kind.ARTIFACT else ExecutionNode(ExecutionId(number))


async def _load(info: Info, text: str) -> Node | None:
    kind, number = parse_global_id(text)
    loaders = info.context.loaders
    match kind:
        case Kind.ARTIFACT:
            artifact = await loaders.artifacts.load(ArtifactId(number))
            return None if artifact is None else Artifact.of(artifact)
        case Kind.EXECUTION:
            execution = await loaders.executions.load(ExecutionId(number))
            return None if execution is None else Execution.of(execution)
        case Kind.RUN:
            context = await _context(info, ContextRole.RUN, number)
            return None if context is None else Run.of(context)
        case Kind.PIPELINE:
            context = await _context(info, ContextRole.PIPELINE, number)
            return None if context is None else Pipeline.of(context)


async def _context(info: Info, role: ContextRole, number: int) -> Context | None:
    found = await info.context.loaders.contexts.load(ContextId(number))
    return found if found is not None and info.context.roles.role(found.type) is role else None


async def _called(info: Info, role: ContextRole, name: str) -> Context | None:
    """The newest context of a role with this name or, when there is none, with this display name."""
    found = await info.context.loaders.contexts_called(info.context.roles.types(role), name)
    return next((context for context in found if context.name == name), found[0] if found else None)
