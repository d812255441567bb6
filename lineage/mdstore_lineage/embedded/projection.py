"""Writes commits of the store into the graph's tables, all of one call in one transaction with the checkpoint.

So the graph is at every moment exactly what the store was at one position, whatever is killed when. Nodes and links
come once, and go when their node is deleted; of what can change, the graph keeps whether an execution hands on what
others made, as a cache hit does.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from mdstore.errors import FailedPrecondition
from mdstore.values import EventType
from mdstore.vocabulary import HANDING_ON
from mdstore.wire import changes, mlmd
from mdstore_lineage.embedded import schema
from mdstore_lineage.embedded.keys import edge_key

COMPACTION: Final = "compaction"
"""The origin of commits that stand for older ones."""

_EVENT_TYPES: Final = {kind.value: kind for kind in EventType}


class Checkpoint(NamedTuple):
    """Where the graph is."""

    store_id: str | None
    position: int
    hash: bytes
    until: int
    """While the position is below, the graph is being rebuilt."""


def apply(connection: sqlite3.Connection, commits: Sequence[changes.Commit], *, store_id: str) -> None:
    """Add the commits behind the graph's position, as `LineageGraph.apply` says."""
    with schema.writing(connection):
        known, position, _, _ = checkpoint(connection)
        if known is not None and known != store_id:
            raise FailedPrecondition(f"the graph holds the store {known}, not {store_id}; clear it first")
        new = [commit for commit in commits if commit.seq > position]
        if not new:
            return
        # A log that was compacted begins later, with what its first commits had led to.
        first = new[0].seq if position == 0 and new[0].origin == COMPACTION else position + 1
        for expected, commit in enumerate(new, start=first):
            if commit.seq != expected:
                raise FailedPrecondition(f"commit {commit.seq} came, but the graph is waiting for commit {expected}")
        _insert(connection, new)
        connection.execute(
            "UPDATE checkpoint SET store_id = ?, position = ?, hash = ?", (store_id, new[-1].seq, new[-1].hash)
        )


