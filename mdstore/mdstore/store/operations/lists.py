"""Lists: pages of nodes in one of MLMD's orders, with MLMD's page tokens.

A page ends where a keyset says (time, id), so that concurrent writers neither hide rows nor show them twice; the token
has the library's shape, and one that the library made is understood.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from enum import Enum
from functools import cache, lru_cache
from typing import Any, Final

from google.protobuf.message import DecodeError
from sqlalchemy import ColumnElement, and_, bindparam, literal_column, or_, select

from mdstore.errors import InvalidArgument
from mdstore.store import tables
from mdstore.store.filterquery import plan as filterquery
from mdstore.store.filterquery.plan import Plan, Scope, inside
from mdstore.store.fragments import unplanned
from mdstore.store.kinds import Kind
from mdstore.store.operations import nodes
from mdstore.store.operations.walking import MEMBERS, end_of_walk, is_kept_in_order, ways
from mdstore.store.sql import Statement
from mdstore.store.transaction import Row, Transaction
from mdstore.wire import mlmd

MOST: Final = 100
"""Rows of a page; more may be asked for, and come with a token."""

_OrderBy = mlmd.ListOperationOptions.OrderByField
_FIELDS: Final = {
    _OrderBy.CREATE_TIME: "create_time_since_epoch",
    _OrderBy.LAST_UPDATE_TIME: "last_update_time_since_epoch",
    _OrderBy.ID: "id",
}
_WEB_SAFE: Final = re.compile(r"([A-Za-z0-9_-]+={0,2})?")
_WHITE_SPACE: Final = str.maketrans("", "", " \t\n\v\f\r")

Page = tuple[list[Any], str]
"""The nodes, and the next page's token or ''."""


class Way(Enum):
    """How a page of a scope is found."""

    ALONG = "along"
    """Along the scope."""
    SORTED = "sorted"
    """Along the scope, which the database must not take for so many that it had better walk."""
    WALK = "walk"
    """Along the list's order to its end."""
    SHORT_WALK = "short walk"
    """Along the list's order up to the key `until`."""


@cache
def _page(kind: Kind, scope: str, field: str, ascending: bool, continued: bool, way: Way) -> Statement:
    """The rows of a page. `scope` is "", "type" or "context"."""
    return Statement(lambda: _page_of(kind, scope, field, ascending, continued, None, way))


@lru_cache(1024)
def _filtered_page(plan: Plan, field: str, ascending: bool, continued: bool, way: Way) -> Statement:
    """The rows of a page that a filter leaves. Filters that differ in their literals only share it."""
    return Statement(lambda: _page_of(plan.kind, plan.scope, field, ascending, continued, plan, way))


def _page_of(kind: Kind, scope: str, field: str, ascending: bool, continued: bool, plan: Plan | None, way: Way) -> Any:
    table = kind.table.c
    conditions: list[ColumnElement[bool]] = []
    source: Any = kind.table.join(tables.TYPE, tables.TYPE.c.id == table.type_id)
    key: Any = table[field]
    node_id: Any = table.id
    if plan is not None:
        conditions += plan.conditions()
    if plan is not None and plan.begin is not None:
        # The statement goes along what the filter finds; the list's order is made of that at the end.
        key, node_id = unplanned(key), unplanned(node_id)
    walks = way in {Way.WALK, Way.SHORT_WALK}
    if way is Way.SHORT_WALK:
        until: Any = bindparam("until")
        conditions.append(key <= until if ascending else key >= until)
    if way is Way.SORTED:
        key = key + literal_column("0")
    if plan is not None and not plan.along_scope:
        pass
    elif walks:
        conditions.append(inside(kind, scope))
    elif scope == "type":
        conditions.append(table.type_id == bindparam("scope"))
    elif scope == "context":
        member = MEMBERS[kind]
        source = source.join(member, member.c[kind.owner] == table.id)
        conditions.append(member.c.context_id == bindparam("scope"))
        # Members are kept in the order of their ids.
        node_id = member.c[kind.owner]
    if continued:
        at: Any = bindparam("at")
        after: Any = bindparam("after")
        if field == "id":
            conditions.append(node_id > after if ascending else node_id < after)
        elif ascending:
            conditions.append(and_(key >= at, or_(key > bindparam("at_too"), node_id > after)))
        else:
            conditions.append(and_(key <= at, or_(key < bindparam("at_too"), node_id < after)))
    order = [node_id if plan is None or plan.begin is None else table.id]
    if field != "id":
        order = [key, table.id]
    statement = select(*nodes.columns(kind)).select_from(source)
    if walks and field != "id":
        # MySQL would rather begin with the types, or with the members.
        index = f"idx_{kind.label}_{field}"
        statement = statement.prefix_with("STRAIGHT_JOIN", dialect="mysql")
        statement = statement.with_hint(kind.table, f"FORCE INDEX ({index})", "mysql")
    return (
        statement.where(*conditions)
        .order_by(*(column.asc() if ascending else column.desc() for column in order))
        .limit(bindparam("most"))
    )


