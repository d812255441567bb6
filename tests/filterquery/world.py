"""A small store as plain values, and the same store as rows of a database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdstore.store import tables
from mdstore.store.filterquery.columns import Relation
from mdstore.store.filterquery.expressions import Row
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from mdstore.store.sql import Insert
from mdstore.store.transaction import Transaction

Fields = Mapping[str, Any]
FIRST_TYPE = 100
"""Ids below are MLMD's own types."""


@dataclass(kw_only=True)
class Node:
    """One node: its columns, `type` included, and (custom, name) -> (column, value) of its properties."""

    fields: dict[str, Any]
    properties: dict[tuple[bool, str], tuple[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class World:
    """What is in a store."""

    types: dict[Kind, Sequence[str]]
    nodes: dict[Kind, dict[int, Node]]
    attributions: set[tuple[int, int]] = field(default_factory=set)
    """(context, artifact)"""
    associations: set[tuple[int, int]] = field(default_factory=set)
    """(context, execution)"""
    parents: set[tuple[int, int]] = field(default_factory=set)
    """(child, parent)"""
    events: set[tuple[int, int, int, int]] = field(default_factory=set)
    """(artifact, execution, type, milliseconds)"""

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """What hypothesis shows of a failing example."""
        for kind in KINDS:
            for node in self.nodes[kind].values():
                printer.text(f"{kind.label} {node.fields} {node.properties}\n")
        printer.text(f"{self.attributions=} {self.associations=} {self.parents=} {self.events=}")

    def type_id(self, kind: Kind, name: str) -> int:
        return FIRST_TYPE * (1 + KINDS.index(kind)) + self.types[kind].index(name)

    def rows(self, kind: Kind, node_id: int, row: Row) -> Iterator[Fields]:
        """The rows of a property or neighbour of a node."""
        match row.relation:
            case Relation.PROPERTY | Relation.CUSTOM_PROPERTY:
                found = self.nodes[kind][node_id].properties.get((row.relation is Relation.CUSTOM_PROPERTY, row.key))
                if found is not None:
                    yield {found[0]: found[1]}
            case Relation.EVENT:
                for artifact, execution, type_, at in self.events:
                    if node_id == (artifact if kind is ARTIFACT else execution):
                        yield {
                            "artifact_id": artifact,
                            "execution_id": execution,
                            "type": type_,
                            "milliseconds_since_epoch": at,
                        }
            case Relation.CONTEXT:
                links = self.attributions if kind is ARTIFACT else self.associations
                yield from self._fields(CONTEXT, (context for context, member in links if member == node_id))
            case Relation.ARTIFACT:
                yield from self._fields(
                    ARTIFACT, (member for context, member in self.attributions if context == node_id)
                )
            case Relation.EXECUTION:
                yield from self._fields(
                    EXECUTION, (member for context, member in self.associations if context == node_id)
                )
            case Relation.PARENT:
                yield from self._fields(CONTEXT, (parent for child, parent in self.parents if child == node_id))
            case Relation.CHILD:
                yield from self._fields(CONTEXT, (child for child, parent in self.parents if parent == node_id))

    def _fields(self, kind: Kind, ids: Iterator[int]) -> Iterator[Fields]:
        for node_id in ids:
            yield self.nodes[kind][node_id].fields

    def members(self, kind: Kind, context: int) -> list[int]:
        """The artifacts or executions in a context."""
        links = self.attributions if kind is ARTIFACT else self.associations
        return sorted(member for inside, member in links if inside == context)

    def write(self, tx: Transaction) -> None:
        """Put all of it into an empty database."""
        for kind in KINDS:
            _insert(
                tx,
                tables.TYPE,
                [
                    {"id": self.type_id(kind, name), "name": name, "type_kind": kind.type_kind}
                    for name in self.types[kind]
                ],
            )
            nodes = self.nodes[kind]
            stored = [column.name for column in kind.table.c]
            _insert(tx, kind.table, [{name: node.fields.get(name) for name in stored} for node in nodes.values()])
            _insert(
                tx,
                kind.property_table,
                [
                    {
                        kind.owner: node_id,
                        "name": name,
                        "is_custom_property": custom,
                        **dict.fromkeys(("int_value", "double_value", "string_value", "bool_value")),
                        column: value,
                    }
                    for node_id, node in nodes.items()
                    for (custom, name), (column, value) in node.properties.items()
                ],
            )
        _insert(tx, tables.ATTRIBUTION, [{"context_id": c, "artifact_id": a} for c, a in self.attributions])
        _insert(tx, tables.ASSOCIATION, [{"context_id": c, "execution_id": e} for c, e in self.associations])
        _insert(tx, tables.PARENT_CONTEXT, [{"context_id": c, "parent_context_id": p} for c, p in self.parents])
        _insert(
            tx,
            tables.EVENT,
            [
                {"artifact_id": a, "execution_id": e, "type": type_, "milliseconds_since_epoch": at}
                for a, e, type_, at in self.events
            ],
        )


def _insert(tx: Transaction, table: Any, rows: Sequence[Fields]) -> None:
    if rows:
        names = list(rows[0])
        tx.many(Insert(table, tuple(names)), [[row[name] for name in names] for row in rows])