def clear(connection: sqlite3.Connection, *, until: int) -> None:
    """Empty the graph, as `LineageGraph.clear` says."""
    with schema.writing(connection):
        for table in ("edge", "member", "parent", "node", "context", "type"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own
        connection.execute("UPDATE checkpoint SET store_id = NULL, position = 0, hash = x'', until = ?", (until,))


def checkpoint(connection: sqlite3.Connection) -> Checkpoint:
    """Where the graph is now."""
    return Checkpoint(*connection.execute("SELECT store_id, position, hash, until FROM checkpoint").fetchone())


def _insert(connection: sqlite3.Connection, commits: Sequence[changes.Commit]) -> None:
    connection.executemany("INSERT OR IGNORE INTO type VALUES (?, ?, ?)", _types(commits))
    # Of a node that is there, only this can change; the schema's triggers see when it does.
    connection.executemany(
        "INSERT INTO node VALUES (?, ?, ?, ?, 0) "
        "ON CONFLICT (key) DO UPDATE SET hands_on = excluded.hands_on WHERE hands_on <> excluded.hands_on",
        _nodes(commits, _handing_on(connection)),
    )
    connection.executemany(
        "INSERT OR IGNORE INTO context VALUES (?, ?, ?)",
        ((context.id, context.type_id, commit.seq) for commit in commits for context in commit.changes.contexts),
    )
    # MLMD's database may hold events of nodes that do not exist. They would lead walks to nodes that nobody can show.
    # Nodes that come later in the same batch do not count, so that the graph does not depend on where batches end.
    connection.executemany(
        "INSERT OR IGNORE INTO edge SELECT ?1, ?2, ?3, ?4, ?5, ?6 "
        "WHERE EXISTS (SELECT 1 FROM node WHERE key = ?1 AND since <= ?6) "
        "AND EXISTS (SELECT 1 FROM node WHERE key = ?2 AND since <= ?6)",
        _edges(commits),
    )
    connection.executemany("INSERT OR IGNORE INTO member VALUES (?, ?, ?)", _members(commits))
    connection.executemany(
        "INSERT OR IGNORE INTO parent VALUES (?, ?, ?)",
        ((link.child_id, link.parent_id, commit.seq) for commit in commits for link in commit.changes.parent_contexts),
    )
    # A node that is gone never comes back and nothing is linked to it any more, so this may wait until all is there.
    gone_nodes = [
        (deletion.id * 2 + is_execution,)
        for commit in commits
        for is_execution, deletions in enumerate((commit.changes.deleted_artifacts, commit.changes.deleted_executions))
        for deletion in deletions
    ]
    gone_contexts = [(deletion.id,) for commit in commits for deletion in commit.changes.deleted_contexts]
    for statement in _DELETE_NODE:
        connection.executemany(statement, gone_nodes)
    for statement in _DELETE_CONTEXT:
        connection.executemany(statement, gone_contexts)


# Edges before nodes: whether an edge that goes had counted is looked up in its nodes.
_DELETE_NODE: Final = (
    "DELETE FROM edge WHERE target = ?",
    "DELETE FROM edge WHERE source = ?",
    "DELETE FROM member WHERE node = ?",
    "DELETE FROM node WHERE key = ?",
)
_DELETE_CONTEXT: Final = (
    "DELETE FROM member WHERE context = ?",
    "DELETE FROM parent WHERE child = ?",
    "DELETE FROM parent WHERE parent = ?",
    "DELETE FROM context WHERE id = ?",
)


def _types(commits: Sequence[changes.Commit]) -> Iterator[tuple[int, str, str]]:
    for commit in commits:
        change = commit.changes
        by_kind: tuple[tuple[str, Iterable[mlmd.ArtifactType | mlmd.ExecutionType | mlmd.ContextType]], ...] = (
            ("artifact", change.artifact_types),
            ("execution", change.execution_types),
            ("context", change.context_types),
        )
        for kind, types in by_kind:
            for type_ in types:
                yield type_.id, kind, type_.name


def _handing_on(connection: sqlite3.Connection) -> frozenset[int]:
    """The ids of execution types that output what others made."""
    rows = connection.execute("SELECT id, name FROM type WHERE kind = 'execution'")
    return frozenset(type_id for type_id, name in rows if name in HANDING_ON)


def _nodes(commits: Sequence[changes.Commit], handing_on: Collection[int]) -> Iterator[tuple[int, int, int, bool]]:
    for commit in commits:
        for artifact in commit.changes.artifacts:
            yield artifact.id * 2, artifact.type_id, commit.seq, False
        for execution in commit.changes.executions:
            hands_on = execution.last_known_state == mlmd.Execution.CACHED or execution.type_id in handing_on
            yield execution.id * 2 + 1, execution.type_id, commit.seq, hands_on


def _edges(commits: Sequence[changes.Commit]) -> Iterator[tuple[int, int, int, str | None, int, int]]:
    for commit in commits:
        for event in commit.changes.events:
            kind = _EVENT_TYPES.get(event.type, EventType.UNKNOWN)
            if kind is EventType.UNKNOWN:
                continue  # it has no direction
            target, source = edge_key(event.artifact_id, event.execution_id, kind)
            name = None
            for step in event.path.steps:
                if step.HasField("key"):
                    name = step.key
            yield target, source, kind.value, name, event.milliseconds_since_epoch, commit.seq


def _members(commits: Sequence[changes.Commit]) -> Iterator[tuple[int, int, int]]:
    for commit in commits:
        for attribution in commit.changes.attributions:
            yield attribution.artifact_id * 2, attribution.context_id, commit.seq
        for association in commit.changes.associations:
            yield association.execution_id * 2 + 1, association.context_id, commit.seq
