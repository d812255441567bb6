"""`LineageGraph` in one SQLite file: one process writes, any number of processes read, and nobody waits for readers."""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from mdstore.errors import FailedPrecondition, Unavailable
from mdstore.values import ContextId
from mdstore.vocabulary import ContextRole, ContextRoles
from mdstore.wire import changes
from mdstore_lineage.embedded import keys, projection, schema
from mdstore_lineage.embedded.claim import claimed
from mdstore_lineage.embedded.later import Distances, Later, nodes_later
from mdstore_lineage.embedded.paths import shortest_paths, successors_of
from mdstore_lineage.embedded.walk import Filter, Walk, edges_of, json_array, json_texts, known
from mdstore_lineage.graph import Closure, Cut, Direction, Edge, Limits, Node, Paths

_RUNS: Final = """
    SELECT member.node, member.context
    FROM json_each(?) AS id
    CROSS JOIN member ON member.node = id.value
    CROSS JOIN context ON context.id = member.context
    WHERE context.type_id IN (SELECT id FROM type WHERE kind = 'context' AND name IN (SELECT value FROM json_each(?)))
    ORDER BY member.node, member.context"""


class EmbeddedGraph:
    """A lineage graph in a file. See `LineageGraph`, which it is.

    Threads: any number; each call has a connection of its own while it runs, and connections are used again.
    """

    def __init__(self, path: Path, roles: ContextRoles) -> None:
        """Open the graph in `path`, which is made when there is none.

        Raises:
            Unavailable: the file or its folder cannot be opened.
            PermissionDenied: it cannot be written to.
            FailedPrecondition: it is no lineage graph, or one of a newer format.
        """
        self._path = path
        self._run_types = json_texts(roles.types(ContextRole.RUN))
        self._idle: deque[sqlite3.Connection] = deque([schema.connect(path)])
        self._lock = threading.Lock()
        self._closed = threading.Event()

    @property
    def position(self) -> int:
        """The last commit that was applied; 0 when empty."""
        return self._checkpoint().position

    @property
    def store_id(self) -> str | None:
        """Which store was projected; None when empty."""
        return self._checkpoint().store_id

    @property
    def position_hash(self) -> bytes:
        """The hash of the commit at the position; empty when the graph is."""
        return self._checkpoint().hash

    @property
    def until(self) -> int:
        """See `LineageGraph`."""
        return self._checkpoint().until

    def claim(self) -> AbstractContextManager[None]:
        """See `LineageGraph`."""
        return claimed(self._path)

    def apply(self, commits: Sequence[changes.Commit], *, store_id: str) -> None:
        """See `LineageGraph`."""
        with self._connection() as connection:
            projection.apply(connection, commits, store_id=store_id)

    def clear(self, *, until: int = 0) -> None:
        """See `LineageGraph`."""
        with self._connection() as connection:
            projection.clear(connection, until=until)

    def neighbours(self, nodes: Collection[Node], direction: Direction) -> Mapping[Node, Sequence[Edge]]:
        """See `LineageGraph`."""
        with self._reading() as (connection, _):
            found = edges_of(connection, {keys.key_of(node) for node in nodes}, direction)
        rows: dict[int, list[keys.EdgeRow]] = {}
        for key, row in found:
            rows.setdefault(key, []).append(row)
        return {keys.node_of(key): keys.edges_of(rows[key]) for key in keys.in_order(rows)}

    def closure(
        self,
        start: Collection[Node],
        direction: Direction,
        *,
        limits: Limits,
        artifact_types: Collection[str] = (),
        execution_types: Collection[str] = (),
    ) -> Closure:
        """See `LineageGraph`."""
        deadline = time.monotonic() + limits.seconds
        with self._reading() as (connection, position):
            walk = Walk(
                connection,
                known(connection, [keys.key_of(node) for node in start]),
                direction,
                most_hops=limits.hops,
                most_nodes=limits.nodes,
                deadline=deadline,
                only=Filter.by_names(connection, artifact_types, execution_types),
            )
            walk.finish()
            rows = walk.edges()
        nodes = nodes_later(walk.shown)
        hops = walk.hops if len(walk.hops) == len(walk.shown) else {key: walk.hops[key] for key in walk.shown}
        return Closure(
            nodes=nodes,
            hops=Distances(nodes, hops),
            edges=Later(len(rows), lambda: keys.edges_of(rows)),
            cuts=frozenset() if walk.cut is None else frozenset({walk.cut}),
            position=position,
        )

    def paths(self, start: Node, end: Node, *, limits: Limits, most: int = 10) -> Paths:
        """See `LineageGraph`."""
        deadline = time.monotonic() + limits.seconds
        first, last = keys.key_of(start), keys.key_of(end)
        with self._reading() as (connection, position):
            if len(known(connection, {first, last})) < len({first, last}):
                return Paths(paths=[], cuts=frozenset(), position=position)
            walk = _smaller_side(connection, first, last, limits, deadline)
            rows = walk.edges()
        cuts = set() if walk.cut is None else {walk.cut}
        if walk.direction is Direction.UPSTREAM:
            steps = successors_of((source, target) for target, source, *_ in rows)
            found, more = shortest_paths(
                steps, walk.hops, first, last, most=most, most_hops=limits.hops, deadline=deadline
            )
        else:
            steps = successors_of((target, source) for target, source, *_ in rows)
            found, more = shortest_paths(
                steps, walk.hops, last, first, most=most, most_hops=limits.hops, deadline=deadline
            )
            found = [path[::-1] for path in found]
        paths = [[keys.node_of(key) for key in path] for path in found]
        return Paths(paths=paths, cuts=frozenset(cuts | more), position=position)

    def runs_of(self, nodes: Collection[Node]) -> Mapping[Node, Sequence[ContextId]]:
        """See `LineageGraph`."""
        runs: dict[Node, list[ContextId]] = {}
        with self._reading() as (connection, _):
            asked = json_array({keys.key_of(node) for node in nodes})
            for key, context in connection.execute(_RUNS, (asked, self._run_types)):
                runs.setdefault(keys.node_of(key), []).append(ContextId(context))
        return runs

    def close(self) -> None:
        """See `LineageGraph`; a call that is still running ends in order."""
        with self._lock:
            self._closed.set()
            idle = list(self._idle)
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _checkpoint(self) -> projection.Checkpoint:
        with self._connection() as connection:
            return projection.checkpoint(connection)

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A read transaction, and the position at which it sees the graph."""
        with self._connection() as connection, schema.reading(connection):
            _, position, _, until = projection.checkpoint(connection)
            if position < until:
                raise Unavailable(
                    f"the lineage graph {self._path} is being rebuilt from the store and is at commit {position} of "
                    f"{until}: ask again later, and if it does not go on, see whether `mdstore lineage follow` runs"
                )
            yield connection, position

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._closed.is_set():
                raise FailedPrecondition(f"the lineage graph {self._path} is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = schema.connect(self._path)
        try:
            with schema.translated(self._path):
                yield connection
        finally:
            with self._lock:
                if self._closed.is_set():
                    connection.close()
                else:
                    self._idle.append(connection)


def _smaller_side(connection: sqlite3.Connection, start: int, end: int, limits: Limits, deadline: float) -> Walk:
    """What leads to `end`, or what `start` leads to: whichever is read completely first.

    All paths lie inside either, so the cheaper one is enough: a raw table has a million descendants, and a model a
    hundred ancestors.
    """
    upstream, downstream = (
        Walk(connection, [key], way, most_hops=limits.hops, most_nodes=limits.nodes, deadline=deadline)
        for key, way in ((end, Direction.UPSTREAM), (start, Direction.DOWNSTREAM))
    )
    going = [upstream, downstream]
    while going:
        walk = min(going, key=lambda walk: len(walk.frontier))
        walk.advance()
        if walk.is_finished:
            if walk.cut is None:
                return walk
            going.remove(walk)
    # Cut by hops, a side still holds all paths of so many hops; cut otherwise, some.
    return downstream if downstream.cut is Cut.HOPS and upstream.cut is not Cut.HOPS else upstream
