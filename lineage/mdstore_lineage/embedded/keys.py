"""Artifacts and executions as one kind of integer, so that one table holds the edges of both and a walk needs no join.

A key is twice the id, and one more for an execution: keys stay small in the file, and no id of one kind is mistaken for
one of the other, not even an id below 1 that somebody asks for.
"""

from collections.abc import Iterable
from typing import Final

from mdstore.values import ArtifactId, EventType, ExecutionId
from mdstore_lineage.graph import ArtifactNode, Edge, ExecutionNode, Node

_EVENT_TYPES: Final = {kind.value: kind for kind in EventType}

EdgeRow = tuple[int, int, int, str | None, int]
"""`(target, source, type, name, at_ms)`: keys, in the direction of data."""


def key_of(node: Node) -> int:
    """The key of a node."""
    return node.id * 2 if isinstance(node, ArtifactNode) else node.id * 2 + 1


def node_of(key: int) -> Node:
    """The node of a key."""
    return ExecutionNode(ExecutionId(key >> 1)) if key & 1 else ArtifactNode(ArtifactId(key >> 1))


def nodes_of(keys: Iterable[int]) -> list[Node]:
    """The nodes of the keys, in the same order."""
    # `node_of` spelled out: a call for each of them takes a third of the time.
    return [ExecutionNode(ExecutionId(key >> 1)) if key & 1 else ArtifactNode(ArtifactId(key >> 1)) for key in keys]


def in_order(keys: Iterable[int]) -> list[int]:
    """Keys by kind, artifacts first, and id."""
    ordered = sorted(keys)
    ordered.sort(key=(1).__and__)  # the sort is stable, and a bound method of int is no call of Python code
    return ordered


def edge_key(artifact: int, execution: int, kind: EventType) -> tuple[int, int]:
    """`(target, source)` of an event between an artifact's and an execution's id."""
    if kind.is_output:
        return artifact * 2, execution * 2 + 1
    return execution * 2 + 1, artifact * 2


def edges_of(rows: Iterable[EdgeRow]) -> list[Edge]:
    """Edges by artifact, execution and type."""
    found = [
        (source >> 1, target >> 1, kind, name, at_ms) if target & 1 else (target >> 1, source >> 1, kind, name, at_ms)
        for target, source, kind, name, at_ms in rows
    ]
    # An edge is unique by its first three fields, so names (which may be None) are never compared.
    found.sort()
    return [
        Edge(ArtifactId(artifact), ExecutionId(execution), _EVENT_TYPES[kind], name, at_ms)
        for artifact, execution, kind, name, at_ms in found
    ]
