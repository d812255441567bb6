"""What a transaction knows without asking: what it read ahead for all of its requests, and keeps true as it writes."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from mdstore.store.kinds import KINDS, Kind


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a write needs to know of a type."""

    id: int
    type_kind: int
    name: str
    properties: dict[str, int]
    """Name -> number of `PropertyType`."""


def _by_kind() -> dict[Kind, dict[int, Any]]:
    return {kind: {} for kind in KINDS}


@dataclass(slots=True)
class Known:
    """Empty means not known, not absent. Who writes nodes keeps it true, or forgets it."""

    types: dict[int, Declaration] = field(default_factory=dict)
    """By id."""
    contexts: dict[tuple[int, str], int | None] = field(default_factory=dict)
    """(type id, name) -> id of the context, or None where there is none."""
    nodes: dict[Kind, dict[int, Any]] = field(default_factory=_by_kind)
    """Id -> the node as it is stored. The messages are not to be changed."""
    existing: dict[Kind, set[int]] = field(default_factory=lambda: {kind: set() for kind in KINDS})
    """Ids of nodes that are there."""
    contexts_of: dict[Kind, dict[int, set[int]]] = field(default_factory=_by_kind)
    """Id of an artifact or execution -> ids of its contexts."""
    is_changed: bool = False
    """The running operation has written something that was known."""

    def stored(self, kind: Kind, ids: Collection[int]) -> dict[int, Any]:
        """Those of the nodes that are known, by id."""
        nodes = self.nodes[kind]
        return {node_id: nodes[node_id] for node_id in ids if node_id in nodes} if nodes else {}

    def has_created(self, type_id: int, name: str, context_id: int) -> None:
        """A context is new."""
        if (type_id, name) in self.contexts:
            self.contexts[type_id, name] = context_id
            self.is_changed = True

    def has_updated(self, kind: Kind, node: Any) -> None:
        """A node that was there is this now."""
        if node.id in self.nodes[kind]:
            self.nodes[kind][node.id] = node
            self.is_changed = True

    def has_renamed(self, type_id: int, *names: str) -> None:
        """Contexts of these names may have come or gone."""
        for name in names:
            if self.contexts.pop((type_id, name), 0) != 0:
                self.is_changed = True

    def has_joined(self, kind: Kind, node_id: int, context_id: int) -> None:
        """An artifact or execution is in a context now."""
        if node_id in self.contexts_of[kind]:
            self.contexts_of[kind][node_id].add(context_id)
            self.is_changed = True