@cache
def _all(kind: Kind, scope: str) -> Statement:
    table = kind.table.c
    member = MEMBERS.get(kind)

    def make() -> Any:
        source: Any = kind.table.join(tables.TYPE, tables.TYPE.c.id == table.type_id)
        statement = select(*nodes.columns(kind))
        if scope == "type":
            return statement.select_from(source).where(table.type_id == bindparam("scope")).order_by(table.id)
        if scope == "context" and member is not None:
            source = source.join(member, member.c[kind.owner] == table.id)
            return statement.select_from(source).where(member.c.context_id == bindparam("scope")).order_by(table.id)
        return statement.select_from(source).order_by(table.id)

    return Statement(make)


def list_nodes(
    tx: Transaction,
    kind: Kind,
    options: mlmd.ListOperationOptions | None,
    *,
    type_id: int | None = None,
    context_id: int | None = None,
) -> Page:
    """A page of nodes, of one type or in one context if that is given; without options all of them, by id.

    Only when there are none may more be asked after it.

    Raises:
        InvalidArgument: size, order, token or filter are wrong.
    """
    scope, scope_id = ("type", type_id) if type_id is not None else ("context", context_id)
    if scope_id is None:
        scope = ""
    arguments: dict[str, Any] = {"scope": scope_id}
    if options is None:
        return nodes.messages_at_last(tx, kind, tx.rows(_all(kind, scope), **arguments)), ""
    size, field, ascending = _check(options)
    order = options.order_by_field.field
    continued = bool(options.next_page_token)
    if continued:
        token = _decode(options)
        at = token.field_offset
        after = token.id_offset
        if order == _OrderBy.LAST_UPDATE_TIME:
            # The token names the rows at its page's end that share the last time; the list goes on behind them.
            after = max(token.listed_ids) if ascending else min(token.listed_ids)
        arguments |= {"at": at, "at_too": at, "after": after}
    rows = _rows(tx, kind, options, scope, field, ascending, arguments, size + 1)
    page = rows[:size]
    listed = nodes.messages_at_last(tx, kind, page)
    if len(rows) <= size:
        return listed, ""
    return listed, _encode(options, order, page)


