"""Which way to a page: along what the list is restricted to, or along the list's order.

The members of a context are kept in the order of their ids, and the nodes of a type in none. In another order, all of
them must be looked at and sorted, which is best when they are few. When they are many, the list's own order is walked
instead, and each node is asked whether it belongs: that ends after a page's worth of members, however many there are,
unless the members are far from where the page begins. So a walk has a bound, and where that was reached before the page
is full, the members are sorted after all.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, case, func, literal_column, select

from mdstore.store import tables
from mdstore.store.kinds import ARTIFACT, EXECUTION, Kind
from mdstore.store.sql import Statement
from mdstore.store.transaction import Transaction

FEW: Final = 2_000
"""So many are sorted sooner than found on a walk."""
MANY: Final = 6_000
"""For so many a longer walk is worth while."""
WINDOW: Final = 5_000
LONG_WINDOW: Final = 16_000
"""Nodes of the list that a walk looks at, at most: looking at one costs a fraction of sorting one."""

MEMBERS: Final = {ARTIFACT: tables.ATTRIBUTION, EXECUTION: tables.ASSOCIATION}
"""The tables that say which nodes are in which context."""


def is_kept_in_order(dialect: str, scope: str, field: str) -> bool:
    """Whether a page of a scope ("", "type" or "context") in the order of a field needs no thought."""
    match dialect:
        case "sqlite":
            return not scope or (scope == "context" and field == "id")
        case "mysql":
            # It knows how many nodes of a type there are, and would sort the members of a context.
            return scope != "context" or field == "id"
    # PostgreSQL knows both, and walks by itself.
    return True


@cache
def _end(kind: Kind, field: str, ascending: bool, continued: bool) -> Statement:
    return Statement(lambda: select(_key_after(kind, field, ascending, continued, bindparam("window"))))


def _key_after(kind: Kind, field: str, ascending: bool, continued: bool, window: Any) -> Any:
    """The key of the node so far from where the page begins; NULL when the list ends before that."""
    walked = kind.table.alias("walked")
    key: ColumnElement[Any] = walked.c[field]
    found = select(key).order_by(key.asc() if ascending else key.desc()).limit(1).offset(window)
    if continued:
        found = found.where(key >= bindparam("at") if ascending else key <= bindparam("at"))
    return found.scalar_subquery()


def end_of_walk(
    tx: Transaction, kind: Kind, field: str, ascending: bool, window: int, arguments: Mapping[str, Any]
) -> int | None:
    """The key at which a walk over so many nodes ends, or None for the list's end; one statement."""
    continued = "at" in arguments
    given = {"at": arguments["at"]} if continued else {}
    ((end,),) = tx.rows(_end(kind, field, ascending, continued), window=window, **given)
    return None if end is None else int(end)


@cache
def _look(kind: Kind, scope: str, field: str, ascending: bool, continued: bool) -> Statement:
    """One row: how many nodes are in the scope, up to MANY; and when that is not few, the key at which a walk ends."""

    def make() -> Any:
        one: ColumnElement[int] = literal_column("1")
        if scope == "type":
            inside = select(one).where(kind.table.c.type_id == bindparam("scope"))
        else:
            inside = select(one).where(MEMBERS[kind].c.context_id == bindparam("scope"))
        counted = select(func.count().label("found")).select_from(inside.limit(MANY).subquery()).cte("counted")
        ends = case(
            (counted.c.found < FEW, None),
            (counted.c.found < MANY, _key_after(kind, field, ascending, continued, WINDOW)),
            else_=_key_after(kind, field, ascending, continued, LONG_WINDOW),
        )
        return select(counted.c.found, ends)

    return Statement(make)


def ways(
    tx: Transaction, kind: Kind, scope: str, field: str, ascending: bool, arguments: dict[str, Any]
) -> tuple[bool, int | None]:
    """Whether to walk along the list's order, and the key at which to give up, or None for its end; one statement.

    Args:
        tx: the transaction.
        kind: of the nodes.
        scope: "type" or "context".
        field: what the list is ordered by.
        ascending: the direction of its order.
        arguments: `scope`, and `at` where the list goes on.
    """
    continued = "at" in arguments
    given = {name: arguments[name] for name in (("scope", "at") if continued else ("scope",))}
    ((found, end),) = tx.rows(_look(kind, scope, field, ascending, continued), **given)
    return found >= FEW, end
