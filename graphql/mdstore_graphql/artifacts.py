"""Artifacts: what executions make and use."""

from collections.abc import Sequence
from datetime import datetime
from typing import Self

import strawberry

from mdstore import values, vocabulary
from mdstore.values import ArtifactId, ArtifactState, Event, ExecutionId, ExecutionState
from mdstore.vocabulary import ContextRole, Property
from mdstore_graphql import executions, lineage, runs, walks
from mdstore_graphql.connections import DEFAULT_FIRST, After, First
from mdstore_graphql.context import Info
from mdstore_graphql.describing import api_field, api_type
from mdstore_graphql.ids import Kind, global_id
from mdstore_graphql.nodes import LineageNode, MetadataNode, Node, artifact_name
from mdstore_graphql.references import ExecutionRef, LineageRef, RunRef
from mdstore_graphql.scalars import Json, moment, moment_from_property
from mdstore_graphql.uses import UseConnection
from mdstore_lineage.graph import ArtifactNode, Direction

ExecutionUses = UseConnection[ExecutionRef]


@api_type
class Artifact(LineageNode, MetadataNode, Node):
    """A thing that executions make and use: data, a model, a report."""

    number: strawberry.Private[ArtifactId]
    uri: str = strawberry.field(description="Where it is.")
    state: ArtifactState | None
    produced_at: datetime | None = strawberry.field(description="When its producer had finished it.")

    @classmethod
    def of(cls, artifact: values.Artifact) -> Self:
        """The API's view of an artifact."""
        return cls(
            id=global_id(Kind.ARTIFACT, artifact.id),
            metadata_id=strawberry.ID(str(artifact.id)),
            number=artifact.id,
            type=artifact.type,
            name=artifact_name(artifact),
            uri=artifact.uri,
            state=artifact.state,
            external_id=artifact.external_id,
            properties=Json(artifact.properties),
            custom_properties=Json(artifact.custom_properties),
            created_at=moment(artifact.created_at_ms),
            updated_at=moment(artifact.updated_at_ms),
            produced_at=moment_from_property(artifact.custom_properties.get(Property.PRODUCED_AT)),
        )

    @api_field
    async def producer(self, info: Info) -> ExecutionRef | None:
        """The execution that made it.

        Of several the first that really did: not one that took it from a cache or imported it, and not a pipeline that
        hands on what its steps made, unless there is no other.
        """
        found = await info.context.loaders.executions.load_many(
            unique_executions(await self._events(info, outputs=True))
        )
        producers = [execution for execution in found if execution is not None]
        real = (each for each in producers if not _hands_on(each))
        chosen = next(real, producers[0] if producers else None)
        return None if chosen is None else executions.Execution.of(chosen)

    @api_field
    async def producers(self, info: Info, first: First = DEFAULT_FIRST, after: After = None) -> ExecutionUses:
        """Every execution that output it, also those that took it from a cache."""
        return await self._uses(info, outputs=True, first=first, after=after)

    @api_field
    async def consumers(self, info: Info, first: First = DEFAULT_FIRST, after: After = None) -> ExecutionUses:
        """Every execution that used it."""
        return await self._uses(info, outputs=False, first=first, after=after)

    @api_field
    async def runs(self, info: Info) -> list[RunRef]:
        """The runs that made it or used it."""
        events = await info.context.loaders.events_of_artifact.load(self.number)
        return await _runs_of(info, unique_executions(events))

    @api_field
    async def used_by_runs(self, info: Info) -> list[RunRef]:
        """The runs that used it, directly. For those that used what was made from it, ask `usedBy`."""
        return await _runs_of(info, unique_executions(await self._events(info, outputs=False)))

    @api_field
    async def used_by(
        self,
        info: Info,
        transitively: bool = True,
        max_nodes: walks.MaxNodes = walks.DEFAULT_NODES,
        min_position: walks.MinPosition = None,
    ) -> LineageRef:
        """The runs that used it and, unless `transitively` is false, those that used what was made from it."""
        return await lineage.used_by(
            info, self.number, transitively=transitively, max_nodes=max_nodes, min_position=min_position
        )

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
            start=(ArtifactNode(self.number),),
            direction=direction,
            max_hops=max_hops,
            max_nodes=max_nodes,
            types=types or (),
            min_position=min_position,
        )
        return await lineage.Lineage.of(info, walk)

    async def _events(self, info: Info, *, outputs: bool) -> Sequence[Event]:
        events = await info.context.loaders.events_of_artifact.load(self.number)
        return [event for event in events if (event.type.is_output if outputs else event.type.is_input)]

    async def _uses(self, info: Info, *, outputs: bool, first: int, after: str | None) -> ExecutionUses:
        async def load(events: Sequence[Event]) -> Sequence["executions.Execution | None"]:
            found = await info.context.loaders.executions.load_many([event.execution_id for event in events])
            return [None if each is None else executions.Execution.of(each) for each in found]

        events = await self._events(info, outputs=outputs)
        return await ExecutionUses.of(events, load, first=first, after=after)


def unique_executions(events: Sequence[Event]) -> list[ExecutionId]:
    """The events' executions, each once, in order."""
    return list(dict.fromkeys(event.execution_id for event in events))


def _hands_on(execution: values.Execution) -> bool:
    return execution.state is ExecutionState.CACHED or execution.type in vocabulary.HANDING_ON


async def _runs_of(info: Info, ids: Sequence[ExecutionId]) -> "list[runs.Run]":
    contexts = await info.context.loaders.contexts_of_execution.load_many(list(ids))
    found = {context.id: context for group in contexts for context in group}
    return [
        runs.Run.of(found[each])
        for each in sorted(found)
        if info.context.roles.role(found[each].type) is ContextRole.RUN
    ]
