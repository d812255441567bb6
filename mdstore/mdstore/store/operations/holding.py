"""Holds: reasons why a node must stay, each with a name of its own."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from sqlalchemy import bindparam, select

from mdstore.errors import InvalidArgument
from mdstore.store import change_log
from mdstore.store.kinds import Kind
from mdstore.store.operations import references
from mdstore.store.properties import check_text
from mdstore.store.sql import Delete, Insert, OneOf, Statement, values
from mdstore.store.tables import HOLD, as_text
from mdstore.store.transaction import Row, Transaction
from mdstore.wire import changes, nodes

NAME: Final = "hold"
NAME_CHARACTERS: Final = 255

_H = HOLD.c
_COLUMNS: Final = tuple(HOLD.columns)
_OF: Final = Statement(
    lambda: (
        select(*_COLUMNS)
        .where(_H.kind == bindparam("with_kind"), OneOf(_H.id, "ids"))
        .order_by(_H.kind, _H.id, _H.name)
    )
)
_ALL: Final = Statement(lambda: select(*_COLUMNS).order_by(_H.kind, _H.id, _H.name))
_INSERT: Final = Insert(HOLD, tuple(column.name for column in _COLUMNS))
_DELETE: Final = Delete(HOLD, ("kind", "id", "name"))


def _message(row: Row) -> changes.Hold:
    kind, node_id, name, time_ms, actor, reason = row
    return changes.Hold(kind=kind, id=node_id, name=as_text(name), time_ms=time_ms, actor=actor, reason=reason)


def of(tx: Transaction, kind: Kind, ids: Collection[int]) -> list[changes.Hold]:
    """The holds of these nodes, by id and name."""
    return [_message(row) for row in tx.rows(_OF, with_kind=kind.type_kind, ids=values(set(ids)))] if ids else []


def _by_kind(tx: Transaction, refs: Sequence[nodes.NodeRef]) -> Mapping[Kind, list[int]]:
    if not refs:
        raise InvalidArgument("the request names no nodes")
    found: dict[Kind, list[int]] = {}
    for ref, node_id in zip(refs, references.require(tx, refs), strict=True):
        ids = found.setdefault(references.kind_of(ref.kind), [])
        if node_id not in ids:
            ids.append(node_id)
    return found


def _name(given: str) -> str:
    check_text("the hold's name", given)
    if len(given) > NAME_CHARACTERS:
        raise InvalidArgument(f"the hold's name has {len(given)} characters, more than {NAME_CHARACTERS}")
    return given or NAME


def hold(tx: Transaction, request: nodes.HoldNodesRequest) -> nodes.HoldNodesResponse:
    """`HoldNodes`: all nodes, or none when one is not there."""
    change_log.sign(tx, "hold", request.actor)
    name = _name(request.name)
    check_text("the reason", request.reason)
    new: list[changes.Hold] = []
    for kind, ids in _by_kind(tx, request.nodes).items():
        there = {found.id for found in of(tx, kind, ids) if found.name == name}
        new += [
            changes.Hold(
                kind=kind.type_kind,
                id=node_id,
                name=name,
                time_ms=tx.now_ms(),
                actor=request.actor,
                reason=request.reason,
            )
            for node_id in ids
            if node_id not in there
        ]
    tx.many(_INSERT, [tuple(getattr(added, column.name) for column in _COLUMNS) for added in new])
    tx.changes.holds.extend(new)
    return nodes.HoldNodesResponse()


def release(tx: Transaction, request: nodes.ReleaseNodesRequest) -> nodes.ReleaseNodesResponse:
    """`ReleaseNodes`: takes the hold of this name away where there is one."""
    change_log.sign(tx, "hold", request.actor)
    name = _name(request.name)
    gone = [
        found for kind, ids in _by_kind(tx, request.nodes).items() for found in of(tx, kind, ids) if found.name == name
    ]
    tx.many(_DELETE, [(found.kind, found.id, found.name) for found in gone])
    tx.changes.releases.extend(gone)
    return nodes.ReleaseNodesResponse()


def list_holds(tx: Transaction, request: nodes.ListHoldsRequest) -> nodes.ListHoldsResponse:
    """`ListHolds`."""
    if not request.nodes:
        return nodes.ListHoldsResponse(holds=[_message(row) for row in tx.rows(_ALL)])
    found = [held for kind, ids in _by_kind(tx, request.nodes).items() for held in of(tx, kind, ids)]
    found.sort(key=lambda held: (held.kind, held.id, held.name))
    return nodes.ListHoldsResponse(holds=found)
