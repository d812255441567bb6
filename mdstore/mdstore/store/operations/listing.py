"""`ListNodes`: pages of nodes that a filter leaves, in any order that an index serves."""

from typing import Any, Final

from mdstore.errors import InvalidArgument
from mdstore.store.filters import NodeFilter, OrderBy
from mdstore.store.kinds import ARTIFACT, EXECUTION, Kind
from mdstore.store.operations import filtering, references
from mdstore.store.operations import nodes as storing
from mdstore.store.transaction import Transaction
from mdstore.values import ContextId
from mdstore.wire import nodes

LIMIT: Final = 100
MOST: Final = 1000

_ORDERS: Final[dict[int, OrderBy]] = {
    nodes.BY_ID: OrderBy.ID,
    nodes.BY_CREATE_TIME: OrderBy.CREATED,
    nodes.BY_UPDATE_TIME: OrderBy.UPDATED,
    nodes.BY_EXTERNAL_ID: OrderBy.EXTERNAL_ID,
    nodes.BY_URI: OrderBy.URI,
}


def list_nodes(tx: Transaction, request: nodes.ListNodesRequest) -> nodes.ListNodesResponse:
    """`ListNodes`.

    Raises:
        InvalidArgument: no kind, a filter or an order that the kind does not have, or a cursor of another list.
    """
    kind = references.kind_of(request.kind)
    by = _ORDERS.get(request.order)
    if by is None:
        raise InvalidArgument(f"order is {request.order}, which is none")
    order = filtering.Order(by, request.descending)
    where = filter_of(kind, request.filter)
    limit = min(request.limit, MOST) if request.limit > 0 else LIMIT
    rows = filtering.page(tx, kind, where, order, limit + 1, request.cursor or None)
    found = storing.messages(tx, kind, rows[:limit])
    response = nodes.ListNodesResponse()
    getattr(response, kind.nodes_field).extend(found)
    if len(rows) > limit:
        response.next_cursor = filtering.cursor(order, found[-1])
    if request.with_total:
        response.total = filtering.count(tx, kind, where)
    return response


def filter_of(kind: Kind, message: nodes.NodeFilter) -> NodeFilter:
    """The filter that a message describes.

    Raises:
        InvalidArgument: it asks for what nodes of this kind do not have.
    """
    if message.states and kind not in {ARTIFACT, EXECUTION}:
        raise InvalidArgument("contexts have no state to filter by")

    def bound(range_: Any, name: str) -> str | None:
        return getattr(range_, name) if range_.HasField(name) else None

    return NodeFilter(
        types=tuple(message.types),
        names=tuple(message.names),
        called=tuple(message.called),
        name_contains=message.name_contains or None,
        states=tuple(message.states),
        uris=tuple(message.uris),
        uri_prefix=message.uri_prefix or None,
        in_contexts=tuple(ContextId(context) for context in message.in_contexts),
        in_children_too=message.in_children_too,
        custom_properties={name: tuple(texts.values) for name, texts in message.custom_properties.items()},
        custom_property_ranges={
            name: (bound(range_, "at_least"), bound(range_, "less_than"))
            for name, range_ in message.custom_property_ranges.items()
        },
        created_from_ms=message.created_from_ms if message.HasField("created_from_ms") else None,
        created_before_ms=message.created_before_ms if message.HasField("created_before_ms") else None,
    )
