"""`DeleteNodes`: nodes go with everything that hangs on them, and leave a tombstone; or what would go is only counted.

MLMD's clients then no longer find them, and their names and external ids are free again; their ids are never given to
others. The change log keeps what they were, and says who deleted them, when and why.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from sqlalchemy import ColumnElement, Table, delete, or_, select

from mdstore.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from mdstore.store import change_log, tables
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from mdstore.store.known import Known
from mdstore.store.operations import filtering, holding, listing, references
from mdstore.store.operations import nodes as storing
from mdstore.store.properties import check_text
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Row, Transaction
from mdstore.values import INPUTS, OUTPUTS
from mdstore.wire import changes, nodes

AT_ONCE: Final = 10_000
"""Nodes of one request: more would keep everybody else's writes waiting."""
DOWNSTREAM: Final = 10_000
"""Nodes that are counted as made from what goes."""
SAMPLES: Final = 20
CHUNK: Final = 1000

_E = tables.EVENT.c
_PC = tables.PARENT_CONTEXT.c


@dataclass(slots=True)
class _Gone:
    """What goes: ids of nodes, and rows of links."""

    ids: dict[Kind, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    events: set[int] = field(default_factory=set)
    attributions: set[Row] = field(default_factory=set)
    """Rows (context, artifact)."""
    associations: set[Row] = field(default_factory=set)
    parents: set[Row] = field(default_factory=set)
    """Rows (child, parent)."""


def delete_nodes(tx: Transaction, request: nodes.DeleteNodesRequest) -> nodes.DeleteNodesResponse:
    """`DeleteNodes`: all nodes, or none.

    Raises:
        InvalidArgument: nothing is named, or not as it can be.
        NotFound: a node that is named is not there.
        FailedPrecondition: a node is held, or something was made from what goes and that is not wanted.
        ResourceExhausted: more nodes than one request may delete.
    """
    change_log.sign(tx, "delete", request.actor)
    check_text("the reason", request.reason)
    gone = _Gone(ids=_asked(tx, request))
    _find_links(tx, gone)
    impact = _impact(tx, gone)
    if request.dry_run:
        return nodes.DeleteNodesResponse(impact=impact)
    if impact.holds:
        held = impact.holds[0]
        label = next(kind.label for kind in KINDS if kind.type_kind == held.kind)
        why = f": {held.reason}" if held.reason else ""
        raise FailedPrecondition(
            f"{label} {held.id} is held by {held.name!r}{why}"
            + (f", and so are more ({len(impact.holds)} holds)" if len(impact.holds) > 1 else "")
            + "; release it first"
        )
    downstream = impact.downstream_artifacts + impact.downstream_executions
    if request.only_without_downstream and downstream:
        raise FailedPrecondition(
            f"{impact.downstream_artifacts} artifacts and {impact.downstream_executions} executions were made from "
            "what is to be deleted, as artifacts "
            f"{list(impact.downstream_artifact_ids)[:5]} and executions {list(impact.downstream_execution_ids)[:5]}"
        )
    _leave_tombstones(tx, gone, request.reason)
    _delete(tx, gone)
    return nodes.DeleteNodesResponse(impact=impact)


def _asked(tx: Transaction, request: nodes.DeleteNodesRequest) -> dict[Kind, list[int]]:
    found: dict[Kind, set[int]] = {kind: set() for kind in KINDS}
    for ref, node_id in zip(request.nodes, references.require(tx, request.nodes), strict=True):
        found[references.kind_of(ref.kind)].add(node_id)
    if request.HasField("filter"):
        kind = references.kind_of(request.kind)
        where = listing.filter_of(kind, request.filter)
        if not filtering.restricts(kind, where):
            raise InvalidArgument("a filter without any condition leaves all nodes: name what is to be deleted")
        found[kind].update(filtering.ids(tx, kind, where, AT_ONCE + 1))
    elif not request.nodes:
        raise InvalidArgument("the request names no nodes and has no filter")
    if sum(map(len, found.values())) > AT_ONCE:
        raise ResourceExhausted(f"more than {AT_ONCE} nodes: delete them in several requests")
    return {kind: sorted(ids) for kind, ids in found.items()}


@cache
def _touching(table: Table, *names: str) -> Statement:
    """All columns' values of the rows that have one of `ids` in a column."""
    return Statement(lambda: select(*(table.c[name] for name in names[1:])).where(OneOf(table.c[names[0]], "ids")))


def _rows(tx: Transaction, table: Table, by: str, names: Sequence[str], ids: Sequence[int]) -> set[Row]:
    found: set[Row] = set()
    for start in range(0, len(ids), CHUNK):
        found.update(
            tuple(row) for row in tx.rows(_touching(table, by, *names), ids=values(ids[start : start + CHUNK]))
        )
    return found


def _find_links(tx: Transaction, gone: _Gone) -> None:
    for kind in (ARTIFACT, EXECUTION):
        gone.events |= {row[0] for row in _rows(tx, tables.EVENT, kind.owner, ("id",), gone.ids[kind])}
    for table, kind, into in (
        (tables.ATTRIBUTION, ARTIFACT, gone.attributions),
        (tables.ASSOCIATION, EXECUTION, gone.associations),
    ):
        for of, by in ((kind, kind.owner), (CONTEXT, "context_id")):
            into.update(_rows(tx, table, by, ("context_id", kind.owner), gone.ids[of]))
    for by in ("context_id", "parent_context_id"):
        gone.parents |= _rows(tx, tables.PARENT_CONTEXT, by, ("context_id", "parent_context_id"), gone.ids[CONTEXT])


def _impact(tx: Transaction, gone: _Gone) -> nodes.Impact:
    artifacts, executions, is_cut = _downstream(tx, gone)
    going = set(gone.ids[CONTEXT])
    touched = {row[0] for row in gone.attributions | gone.associations} - going
    impact = nodes.Impact(
        artifacts=len(gone.ids[ARTIFACT]),
        executions=len(gone.ids[EXECUTION]),
        contexts=len(gone.ids[CONTEXT]),
        events=len(gone.events),
        attributions=len(gone.attributions),
        associations=len(gone.associations),
        parent_contexts=len(gone.parents),
        downstream_artifacts=len(artifacts),
        downstream_executions=len(executions),
        downstream_artifact_ids=artifacts[:SAMPLES],
        downstream_execution_ids=executions[:SAMPLES],
        downstream_is_cut=is_cut,
        contexts_touched=len(touched),
        context_ids=sorted(touched)[:SAMPLES],
    )
    for kind in KINDS:
        for start in range(0, len(gone.ids[kind]), CHUNK):
            if len(impact.holds) < SAMPLES:
                held = holding.of(tx, kind, gone.ids[kind][start : start + CHUNK])
                impact.holds.extend(held[: SAMPLES - len(impact.holds)])
    return impact


_USED_BY: Final = Statement(
    lambda: select(_E.execution_id).distinct().where(OneOf(_E.artifact_id, "ids"), OneOf(_E.type, "types"))
)
_MADE_BY: Final = Statement(
    lambda: select(_E.artifact_id).distinct().where(OneOf(_E.execution_id, "ids"), OneOf(_E.type, "types"))
)


def _downstream(tx: Transaction, gone: _Gone) -> tuple[list[int], list[int], bool]:
    """Artifacts and executions that stay and were made from what goes, the nearest first; whether there are more."""
    seen = {kind: set(gone.ids[kind]) for kind in (ARTIFACT, EXECUTION)}
    found: dict[Kind, list[int]] = {ARTIFACT: [], EXECUTION: []}
    front: dict[Kind, Collection[int]] = {kind: gone.ids[kind] for kind in (ARTIFACT, EXECUTION)}
    while any(front.values()):
        behind: dict[Kind, Collection[int]] = {}
        for kind, statement, types, next_kind in (
            (ARTIFACT, _USED_BY, INPUTS, EXECUTION),
            (EXECUTION, _MADE_BY, OUTPUTS, ARTIFACT),
        ):
            numbers = values(sorted(type_.value for type_ in types))
            new: set[int] = set()
            ordered = sorted(front[kind])
            for start in range(0, len(ordered), CHUNK):
                new.update(
                    row[0] for row in tx.rows(statement, ids=values(ordered[start : start + CHUNK]), types=numbers)
                )
            new -= seen[next_kind]
            seen[next_kind] |= new
            found[next_kind] += sorted(new)
            behind[next_kind] = new
        if sum(map(len, found.values())) > DOWNSTREAM:
            return found[ARTIFACT], found[EXECUTION], True
        front = behind
    return found[ARTIFACT], found[EXECUTION], False


def _leave_tombstones(tx: Transaction, gone: _Gone, reason: str) -> None:
    now = tx.now_ms()
    going = set(gone.ids[CONTEXT])
    # Of a link between two contexts that both go, one counts it.
    counted: dict[int, int] = {}
    for child, parent in gone.parents:
        context = child if child in going else parent
        counted[context] = counted.get(context, 0) + 1
    for kind in KINDS:
        into = getattr(tx.changes, f"deleted_{kind.nodes_field}")
        for start in range(0, len(gone.ids[kind]), CHUNK):
            for node in storing.by_ids(tx, kind, gone.ids[kind][start : start + CHUNK]):
                into.append(
                    changes.Deletion(
                        id=node.id,
                        type_id=node.type_id,
                        type=node.type,
                        name=node.name,
                        external_id=node.external_id,
                        time_ms=now,
                        actor=tx.actor,
                        reason=reason,
                        parent_contexts=counted.get(node.id, 0) if kind is CONTEXT else 0,
                    )
                )


@cache
def _delete_by(table: Table, *names: str) -> Statement:
    def make() -> object:
        conditions: list[ColumnElement[bool]] = [OneOf(table.c[name], f"ids_{name}") for name in names]
        return delete(table).where(or_(*conditions))

    return Statement(make)  # type: ignore[arg-type]  # a delete is executable


def _delete(tx: Transaction, gone: _Gone) -> None:
    def take(table: Table, ids: Collection[int], *names: str) -> None:
        ordered = sorted(ids)
        for start in range(0, len(ordered), CHUNK):
            chunk = values(ordered[start : start + CHUNK])
            tx.run(_delete_by(table, *names), **{f"ids_{name}": chunk for name in names})

    take(tables.EVENT_PATH, gone.events, "event_id")
    take(tables.EVENT, gone.events, "id")
    for kind in KINDS:
        ids = gone.ids[kind]
        take(kind.property_table, ids, kind.owner)
        if kind is not CONTEXT:
            take(tables.ATTRIBUTION if kind is ARTIFACT else tables.ASSOCIATION, ids, kind.owner)
        else:
            take(tables.ATTRIBUTION, ids, "context_id")
            take(tables.ASSOCIATION, ids, "context_id")
            take(tables.PARENT_CONTEXT, ids, "context_id")
            take(tables.PARENT_CONTEXT, ids, "parent_context_id")
        take(kind.table, ids, "id")
    tx.known = Known()
