"""Breadth-first walks over the edge table, one statement a hop, and the edges inside an answer.

Ids go to SQLite as one JSON array a hop (`json_each(?)`), so the SQL is constant and a hop of 10,000 nodes is one
statement. Rows are read in chunks: a walk that comes to an artifact with a million consumers stops as soon as its limit
is reached, not after reading a million rows. All of a walk belongs into one read transaction.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from mdstore_lineage.embedded.keys import EdgeRow, in_order
from mdstore_lineage.graph import Cut, Direction

CHUNK: Final = 1024

# CROSS JOIN: for each id look its edges up, and never read the edge table and look ids up in the array.
_EDGES_INTO: Final = """
    SELECT edge.target, edge.source, edge.type, edge.name, edge.at_ms
    FROM json_each(?) AS id CROSS JOIN edge ON edge.target = id.value"""
_EDGES_OUT_OF: Final = """
    SELECT edge.target, edge.source, edge.type, edge.name, edge.at_ms
    FROM json_each(?) AS id CROSS JOIN edge ON edge.source = id.value"""
_SOURCES: Final = "SELECT edge.source FROM json_each(?1) AS id CROSS JOIN edge ON edge.target = id.value"
_TARGETS: Final = "SELECT edge.target FROM json_each(?1) AS id CROSS JOIN edge ON edge.source = id.value"
# Not what an execution handed on and another one has made. Two lookups by key and a counter: an artifact that came
# out of a cache ten thousand times is decided edge by edge without looking at the others.
_COUNTS: Final = """
    (edge.source & 1 = 0
    OR NOT (SELECT hands_on FROM node WHERE key = edge.source)
    OR NOT (SELECT makers FROM node WHERE key = edge.target))"""
_EDGES_THAT_COUNT_INTO: Final = f"{_EDGES_INTO} WHERE {_COUNTS}"
_NEXT: Final[Mapping[Direction, str]] = {
    # Whole edges, since they lie where their sources are read; downstream it would be one more look for each.
    Direction.UPSTREAM: _EDGES_THAT_COUNT_INTO,
    Direction.DOWNSTREAM: f"{_TARGETS} WHERE {_COUNTS}",
    Direction.BOTH: f"{_SOURCES} UNION ALL {_TARGETS}",
}
_KNOWN: Final = "SELECT node.key FROM json_each(?) AS id CROSS JOIN node ON node.key = id.value"
_TYPE_IDS: Final = "SELECT id FROM type WHERE kind = ? AND name IN (SELECT value FROM json_each(?))"
_OF_TYPES: Final = """
    SELECT node.key FROM json_each(?) AS id CROSS JOIN node ON node.key = id.value
    WHERE node.type_id IN (SELECT value FROM json_each(?))"""


def json_array(values: Iterable[int]) -> str:
    """Integers as JSON, for `json_each(?)`."""
    return f"[{','.join(map(str, values))}]"


def json_texts(values: Iterable[str]) -> str:
    """Texts as JSON, for `json_each(?)`."""
    return json.dumps(list(values))


def known(connection: sqlite3.Connection, keys: Collection[int]) -> list[int]:
    """Those of the keys that are nodes of the graph, each once, by kind and id."""
    return in_order({key for (key,) in connection.execute(_KNOWN, (json_array(keys),))})


def _edges_within(connection: sqlite3.Connection, keys: Collection[int], direction: Direction) -> list[EdgeRow]:
    """All edges with both ends in `keys` that a walk in this direction may use."""
    inside = keys if isinstance(keys, set | frozenset | dict) else set(keys)
    sql = _EDGES_INTO if direction is Direction.BOTH else _EDGES_THAT_COUNT_INTO
    rows = connection.execute(sql, (json_array(keys),))
    return [row for row in rows if row[1] in inside]


def edges_of(connection: sqlite3.Connection, keys: Collection[int], direction: Direction) -> list[tuple[int, EdgeRow]]:
    """All edges one hop away from each key: `(key, edge)`."""
    ids = (json_array(keys),)
    found: list[tuple[int, EdgeRow]] = []
    if direction is not Direction.DOWNSTREAM:
        found += [(row[0], row) for row in connection.execute(_EDGES_INTO, ids)]
    if direction is not Direction.UPSTREAM:
        found += [(row[1], row) for row in connection.execute(_EDGES_OUT_OF, ids)]
    return found


@dataclass(frozen=True, slots=True)
class Filter:
    """Which nodes an answer shows."""

    restricts_artifacts: bool
    restricts_executions: bool
    type_ids: Sequence[int]
    """Of artifacts and executions together: no two types of a store share an id."""

    @classmethod
    def by_names(
        cls, connection: sqlite3.Connection, artifact_types: Collection[str], execution_types: Collection[str]
    ) -> Self | None:
        """The filter for types of these names, all versions; None when it would show everything."""
        if not artifact_types and not execution_types:
            return None
        asked = (("artifact", artifact_types), ("execution", execution_types))
        type_ids = [
            found for kind, names in asked for (found,) in connection.execute(_TYPE_IDS, (kind, json_texts(names)))
        ]
        return cls(bool(artifact_types), bool(execution_types), type_ids)

    def shown(self, connection: sqlite3.Connection, keys: Sequence[int]) -> list[int]:
        """Those of the keys that the answer shows, in the same order."""
        asked = [key for key in keys if (self.restricts_executions if key & 1 else self.restricts_artifacts)]
        right = connection.execute(_OF_TYPES, (json_array(asked), json_array(self.type_ids)))
        hidden = set(asked).difference(key for (key,) in right)
        return [key for key in keys if key not in hidden]


class Walk:
    """A walk that goes on hop by hop until it is finished: everything is reached, or it was cut."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        start: Sequence[int],
        direction: Direction,
        *,
        most_hops: int | None,
        most_nodes: int,
        deadline: float,
        only: Filter | None = None,
    ) -> None:
        """Stand at `start`.

        Args:
            connection: in a read transaction.
            start: known keys, by kind and id.
            direction: which way to go.
            most_hops: None for any number.
            most_nodes: how many nodes may be shown, those at the start included.
            deadline: by `time.monotonic()`.
            only: which nodes to show; those at the start are shown always.
        """
        self._connection = connection
        self.direction = direction
        self._sql = _NEXT[direction]
        self._read: list[EdgeRow] | None = [] if direction is Direction.UPSTREAM and only is None else None
        self._far = 1 if direction is Direction.UPSTREAM else 0
        self._most_hops = most_hops
        self._most_nodes = most_nodes
        self._deadline = deadline
        self._only = only
        self.shown: list[int] = list(start[:most_nodes])
        """What the answer shows, in breadth-first order."""
        self.hops: dict[int, int] = dict.fromkeys(self.shown, 0)
        """Distance from the nearest start of all that was reached, shown or not."""
        self.frontier: Sequence[int] = self.shown[:]
        """What the last hop came to."""
        self.hop = 0
        self.cut: Cut | None = Cut.NODES if len(start) > most_nodes else None

    @property
    def is_finished(self) -> bool:
        """There is no further hop to go."""
        return self.cut is not None or not self.frontier

    def finish(self) -> None:
        """Go on to the end."""
        while not self.is_finished:
            self.advance()

    def edges(self) -> list[EdgeRow]:
        """All edges between two nodes that the answer shows, as far as this walk may use them."""
        if self._read is not None and self.cut is None:
            return self._read  # an edge into a node that was reached leads to another that was
        return _edges_within(self._connection, self.shown, self.direction)

    def advance(self) -> None:
        """Go one hop, in whole or until a limit cuts it."""
        found: list[int] = []
        shown: list[int] = []
        self.hop += 1
        far = self._far
        rows = self._connection.execute(self._sql, (json_array(self.frontier),))
        try:
            while chunk := rows.fetchmany(CHUNK):
                if time.monotonic() >= self._deadline:
                    self.cut = Cut.TIME
                    break
                if self._read is not None:
                    self._read += chunk
                fresh = in_order({row[far] for row in chunk if row[far] not in self.hops})
                if not fresh:
                    continue
                if self._most_hops is not None and self.hop > self._most_hops:
                    self.cut = Cut.HOPS
                    break
                visible = fresh if self._only is None else self._only.shown(self._connection, fresh)
                room = self._most_nodes - len(self.shown) - len(shown)
                if len(visible) > room:
                    self.cut = Cut.NODES
                    visible = fresh = visible[:room]
                self.hops.update(dict.fromkeys(fresh, self.hop))
                found += fresh
                shown += visible
                if self.cut is not None:
                    break
        finally:
            rows.close()
        self.frontier = in_order(found)
        self.shown += self.frontier if self._only is None else in_order(shown)
