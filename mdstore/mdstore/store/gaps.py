"""Ids that were skipped, and whose rows may still come.

PostgreSQL and MySQL hand out ids before a transaction commits, so a row of somebody else may appear below ids that we
have seen already. Ids that are missing between those seen are therefore looked for again for a while; most of them
belong to transactions that were rolled back, and never come. SQLite has one writer at a time and needs none of this.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from time import monotonic
from typing import Final

from sqlalchemy import Table, bindparam, func, select

from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction

WAIT_S: Final = 60.0
"""How long a transaction of somebody else may take."""
LOOK_BACK: Final = 10_000
"""Ids below the first mark that a process sees: what another process knew of gaps there, it took along."""
LONG: Final = 1000
"""A gap of more ids is looked into by a question of its own."""
MOST_LONG: Final = 100
MOST: Final = 20_000
"""Ids in shorter gaps that are remembered of each table."""

_Gap = tuple[int, int]
"""The first and the last id that is missing."""


@cache
def _skipped(table: Table) -> Statement:
    """Rows (id before a gap, id behind it)."""
    column = table.c.id
    before = func.coalesce(func.lag(column).over(order_by=column), bindparam("after")).label("before")
    found = select(before, column).where(column > bindparam("after_too"), column <= bindparam("last")).subquery()
    return Statement(lambda: select(found.c.before, found.c.id).where(found.c.id > found.c.before + 1))


@cache
def _inside(table: Table) -> Statement:
    column = table.c.id
    return Statement(lambda: select(column).where(column >= bindparam("first"), column <= bindparam("last")))


@cache
def _there(table: Table) -> Statement:
    return Statement(lambda: select(table.c.id).where(OneOf(table.c.id, "ids")))


class Gaps:
    """The gaps of some tables. Threads: belongs to the writer's."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        """Know no gaps of these tables."""
        self._tables = tables
        self.names = tuple(tables)
        self._until: dict[str, dict[_Gap, float]] = {name: {} for name in tables}
        self._looked: dict[str, int] = {}
        """Table -> up to which id we have looked for gaps."""
        self._kept = self._until, self._looked

    def begin(self) -> None:
        """A transaction begins to use this: what it finds counts only once it is committed."""
        self._kept = {name: dict(until) for name, until in self._until.items()}, dict(self._looked)

    def forget(self) -> None:
        """It was rolled back."""
        self._until, self._looked = self._kept
        self.begin()

    def filled(self, tx: Transaction) -> dict[str, list[int]]:
        """The ids of each table that were missing and are there now; they are no gaps any more."""
        found: dict[str, list[int]] = {}
        now = monotonic()
        for name, table in self._tables.items():
            until = self._until[name]
            found[name] = _present(tx, table, list(until)) if until else []
            if found[name]:
                left = {part: end for gap, end in until.items() for part in _without(gap, found[name])}
                until.clear()
                until.update(left)
            for gap in [gap for gap, end in until.items() if end < now]:
                del until[gap]
        return found

    def look(self, tx: Transaction, name: str, mark: int, last: int) -> None:
        """Remember what is missing of a table up to `last`, from where we have looked; `mark` is what was seen so far.

        Marks may be another process's, which has looked for itself and not for us.
        """
        after = min(mark, self._looked.get(name, max(0, mark - LOOK_BACK)))
        self._looked[name] = last
        if after >= last:
            return
        until = self._until[name]
        end = monotonic() + WAIT_S
        for before, behind in tx.rows(_skipped(self._tables[name]), after=after, after_too=after, last=last):
            until.setdefault((before + 1, behind - 1), end)
        _drop_oldest(until)


def _present(tx: Transaction, table: Table, gaps: Sequence[_Gap]) -> list[int]:
    """The ids in these gaps that are there, ascending."""
    found: set[int] = set()
    short = [row_id for first, last in gaps if last - first < LONG for row_id in range(first, last + 1)]
    if short:
        found.update(row[0] for row in tx.rows(_there(table), ids=values(short)))
    for first, last in gaps:
        if last - first >= LONG:
            found.update(row[0] for row in tx.rows(_inside(table), first=first, last=last))
    return sorted(found)


def _without(gap: _Gap, found: Sequence[int]) -> Iterator[_Gap]:
    """What is left of a gap."""
    first, last = gap
    for row_id in found[bisect_left(found, first) : bisect_right(found, last)]:
        if first < row_id:
            yield first, row_id - 1
        first = row_id + 1
    if first <= last:
        yield first, last


def _drop_oldest(until: dict[_Gap, float]) -> None:
    long = [gap for gap in until if gap[1] - gap[0] >= LONG]
    for gap in long[: max(0, len(long) - MOST_LONG)]:
        del until[gap]
    ids = sum(last - first + 1 for first, last in until if last - first < LONG)
    for gap in list(until):
        if ids <= MOST:
            return
        if gap[1] - gap[0] < LONG:
            ids -= gap[1] - gap[0] + 1
            del until[gap]
