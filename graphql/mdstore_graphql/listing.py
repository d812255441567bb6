"""Answers a list of the API: a filter, an order and a place in it become a page of the reader."""

from collections.abc import Callable

from mdstore.store.reader import NodeFilter
from mdstore.values import ContextId
from mdstore_graphql.connections import Connection, NodeT, ValueT
from mdstore_graphql.filters import NodeOrder, question
from mdstore_graphql.loaders import Lists


async def listed(
    lists: Lists[ValueT],
    node: Callable[[ValueT], NodeT],
    where: NodeFilter | None,
    order_by: NodeOrder | None,
    first: int,
    after: str | None,
    *,
    inside: ContextId | None = None,
) -> Connection[NodeT]:
    """One page.

    Args:
        lists: of the kind of node.
        node: the API's view of a value.
        where: None when nothing can match.
        order_by: the order of recording when None.
        first: how many.
        after: the cursor of the page before.
        inside: only members of this context.

    Raises:
        InvalidArgument: the arguments are none, also when nothing can match.
    """
    asked = question(where or NodeFilter(), order_by, first, after)
    if where is None:
        return Connection.empty()
    if inside is None:
        page = await lists.page(asked)
        return Connection.of(page, node, after=after, count=lambda: lists.count(asked.where))
    page = await lists.page_inside(inside, asked)
    return Connection.of(page, node, after=after, count=lambda: lists.count_inside(inside, asked.where))
