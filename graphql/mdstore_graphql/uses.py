"""Connections over events: who made or used something, with the name that it had there.

An edge is one event of the store. So the same artifact may stand in a list twice, when a step takes it twice.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Generic, Self, TypeVar

import strawberry

from mdstore.values import Event, EventType
from mdstore_graphql.connections import PageInfo, slice_page
from mdstore_graphql.describing import api_field, api_type
from mdstore_graphql.scalars import moment

NodeT = TypeVar("NodeT")


@api_type
class Use(Generic[NodeT]):
    """One use of an artifact by an execution: an event of the store, seen from one end."""

    cursor: str = strawberry.field(description="The place of the event in the list.")
    node: NodeT = strawberry.field(description="What is at the other end.")
    name: str | None = strawberry.field(description="The name of the execution's input or output.")
    index: int | None = strawberry.field(description="The place in a list of inputs or outputs of that name.")
    at: datetime | None = strawberry.field(description="When it happened.")
    event_type: EventType


@api_type
class UseConnection(Generic[NodeT]):
    """Uses of artifacts by executions, in the order in which the store heard of them."""

    edges: list[Use[NodeT]]
    page_info: PageInfo
    total_count: int = strawberry.field(description="How many there are on all pages.")

    @api_field
    def nodes(self) -> list[NodeT]:
        """The nodes of the edges."""
        return [edge.node for edge in self.edges]

    @classmethod
    async def of(
        cls,
        events: Sequence[Event],
        load: Callable[[Sequence[Event]], Awaitable[Sequence[NodeT | None]]],
        *,
        first: int,
        after: str | None,
    ) -> Self:
        """A page of events; `load` finds the node at the other end of each."""
        page, info = slice_page(events, first=first, after=after)
        nodes = await load([event for _, event in page])
        edges = [
            Use(
                cursor=cursor,
                node=node,
                name=event_name(event),
                index=next((step for step in reversed(event.path) if isinstance(step, int)), None),
                at=moment(event.at_ms),
                event_type=event.type,
            )
            for (cursor, event), node in zip(page, nodes, strict=True)
            if node is not None
        ]
        return cls(edges=edges, page_info=info, total_count=len(events))


def event_name(event: Event) -> str | None:
    """The input's or output's name: the last key of the event's path."""
    return next((step for step in reversed(event.path) if isinstance(step, str)), None)
