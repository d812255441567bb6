"""Rows that are written late: they wait until their table is read, or until the transaction ends.

So the rows that many requests bring for one table are one statement, and what a request writes at last is one message
to the database. In which order they are written does not matter, with two exceptions: of two rows for one key the later
one counts; and what two different writes do to one key must stay in its order, which is for who adds them to see.
"""

import re
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Table

from mdstore.store import tables
from mdstore.store.sql import Delete, Write

Rows = Sequence[Sequence[Any]]

_TABLES: Final = {table.name.lower(): table for table in (*tables.MLMD_TABLES, *tables.OUR_TABLES)}
_NAMES: Final = re.compile(rf"\b({'|'.join(_TABLES)})\b", re.IGNORECASE)


@lru_cache(maxsize=4096)
def tables_in(text: str) -> frozenset[Table]:
    """The tables that an SQL text may read: all whose names are in it."""
    return frozenset(_TABLES[name.lower()] for name in _NAMES.findall(text))


@cache
def _key_of(write: Write) -> Callable[[Sequence[Any]], Hashable] | None:
    """What gives the primary key of a row; None when the row does not hold it."""
    places = [write.parameters.index(c.name) for c in write.table.primary_key if c.name in write.parameters]
    return itemgetter(*places) if places and len(places) == len(write.table.primary_key) else None


class Pending:
    """Rows by table and write, in the order in which they came."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._tables: dict[Table, dict[Write, dict[Hashable, Sequence[Any]]]] = {}

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._tables)

    def collides(self, write: Write, rows: Rows) -> bool:
        """Whether another write to one of the keys waits."""
        waiting = self._tables.get(write.table)
        if waiting is None or (len(waiting) == 1 and write in waiting):
            return False
        key_of = _key_of(write)
        if key_of is None:
            return False
        keys = set(map(key_of, rows))
        return any(not keys.isdisjoint(others) for other, others in waiting.items() if other is not write)

    def add(self, write: Write, rows: Rows) -> None:
        """Let rows wait; one with the key of an earlier one of the same write takes its place."""
        waiting = self._tables.setdefault(write.table, {}).setdefault(write, {})
        key_of = _key_of(write)
        if key_of is None:
            for row in rows:
                waiting[object()] = row
        else:
            for row in rows:
                waiting[key_of(row)] = row

    def take(self, among: Collection[Table] | None = None) -> list[tuple[Write, Rows]]:
        """Let nothing wait any more for these tables, or for any; returns what did."""
        found = list(self._tables) if among is None else [table for table in self._tables if table in among]
        # What is deleted goes first: what is `a` here and `A` there may be one key to MySQL.
        return [
            (write, list(rows.values()))
            for table in found
            for write, rows in sorted(self._tables.pop(table).items(), key=lambda each: not isinstance(each[0], Delete))
            if rows
        ]

    def clear(self) -> None:
        """Drop what waits."""
        self._tables.clear()
