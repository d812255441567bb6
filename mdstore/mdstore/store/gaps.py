"""Ids that were skipped, and whose rows may still come.

PostgreSQL and MySQL hand out ids before a transaction commits, so a row of somebody else may appear below ids that we
have seen already. Ids that are missing between those seen are therefore looked for again for a while; most of them
belong to transactions that were rolled back, and never come. SQLite has one writer at a time and needs none of this.
"""

from collections.abc import Collection, Mapping
from functools import cache
from time import monotonic
from typing import Final

from sqlalchemy import Table, bindparam, select

from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction

WAIT_S: Final = 60.0
"""How long a transaction of somebody else may take."""
MOST: Final = 10_000
"""Ids below the newest that are looked through, and gaps that are remembered, of each table."""


@cache
def _between(table: Table) -> Statement:
    column = table.c.id
    return Statement(lambda: select(column).where(column > bindparam("after"), column <= bindparam("last")))


@cache
def _there(table: Table) -> Statement:
    return Statement(lambda: select(table.c.id).where(OneOf(table.c.id, "ids")))


class Gaps:
    """The gaps of some tables. Threads: belongs to the writer's."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        """Know no gaps of these tables."""
        self._tables = tables
        self.names = tuple(tables)
        self._until: dict[str, dict[int, float]] = {name: {} for name in tables}
        self._filled: dict[str, dict[int, float]] = {name: {} for name in tables}
        """What the last sweep found, which is not in the log if it is rolled back."""

    def begin(self) -> None:
        """A sweep begins: what the last one found is in the log."""
        for found in self._filled.values():
            found.clear()

    def forget(self) -> None:
        """The last sweep was rolled back: what it found is a gap still."""
        for name, found in self._filled.items():
            self._until[name].update(found)
            found.clear()

    def filled(self, tx: Transaction) -> dict[str, list[int]]:
        """The ids of each table that were missing and are there now; they are no gaps any more, but for `forget`."""
        found: dict[str, list[int]] = {}
        now = monotonic()
        for name, table in self._tables.items():
            until = self._until[name]
            found[name] = sorted(row[0] for row in tx.rows(_there(table), ids=values(until))) if until else []
            self._filled[name].update((node_id, until.pop(node_id)) for node_id in found[name])
            for node_id in [node_id for node_id, end in until.items() if end < now]:
                del until[node_id]
        return found

    def look(self, tx: Transaction, name: str, after: int, last: int) -> None:
        """Remember what is missing between two ids of a table."""
        after = max(after, last - MOST)
        if after >= last:
            return
        there: Collection[int] = {row[0] for row in tx.rows(_between(self._tables[name]), after=after, last=last)}
        until = self._until[name]
        end = monotonic() + WAIT_S
        until.update((node_id, end) for node_id in range(after + 1, last + 1) if node_id not in there)
        while len(until) > MOST:
            del until[next(iter(until))]
