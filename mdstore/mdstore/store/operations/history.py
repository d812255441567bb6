"""What happened to one node, and what the store held at an earlier position: answered from the change log."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from sqlalchemy import bindparam, func, select

from mdstore.errors import NotFound, Unavailable
from mdstore.store import bootstrapping, change_log, tables
from mdstore.store.change_log import PAGE, TYPES
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from mdstore.store.operations import nodes as nodes_of
from mdstore.store.operations.references import kind_of
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction
from mdstore.wire import changes, nodes

LIMIT: Final = 100
MOST: Final = 1000

_K = tables.CHANGE.c
_SEQS: Final = Statement(
    lambda: (
        select(_K.seq)
        .where(_K.kind == bindparam("with_kind"), _K.id == bindparam("node_id"), _K.seq > bindparam("after"))
        .order_by(_K.seq)
        .limit(bindparam("most"))
    )
)


def history(tx: Transaction, request: nodes.HistoryRequest) -> nodes.HistoryResponse:
    """`History`.

    Raises:
        InvalidArgument: no kind.
        NotFound: the store never had such a node.
        Unavailable: it has the node since before there was a log, which does not tell of it yet.
    """
    kind = kind_of(request.kind)
    limit = min(request.limit, MOST) if request.limit > 0 else LIMIT
    rows = tx.rows(_SEQS, with_kind=kind.type_kind, node_id=request.id, after=max(0, request.after_seq), most=limit + 1)
    if not rows and request.after_seq <= 0:
        if not bootstrapping.state(tx).is_done and nodes_of.existing(tx, kind, [request.id]):
            raise Unavailable(f"the log does not tell of this {kind.label} yet: try again later").retry_after(1000)
        raise NotFound(f"the log knows no {kind.label} with the id {request.id}")
    response = nodes.HistoryResponse(has_more=len(rows) > limit)
    for commit in change_log.commits_at(tx, [row[0] for row in rows[:limit]]):
        change = changes.Changes.FromString(commit.changes)
        entry = response.entries.add(
            seq=commit.seq,
            time_ms=commit.time_ms,
            origin=commit.origin,
            actor=commit.actor,
            created=request.id in getattr(change, f"created_{kind.label}_ids"),
        )
        for image in getattr(change, kind.nodes_field):
            if image.id == request.id:
                getattr(entry, kind.label).CopyFrom(image)
        for gone in getattr(change, f"deleted_{kind.nodes_field}"):
            if gone.id == request.id:
                entry.deletion.CopyFrom(gone)
                entry.deletion.seq = commit.seq
    return response


# --- everything at an earlier position


@cache
def _newest_before() -> Statement:
    return Statement(
        lambda: (
            select(_K.id, func.max(_K.seq))
            .where(_K.kind == bindparam("with_kind"), _K.id > bindparam("after"), _K.seq <= bindparam("at_seq"))
            .group_by(_K.id)
            .order_by(_K.id)
            .limit(bindparam("most"))
        )
    )


_T = tables.TOMBSTONE.c
_GONE: Final = Statement(
    lambda: select(_T.id).where(_T.kind == bindparam("with_kind"), OneOf(_T.id, "ids"), _T.seq <= bindparam("at_seq"))
)


def everything_at(tx: Transaction, seq: int) -> Iterator[changes.Changes]:
    """What the store held at a position, in pages as `change_log.everything`; memory is bounded by a page.

    Nodes and types are found by the log's index, and links by reading the log up to the position.
    """
    page = changes.Changes()
    for kind in KINDS:
        for images in _images(tx, kind, seq, types=True):
            getattr(page, f"{kind.label}_types").extend(images)
    yield page
    for kind in KINDS:
        for images in _images(tx, kind, seq, types=False):
            page = changes.Changes()
            getattr(page, kind.nodes_field).extend(images)
            getattr(page, f"created_{kind.label}_ids").extend(image.id for image in images)
            yield page
    for position, change in change_log.payloads_since(tx, 0):
        if position > seq:
            return
        links = changes.Changes(
            events=change.events,
            attributions=change.attributions,
            associations=change.associations,
            parent_contexts=change.parent_contexts,
        )
        if links.ByteSize():
            yield _of_what_stays(tx, links, seq)


def _images(tx: Transaction, kind: Kind, at_seq: int, *, types: bool) -> Iterator[list[Any]]:
    number = kind.type_kind + (TYPES if types else 0)
    name = f"{kind.label}_types" if types else kind.nodes_field
    after = 0
    while rows := tx.rows(_newest_before(), with_kind=number, after=after, at_seq=at_seq, most=PAGE):
        after = rows[-1][0]
        newest = {row[0]: row[1] for row in rows}
        found: dict[int, Any] = {}
        for commit in change_log.commits_at(tx, newest.values()):
            for image in getattr(changes.Changes.FromString(commit.changes), name):
                if newest.get(image.id) == commit.seq:
                    found[image.id] = image
        if not types:
            for (node_id,) in tx.rows(_GONE, with_kind=number, ids=values(found), at_seq=at_seq):
                del found[node_id]
        yield from change_log.portions(found[node_id] for node_id in sorted(found))


def _of_what_stays(tx: Transaction, links: changes.Changes, at_seq: int) -> changes.Changes:
    """The links whose both ends were there at a position."""

    def gone(kind: Kind, ids: set[int]) -> set[int]:
        rows = tx.rows(_GONE, with_kind=kind.type_kind, ids=values(ids), at_seq=at_seq) if ids else ()
        return {row[0] for row in rows}

    artifacts = gone(ARTIFACT, {e.artifact_id for e in links.events} | {a.artifact_id for a in links.attributions})
    executions = gone(EXECUTION, {e.execution_id for e in links.events} | {a.execution_id for a in links.associations})
    contexts = gone(
        CONTEXT,
        {a.context_id for a in links.attributions}
        | {a.context_id for a in links.associations}
        | {end for link in links.parent_contexts for end in (link.child_id, link.parent_id)},
    )
    if not (artifacts or executions or contexts):
        return links
    return changes.Changes(
        events=[e for e in links.events if e.artifact_id not in artifacts and e.execution_id not in executions],
        attributions=[a for a in links.attributions if a.artifact_id not in artifacts and a.context_id not in contexts],
        associations=[
            a for a in links.associations if a.execution_id not in executions and a.context_id not in contexts
        ],
        parent_contexts=[
            p for p in links.parent_contexts if p.child_id not in contexts and p.parent_id not in contexts
        ],
    )
