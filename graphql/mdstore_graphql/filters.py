"""The arguments of lists, and the reader's filters that they stand for."""

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import Enum
from typing import TypeVar

import strawberry

from mdstore.errors import InvalidArgument, ResourceExhausted
from mdstore.store.reader import NodeFilter, OrderBy
from mdstore.values import ArtifactState, ContextId, ExecutionState
from mdstore.vocabulary import ContextRole, Property
from mdstore_graphql.connections import check_first
from mdstore_graphql.context import Info
from mdstore_graphql.describing import api_input
from mdstore_graphql.loaders import MOST_CALLED, Question
from mdstore_graphql.nodes import RunState
from mdstore_graphql.scalars import milliseconds, sortable

_MOST_VALUES = 1000
"""Values that one part of a filter may list."""

T = TypeVar("T")


@strawberry.enum(description="What a list is ordered by; equal ones by id.")
class NodeOrderField(Enum):
    """What a list is ordered by."""

    ID = OrderBy.ID
    CREATED_AT = OrderBy.CREATED
    UPDATED_AT = OrderBy.UPDATED


@strawberry.enum(description="Which way a list is ordered.")
class OrderDirection(Enum):
    """Which way a list is ordered."""

    ASC = "ASC"
    DESC = "DESC"


@api_input
class NodeOrder:
    """The order of a list."""

    field: NodeOrderField = NodeOrderField.ID
    direction: OrderDirection = OrderDirection.ASC


@api_input
class ArtifactFilter:
    """Which artifacts; what is not given does not restrict. All of it together."""

    types: list[str] | None = strawberry.field(default=None, description="Names of types.")
    name: str | None = strawberry.field(default=None, description="Exactly this display name or name.")
    name_contains: str | None = strawberry.field(
        default=None, description="Part of the display name or name; upper and lower case alike."
    )
    states: list[ArtifactState] | None = None
    uri: str | None = strawberry.field(default=None, description="Exactly this URI.")
    uri_prefix: str | None = None
    pipeline: str | None = strawberry.field(default=None, description="Of runs of the pipeline of this name.")
    run: str | None = strawberry.field(default=None, description="Of the run of this id or name.")
    created_after: datetime | None = strawberry.field(default=None, description="Recorded then or later.")
    created_before: datetime | None = strawberry.field(default=None, description="Recorded before.")
    produced_after: datetime | None = strawberry.field(default=None, description="Produced then or later.")
    produced_before: datetime | None = strawberry.field(default=None, description="Produced before.")

    async def where(self, info: Info) -> NodeFilter | None:
        """The reader's filter; None when nothing can pass it."""
        contexts = await members_of(info, run=self.run, pipeline=self.pipeline)
        if contexts is not None and not contexts:
            return None
        return NodeFilter(
            types=_checked("types", self.types),
            called=[self.name] if self.name is not None else (),
            name_contains=self.name_contains,
            states=_checked("states", self.states),
            uris=[self.uri] if self.uri is not None else (),
            uri_prefix=self.uri_prefix,
            in_contexts=contexts or (),
            in_children_too=True,
            custom_property_ranges=_range(Property.PRODUCED_AT, self.produced_after, self.produced_before),
            created_from_ms=_ms(self.created_after),
            created_before_ms=_ms(self.created_before),
        )


@api_input
class ExecutionFilter:
    """Which executions; what is not given does not restrict. All of it together."""

    types: list[str] | None = strawberry.field(default=None, description="Names of types.")
    name: str | None = strawberry.field(default=None, description="Exactly this display name or name.")
    name_contains: str | None = strawberry.field(
        default=None, description="Part of the display name or name; upper and lower case alike."
    )
    task_name: str | None = strawberry.field(default=None, description="Exactly this task.")
    states: list[ExecutionState] | None = None
    pipeline: str | None = strawberry.field(default=None, description="Of runs of the pipeline of this name.")
    run: str | None = strawberry.field(default=None, description="Of the run of this id or name.")
    created_after: datetime | None = strawberry.field(default=None, description="Recorded then or later.")
    created_before: datetime | None = strawberry.field(default=None, description="Recorded before.")
    started_after: datetime | None = strawberry.field(default=None, description="Started then or later.")
    started_before: datetime | None = strawberry.field(default=None, description="Started before.")

    async def where(self, info: Info) -> NodeFilter | None:
        """The reader's filter; None when nothing can pass it."""
        contexts = await members_of(info, run=self.run, pipeline=self.pipeline)
        if contexts is not None and not contexts:
            return None
        return NodeFilter(
            types=_checked("types", self.types),
            called=[self.name] if self.name is not None else (),
            name_contains=self.name_contains,
            custom_properties={Property.TASK_NAME: [self.task_name]} if self.task_name is not None else {},
            states=_checked("states", self.states),
            in_contexts=contexts or (),
            in_children_too=True,
            custom_property_ranges=_range(Property.STARTED_AT, self.started_after, self.started_before),
            created_from_ms=_ms(self.created_after),
            created_before_ms=_ms(self.created_before),
        )


