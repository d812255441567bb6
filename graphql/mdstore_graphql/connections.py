"""Relay's connections: pages of a list with cursors, and how many there are in all when somebody asks."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final, Generic, Self, TypeVar

import strawberry

from mdstore.errors import InvalidArgument
from mdstore.store.reader import Page
from mdstore.values import Artifact, Context, Execution
from mdstore_graphql.describing import api_field, api_type

DEFAULT_FIRST: Final = 20
MAX_FIRST: Final = 1000

NodeT = TypeVar("NodeT")
ValueT = TypeVar("ValueT", Artifact, Execution, Context)
ItemT = TypeVar("ItemT")

First = Annotated[int, strawberry.argument(description=f"At most so many, up to {MAX_FIRST}.")]
After = Annotated[str | None, strawberry.argument(description="Begin behind this cursor of an earlier page.")]


@api_type
class PageInfo:
    """Where a page begins and ends."""

    has_next_page: bool = strawberry.field(description="There is more behind this page.")
    has_previous_page: bool = strawberry.field(description="There is something before this page.")
    start_cursor: str | None = strawberry.field(description="The first edge's cursor.")
    end_cursor: str | None = strawberry.field(description="The last edge's cursor: `after` of the next page.")


@api_type
class Edge(Generic[NodeT]):
    """A node in a page."""

    cursor: str = strawberry.field(description="The place of the node in the list.")
    node: NodeT


@api_type
class Connection(Generic[NodeT]):
    """A page of a list."""

    edges: list[Edge[NodeT]]
    page_info: PageInfo
    count: strawberry.Private[Callable[[], Awaitable[int]]]

    @api_field
    def nodes(self) -> list[NodeT]:
        """The nodes of the edges."""
        return [edge.node for edge in self.edges]

    @api_field
    async def total_count(self) -> int:
        """How many there are on all pages. Counted only when asked for."""
        return await self.count()

    @classmethod
    def of(
        cls,
        page: Page[ValueT],
        node: Callable[[ValueT], NodeT],
        *,
        after: str | None,
        count: Callable[[], Awaitable[int]],
    ) -> Self:
        """A page of the reader."""
        edges = [Edge(cursor=cursor, node=node(value)) for cursor, value in zip(page.cursors, page.nodes, strict=True)]
        info = page_info([edge.cursor for edge in edges], has_next=page.has_next, after=after)
        return cls(edges=edges, page_info=info, count=count)

    @classmethod
    def empty(cls) -> Self:
        """A list without anything in it."""
        return cls(edges=[], page_info=page_info([], has_next=False, after=None), count=_none)


async def _none() -> int:
    return 0


def page_info(cursors: Sequence[str], *, has_next: bool, after: str | None) -> PageInfo:
    """Of a page with these cursors."""
    return PageInfo(
        has_next_page=has_next,
        has_previous_page=after is not None,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )


def check_first(first: int) -> int:
    """The argument `first`.

    Raises:
        InvalidArgument: it is less than 0 or more than the largest page.
    """
    if not 0 <= first <= MAX_FIRST:
        raise InvalidArgument(f"first: {first} is not from 0 to {MAX_FIRST}; page through what is more")
    return first


def slice_page(
    items: Sequence[ItemT], *, first: int, after: str | None
) -> tuple[Sequence[tuple[str, ItemT]], PageInfo]:
    """A page of a list that is in memory and only ever grows at its end: pairs of cursor and item, and the page's info.

    Raises:
        InvalidArgument: `first` is out of range, or `after` is not a cursor of such a list.
    """
    begin = 0 if after is None else _place(after) + 1
    end = begin + check_first(first)
    found = [(_cursor(begin + place), item) for place, item in enumerate(items[begin:end])]
    return found, page_info([cursor for cursor, _ in found], has_next=end < len(items), after=after)


_PREFIX: Final = "at:"


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(f"{_PREFIX}{place}".encode()).decode()


def _place(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
        place = text.removeprefix(_PREFIX)
        if text.startswith(_PREFIX) and place.isascii() and place.isdigit():
            return int(place)
    except (ValueError, binascii.Error):
        pass
    raise InvalidArgument(f"after: {cursor!r} is not a cursor of this list")
