"""Executions: each is one run of one step."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

import strawberry

from mdstore import values
from mdstore.values import Context, Event, ExecutionId, ExecutionState
from mdstore.vocabulary import ContextRole, Property
from mdstore_graphql import artifacts, lineage, runs, walks
from mdstore_graphql.connections import DEFAULT_FIRST, After, First
from mdstore_graphql.context import Info
from mdstore_graphql.describing import api_field, api_type
from mdstore_graphql.ids import Kind, global_id
from mdstore_graphql.nodes import LineageNode, MetadataNode, Node, execution_name, text, whole_number
from mdstore_graphql.references import ArtifactRef, LineageRef, PipelineRef, RunRef
from mdstore_graphql.scalars import Json, moment, moment_from_property
from mdstore_graphql.uses import UseConnection
from mdstore_lineage.graph import Direction, ExecutionNode

ArtifactUses = UseConnection[ArtifactRef]


@api_type
class Execution(LineageNode, MetadataNode, Node):
    """One run of one step; a step that was tried again has one for each attempt."""

    number: strawberry.Private[ExecutionId]
    task_name: str | None = strawberry.field(description="The name of its task in the pipeline.")
    state: ExecutionState | None
    attempt: int | None = strawberry.field(description="Which try of its task this is, from 0.")
    message: str | None = strawberry.field(description="Why it ended as it did.")
    reason: str | None = strawberry.field(description="Kubernetes' word for how its pod ended, as `OOMKilled`.")
    exit_code: int | None
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, execution: values.Execution) -> Self:
        """The API's view of an execution."""
        custom = execution.custom_properties
        return cls(
            id=global_id(Kind.EXECUTION, execution.id),
            metadata_id=strawberry.ID(str(execution.id)),
            number=execution.id,
            type=execution.type,
            name=execution_name(execution),
            task_name=text(custom, Property.TASK_NAME),
            state=execution.state,
            external_id=execution.external_id,
            attempt=whole_number(custom, Property.ATTEMPT),
            message=text(custom, Property.MESSAGE),
            reason=text(custom, Property.REASON),
            exit_code=whole_number(custom, Property.EXIT_CODE),
            started_at=moment_from_property(custom.get(Property.STARTED_AT)),
            finished_at=moment_from_property(custom.get(Property.FINISHED_AT)),
            properties=Json(execution.properties),
            custom_properties=Json(custom),
            created_at=moment(execution.created_at_ms),
            updated_at=moment(execution.updated_at_ms),
        )

    @api_field
    async def inputs(self, info: Info, first: First = DEFAULT_FIRST, after: After = None) -> ArtifactUses:
        """What it used, under the names of its inputs."""
        return await self._uses(info, outputs=False, first=first, after=after)

    @api_field
    async def outputs(self, info: Info, first: First = DEFAULT_FIRST, after: After = None) -> ArtifactUses:
        """What it made, under the names of its outputs."""
        return await self._uses(info, outputs=True, first=first, after=after)

    @api_field
    async def run(self, info: Info) -> RunRef | None:
        """The run that it is a part of."""
        found = await self._context(info, ContextRole.RUN)
        return None if found is None else runs.Run.of(found)

    @api_field
    async def pipeline(self, info: Info) -> PipelineRef | None:
        """The pipeline that its run is a run of."""
        found = await self._context(info, ContextRole.PIPELINE)
        if found is not None:
            return runs.Pipeline.of(found)
        run = await self._context(info, ContextRole.RUN)
        return None if run is None else await runs.pipeline_of(info, run.id)

    @api_field
    async def lineage(
        self,
        info: Info,
        direction: Direction = Direction.UPSTREAM,
        max_hops: walks.MaxHops = None,
        max_nodes: walks.MaxNodes = walks.DEFAULT_NODES,
        types: walks.Types = None,
        min_position: walks.MinPosition = None,
    ) -> LineageRef:
        """What it came from, or what came from it, over all runs."""
        walk = walks.Walk(
            start=(ExecutionNode(self.number),),
            direction=direction,
            max_hops=max_hops,
            max_nodes=max_nodes,
            types=types or (),
            min_position=min_position,
        )
        return await lineage.Lineage.of(info, walk)

    async def _context(self, info: Info, role: ContextRole) -> Context | None:
        contexts = await info.context.loaders.contexts_of_execution.load(self.number)
        return next((each for each in contexts if info.context.roles.role(each.type) is role), None)

    async def _uses(self, info: Info, *, outputs: bool, first: int, after: str | None) -> ArtifactUses:
        async def load(events: Sequence[Event]) -> Sequence["artifacts.Artifact | None"]:
            found = await info.context.loaders.artifacts.load_many([event.artifact_id for event in events])
            return [None if each is None else artifacts.Artifact.of(each) for each in found]

        events = await info.context.loaders.events_of_execution.load(self.number)
        chosen = [event for event in events if (event.type.is_output if outputs else event.type.is_input)]
        return await ArtifactUses.of(chosen, load, first=first, after=after)
