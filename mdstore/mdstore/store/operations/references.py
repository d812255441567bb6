"""How requests of `mdstore.v1` name nodes: by id, else by external id."""

from collections.abc import Sequence
from typing import Final

from mdstore.errors import InvalidArgument, NotFound
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from mdstore.store.operations import nodes as storing
from mdstore.store.transaction import Transaction
from mdstore.wire import nodes

BY_NUMBER: Final[dict[int, Kind]] = {
    nodes.ARTIFACT: ARTIFACT,
    nodes.EXECUTION: EXECUTION,
    nodes.CONTEXT: CONTEXT,
}


def kind_of(number: int) -> Kind:
    """The kind that a `NodeKind` names; raises InvalidArgument when it names none."""
    kind = BY_NUMBER.get(number)
    if kind is None:
        raise InvalidArgument("kind is not ARTIFACT, EXECUTION or CONTEXT")
    return kind


def described(ref: nodes.NodeRef) -> str:
    """A node as messages for people name it."""
    label = kind_of(ref.kind).label
    return f"{label} {ref.id}" if ref.id else f"{label} with the external id {ref.external_id!r}"


def find(tx: Transaction, refs: Sequence[nodes.NodeRef]) -> list[int | None]:
    """The ids of the nodes that are there, in the order of the references; None for one that is not.

    Raises:
        InvalidArgument: a reference has no kind, or neither id nor external id.
    """
    for ref in refs:
        kind_of(ref.kind)
        if not (ref.id or ref.external_id):
            raise InvalidArgument(f"a reference to an {kind_of(ref.kind).label} needs an id or an external id")
    found: dict[tuple[int, int | str], int] = {}
    for kind in KINDS:
        mine = [ref for ref in refs if BY_NUMBER[ref.kind] is kind]
        ids = {ref.id for ref in mine if ref.id}
        external_ids = {ref.external_id for ref in mine if not ref.id}
        if ids:
            found.update(((kind.type_kind, node_id), node_id) for node_id in storing.existing(tx, kind, ids))
        if external_ids:
            found.update(
                ((kind.type_kind, external_id), node_id)
                for external_id, node_id in storing.ids_by_external_id(tx, kind, external_ids).items()
            )
    return [found.get((BY_NUMBER[ref.kind].type_kind, ref.id or ref.external_id)) for ref in refs]


def require(tx: Transaction, refs: Sequence[nodes.NodeRef]) -> list[int]:
    """The ids of the nodes, in the order of the references.

    Raises:
        InvalidArgument: as `find`.
        NotFound: one is not there.
    """
    ids: list[int] = []
    for ref, node_id in zip(refs, find(tx, refs), strict=True):
        if node_id is None:
            raise NotFound(f"there is no {described(ref)}")
        ids.append(node_id)
    return ids