@api_input
class RunFilter:
    """Which runs; what is not given does not restrict. All of it together."""

    name: str | None = strawberry.field(default=None, description="Exactly this display name or run id.")
    name_contains: str | None = strawberry.field(
        default=None, description="Part of the display name or run id; upper and lower case alike."
    )
    states: list[RunState] | None = None
    pipeline: str | None = strawberry.field(default=None, description="Of the pipeline of this name.")
    started_after: datetime | None = strawberry.field(default=None, description="Started then or later.")
    started_before: datetime | None = strawberry.field(default=None, description="Started before.")
    finished_after: datetime | None = strawberry.field(default=None, description="Finished then or later.")
    finished_before: datetime | None = strawberry.field(default=None, description="Finished before.")

    async def where(self, info: Info) -> NodeFilter | None:
        """The reader's filter; None when nothing can pass it."""
        contexts = await members_of(info, pipeline=self.pipeline)
        if contexts is not None and not contexts:
            return None
        return NodeFilter(
            types=info.context.roles.types(ContextRole.RUN),
            called=[self.name] if self.name is not None else (),
            name_contains=self.name_contains,
            custom_properties={Property.STATE: [state.value for state in self.states]} if self.states else {},
            in_contexts=contexts or (),
            custom_property_ranges={
                **_range(Property.STARTED_AT, self.started_after, self.started_before),
                **_range(Property.FINISHED_AT, self.finished_after, self.finished_before),
            },
        )


@api_input
class PipelineFilter:
    """Which pipelines; what is not given does not restrict."""

    name: str | None = strawberry.field(default=None, description="Exactly this name.")
    name_contains: str | None = strawberry.field(
        default=None, description="Part of the name; upper and lower case alike."
    )

    def where(self, info: Info) -> NodeFilter:
        """The reader's filter."""
        return NodeFilter(
            types=info.context.roles.types(ContextRole.PIPELINE),
            called=[self.name] if self.name is not None else (),
            name_contains=self.name_contains,
        )


def question(where: NodeFilter, order_by: NodeOrder | None, first: int, after: str | None) -> Question:
    """A page of a list.

    Raises:
        InvalidArgument: `first` is out of range.
    """
    order = order_by or NodeOrder()
    return Question(
        where=where,
        order_by=order.field.value,
        descending=order.direction is OrderDirection.DESC,
        first=check_first(first),
        after=after,
    )


async def members_of(
    info: Info, *, run: str | None = None, pipeline: str | None = None
) -> Collection[ContextId] | None:
    """The contexts whose members belong to a run and a pipeline of these names; None when neither is given."""
    roles = info.context.roles
    pipelines: Sequence[ContextId] | None = None
    if pipeline is not None:
        pipelines = await _called(info, "pipeline", roles.types(ContextRole.PIPELINE), pipeline)
    if run is None:
        return pipelines
    runs = await _called(info, "run", roles.types(ContextRole.RUN), run)
    if pipelines is None:
        return runs
    parents = await info.context.loaders.parents_of_context.load_many(list(runs))
    wanted = set(pipelines)
    return [each for each, above in zip(runs, parents, strict=True) if any(parent.id in wanted for parent in above)]


async def _called(info: Info, argument: str, types: Sequence[str], name: str) -> Sequence[ContextId]:
    found = await info.context.loaders.contexts_called(types, name)
    if len(found) == MOST_CALLED:
        raise ResourceExhausted(f"{argument}: {MOST_CALLED} or more are called {name!r}; give the context's own name")
    return [context.id for context in found]


def _checked(name: str, given: Sequence[T] | None) -> Sequence[T]:
    if given is not None and len(given) > _MOST_VALUES:
        raise InvalidArgument(f"{name}: {len(given)} are more than {_MOST_VALUES}")
    return given or ()


def _ms(at: datetime | None) -> int | None:
    return None if at is None else milliseconds(at)


def _range(name: str, low: datetime | None, high: datetime | None) -> dict[str, tuple[str | None, str | None]]:
    if low is None and high is None:
        return {}
    return {name: (None if low is None else sortable(low), None if high is None else sortable(high))}
