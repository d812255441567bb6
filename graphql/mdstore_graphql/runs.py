"""Runs and pipelines: the MLMD contexts that `mdstore.vocabulary.ContextRoles` calls so."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

import strawberry

from mdstore import values
from mdstore.values import ArtifactId, Context, ContextId
from mdstore.vocabulary import ContextRole, Property
from mdstore_graphql import artifacts, executions
from mdstore_graphql.connections import DEFAULT_FIRST, After, Connection, Edge, First, slice_page
from mdstore_graphql.context import Info
from mdstore_graphql.describing import api_field, api_type
from mdstore_graphql.filters import ArtifactFilter, ExecutionFilter, NodeOrder, RunFilter
from mdstore_graphql.ids import Kind, global_id
from mdstore_graphql.listing import listed
from mdstore_graphql.nodes import MetadataNode, Node, RunState, context_name, text
from mdstore_graphql.references import ArtifactRef, ExecutionRef, PipelineRef, RunRef
from mdstore_graphql.scalars import Json, moment, moment_from_property

Artifacts = Connection[ArtifactRef]
Executions = Connection[ExecutionRef]
Runs = Connection[RunRef]


@api_type
class Run(MetadataNode, Node):
    """One run of a pipeline."""

    number: strawberry.Private[ContextId]
    run_id: str = strawberry.field(description="The name of its context in the store: the engine's id of the run.")
    state: RunState | None = strawberry.field(description="None when nobody has told the store.")
    message: str | None = strawberry.field(description="Why it ended as it did.")
    started_at: datetime | None
    finished_at: datetime | None
    parameters: Json | None = strawberry.field(description="Its arguments.")
    labels: Json | None

    @classmethod
    def of(cls, context: Context) -> Self:
        """The API's view of a context that is a run."""
        custom = context.custom_properties
        return cls(
            id=global_id(Kind.RUN, context.id),
            metadata_id=strawberry.ID(str(context.id)),
            number=context.id,
            type=context.type,
            name=context_name(context),
            run_id=context.name,
            state=_run_state(text(custom, Property.STATE)),
            message=text(custom, Property.MESSAGE),
            external_id=context.external_id,
            started_at=moment_from_property(custom.get(Property.STARTED_AT)),
            finished_at=moment_from_property(custom.get(Property.FINISHED_AT)),
            parameters=_json(custom.get(Property.PARAMETERS)),
            labels=_json(custom.get(Property.LABELS)),
            properties=Json(context.properties),
            custom_properties=Json(custom),
            created_at=moment(context.created_at_ms),
            updated_at=moment(context.updated_at_ms),
        )

    @api_field
    async def pipeline(self, info: Info) -> PipelineRef | None:
        """The pipeline that it is a run of."""
        return await pipeline_of(info, self.number)

    @api_field
    async def executions(
        self,
        info: Info,
        filter: ExecutionFilter | None = None,  # noqa: A002 - the usual name of this argument
        order_by: NodeOrder | None = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
    ) -> Executions:
        """Its executions."""
        where = await (filter or ExecutionFilter()).where(info)
        lists = info.context.loaders.execution_lists
        return await listed(lists, executions.Execution.of, where, order_by, first, after, inside=self.number)

    @api_field
    async def artifacts(
        self,
        info: Info,
        filter: ArtifactFilter | None = None,  # noqa: A002 - the usual name of this argument
        order_by: NodeOrder | None = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
    ) -> Artifacts:
        """The artifacts attributed to it: what it made, and what it used too if its writer attributes that.

        All that it used and did not make itself is `inputArtifacts`.
        """
        where = await (filter or ArtifactFilter()).where(info)
        lists = info.context.loaders.artifact_lists
        return await listed(lists, artifacts.Artifact.of, where, order_by, first, after, inside=self.number)

    @api_field
    async def input_artifacts(self, info: Info, first: First = DEFAULT_FIRST, after: After = None) -> Artifacts:
        """What it used and did not make itself."""
        uses = await info.context.loaders.uses_of_run.load(self.number)
        return await _artifacts(info, uses.inputs, first=first, after=after)

    @api_field
    async def output_artifacts(self, info: Info, first: First = DEFAULT_FIRST, after: After = None) -> Artifacts:
        """What it made."""
        uses = await info.context.loaders.uses_of_run.load(self.number)
        return await _artifacts(info, uses.outputs, first=first, after=after)


@api_type
class Pipeline(MetadataNode, Node):
    """A pipeline: what its runs have in common."""

    number: strawberry.Private[ContextId]
    context_name: str = strawberry.field(description="The name of its context in the store.")

    @classmethod
    def of(cls, context: Context) -> Self:
        """The API's view of a context that is a pipeline."""
        return cls(
            id=global_id(Kind.PIPELINE, context.id),
            metadata_id=strawberry.ID(str(context.id)),
            number=context.id,
            type=context.type,
            name=context_name(context),
            context_name=context.name,
            external_id=context.external_id,
            properties=Json(context.properties),
            custom_properties=Json(context.custom_properties),
            created_at=moment(context.created_at_ms),
            updated_at=moment(context.updated_at_ms),
        )

    @api_field
    async def runs(
        self,
        info: Info,
        filter: RunFilter | None = None,  # noqa: A002 - the usual name of this argument
        order_by: NodeOrder | None = None,
        first: First = DEFAULT_FIRST,
        after: After = None,
    ) -> Runs:
        """Its runs."""
        where = await (filter or RunFilter()).where(info)
        lists = info.context.loaders.context_lists
        return await listed(lists, Run.of, where, order_by, first, after, inside=self.number)


async def pipeline_of(info: Info, run: ContextId) -> Pipeline | None:
    """The pipeline of a run: the parent context that is one."""
    parents = await info.context.loaders.parents_of_context.load(run)
    roles = info.context.roles
    found = next((each for each in parents if roles.role(each.type) is ContextRole.PIPELINE), None)
    return None if found is None else Pipeline.of(found)


async def _artifacts(info: Info, ids: Sequence[ArtifactId], *, first: int, after: str | None) -> Artifacts:
    async def count() -> int:
        return len(ids)

    page, page_info = slice_page(ids, first=first, after=after)
    found = await info.context.loaders.artifacts.load_many([each for _, each in page])
    edges = [
        Edge(cursor=cursor, node=artifacts.Artifact.of(artifact))
        for (cursor, _), artifact in zip(page, found, strict=True)
        if artifact is not None
    ]
    return Artifacts(edges=edges, page_info=page_info, count=count)


def _run_state(word: str | None) -> RunState | None:
    if word is None:
        return None
    return RunState.__members__.get(word.upper(), RunState.UNKNOWN)


def _json(value: values.JSON) -> Json | None:
    return None if value is None else Json(value)