def _rows(
    tx: Transaction,
    kind: Kind,
    options: mlmd.ListOperationOptions,
    scope: str,
    field: str,
    ascending: bool,
    arguments: dict[str, Any],
    most: int,
) -> Sequence[Row]:
    """Up to so many rows, which ever way they are found soonest."""
    continued = "at" in arguments
    plan: Plan | None = None
    choice = not is_kept_in_order(tx.dialect, scope, field)
    if options.filter_query:
        found = filterquery.read(kind, options.filter_query)
        plan = filterquery.plan(tx, found, Scope(scope, arguments["scope"]))
        arguments = {**arguments, **found.parameters}
        # Where a filter is, the others know better; and this one has counted already.
        choice = choice and not tx.filters.knows_counts and plan.along_scope and plan.scope_is_large

    def page(way: Way, plan: Plan | None, **more: int) -> Sequence[Row]:
        if plan is not None:
            statement = _filtered_page(plan, field, ascending, continued, way)
        else:
            statement = _page(kind, scope, field, ascending, continued, way)
        return tx.rows(statement, most=most, **arguments, **more)

    if plan is not None and plan.density:
        # What begins must be sorted, by other keys than ids even after a look at each. If it is spread evenly, a walk
        # over half as many nodes as this fills the page.
        window = int(2 * most / plan.density)
        if window < plan.fewest * (1 if field == "id" else 3):
            until = end_of_walk(tx, kind, field, ascending, window, arguments)
            rows = page(Way.SHORT_WALK, plan.walking(), until=until) if until is not None else ()
            if len(rows) == most:
                return rows
    if not choice:
        return page(Way.ALONG, plan)
    is_large, until = ways(tx, kind, scope, field, ascending, arguments)
    if not is_large:
        return page(Way.SORTED, plan)
    walking = None if plan is None else plan.walking()
    if until is None:
        return page(Way.WALK, walking)
    rows = page(Way.SHORT_WALK, walking, until=until)
    return rows if len(rows) == most else page(Way.SORTED, plan)


def _check(options: mlmd.ListOperationOptions) -> tuple[int, str, bool]:
    if options.max_result_size <= 0:
        raise InvalidArgument(f"max_result_size is {options.max_result_size}; it must be at least 1")
    field = _FIELDS.get(options.order_by_field.field)
    if field is None:
        raise InvalidArgument("order_by_field.field is not specified: use CREATE_TIME, LAST_UPDATE_TIME or ID")
    return min(options.max_result_size, MOST), field, options.order_by_field.is_asc


def _decode(options: mlmd.ListOperationOptions) -> mlmd.ListOperationNextPageToken:
    text = options.next_page_token
    try:
        # White space means nothing, as to the library. Python's decoder would leave out whatever else is not base64,
        # and take any word for the token of a first page.
        text = text.translate(_WHITE_SPACE)
        if not _WEB_SAFE.fullmatch(text):
            raise InvalidArgument("next_page_token is not one of this service's")
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        token = mlmd.ListOperationNextPageToken.FromString(data)
    # TypeError: a text that is not UTF-8 comes as bytes.
    except (binascii.Error, DecodeError, TypeError) as error:
        raise InvalidArgument("next_page_token is not one of this service's") from error
    theirs, ours = token.set_options.order_by_field, options.order_by_field
    if theirs.field != ours.field or theirs.is_asc != ours.is_asc:
        raise InvalidArgument("next_page_token belongs to a list in another order")
    if ours.field == _OrderBy.LAST_UPDATE_TIME and not token.listed_ids:
        raise InvalidArgument("next_page_token names no row of its page")
    return token


def _encode(options: mlmd.ListOperationOptions, order: int, page: Sequence[Sequence[Any]]) -> str:
    last = page[-1]
    token = mlmd.ListOperationNextPageToken()
    token.set_options.CopyFrom(options)
    token.set_options.ClearField("next_page_token")
    if order == _OrderBy.ID:
        token.id_offset = token.field_offset = last[0]
    elif order == _OrderBy.CREATE_TIME:
        token.id_offset, token.field_offset = last[0], last[4]
    else:
        token.field_offset = last[5]
        token.listed_ids.extend(row[0] for row in page if row[5] == last[5])
    return base64.urlsafe_b64encode(token.SerializeToString()).decode("ascii").rstrip("=")


FIRST: Final = mlmd.ListOperationOptions(max_result_size=1)
"""Options for one row, to learn whether there is any."""


def has_unknown_field(message: Any, number: int) -> bool:
    """Whether a message came with a field that its definition does not have (any more)."""
    from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415 (rarely needed)

    fields: Any = UnknownFieldSet(message)
    return any(field.field_number == number for field in fields)
