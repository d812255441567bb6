"""Is the change log whole? Positions without gaps, hashes that chain, the head, the index of what each commit changed.

Everything is computed again from the rows, in pages, on one moment of the database. After a break the check goes on
from what is stored, so that each break is reported where it is and not everywhere behind it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError
from sqlalchemy import and_, bindparam, func, or_, select

from mdstore.store import change_log, compaction, tables
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction
from mdstore.wire import changes

PAGE: Final = 200
MOST: Final = 100
"""Breaks that are reported; more say nothing new."""

_C = tables.COMMIT.c
_K = tables.CHANGE.c
_COMMITS: Final = Statement(
    lambda: (
        select(_C.seq, _C.time_ms, _C.origin, _C.actor, _C.hash, _C.payload)
        .where(_C.seq > bindparam("after"))
        .order_by(_C.seq)
        .limit(bindparam("most"))
    )
)
_INDEXED: Final = Statement(
    lambda: select(_K.kind, _K.id, _K.seq).where(
        _K.kind == bindparam("with_kind"),
        OneOf(_K.id, "ids"),
        _K.seq >= bindparam("first"),
        _K.seq <= bindparam("last"),
    )
)
_COUNT: Final = Statement(lambda: select(func.count()).select_from(tables.CHANGE))
_INDEX: Final = Statement(
    lambda: (
        select(_K.kind, _K.id, _K.seq)
        .where(
            or_(
                _K.kind > bindparam("kind_after"),
                and_(_K.kind == bindparam("kind_same"), _K.id > bindparam("id_after")),
                and_(
                    _K.kind == bindparam("kind_same_too"),
                    _K.id == bindparam("id_same"),
                    _K.seq > bindparam("seq_after"),
                ),
            )
        )
        .order_by(_K.kind, _K.id, _K.seq)
        .limit(bindparam("most"))
    )
)


@dataclass(frozen=True, slots=True)
class Break:
    """Something that is not as it must be."""

    seq: int
    """The position; 0 for the head and the index as a whole."""
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check of the whole log found."""

    first_seq: int
    """The first position that the log has; 1 unless it was compacted."""
    head_seq: int
    head_hash: bytes
    commits: int
    breaks: list[Break]
    """The first hundred, in order; empty when the log is whole."""


def verify(tx: Transaction, progress: Callable[[int, int], None] = lambda _at, _of: None) -> Finding:
    """Check the whole log.

    Args:
        tx: a transaction that reads.
        progress: told the position and the newest position, now and then.
    """
    breaks: list[Break] = []
    head = change_log.head(tx)
    compacted = compaction.newest(tx)
    first = compacted.first_seq if compacted is not None else 1
    chain = compaction.Chain(compacted)
    expected, commits, indexed = first, 0, 0
    for rows in _pages(tx):
        for row in rows:
            seq = row[0]
            if seq != expected:
                last = seq - 1
                breaks.append(Break(expected, _positions(expected, last) if seq > expected else f"came after {last}"))
                chain.skip()
            expected = seq + 1
            commits += 1
            if wrong := chain.follow(*row):
                breaks.append(Break(seq, wrong))
        found, lacking = _check_index(tx, rows)
        indexed += found
        breaks += lacking
        progress(rows[-1][0], head.seq)
        if len(breaks) >= MOST:
            break
    else:
        if head.seq != expected - 1:
            breaks.append(
                Break(0, f"the head says {head.seq} is the newest position, and the log ends at {expected - 1}")
            )
        elif head.hash != chain.digest:
            breaks.append(Break(0, "the head has another hash than the newest commit"))
        if wrong := chain.end():
            breaks.append(Break(0, wrong))
        ((rows_of_index,),) = tx.rows(_COUNT)
        if rows_of_index != indexed:
            breaks += _too_much_indexed(tx)
    return Finding(first_seq=first, head_seq=head.seq, head_hash=head.hash, commits=commits, breaks=breaks[:MOST])


def _positions(first: int, last: int) -> str:
    return "the commit is missing" if first == last else f"the commits up to {last} are missing"


def _pages(tx: Transaction) -> Iterator[list[Any]]:
    after = 0
    while rows := tx.rows(_COMMITS, after=after, most=PAGE):
        yield [(*row[:4], _as_bytes(row[4]), _as_bytes(row[5])) for row in rows]
        after = rows[-1][0]


def _as_bytes(value: Any) -> bytes:
    """What a column of bytes holds; SQLite lets others put a text there."""
    return value.encode(errors="surrogateescape") if isinstance(value, str) else bytes(value)


def _check_index(tx: Transaction, rows: list[Any]) -> tuple[int, list[Break]]:
    """How many rows of `mdstore_change` these commits have, and what it lacks."""
    wanted: set[tuple[int, int, int]] = set()
    breaks: list[Break] = []
    for seq, *_, payload in rows:
        try:
            change = changes.Changes.FromString(payload)
        except DecodeError:
            breaks.append(Break(seq, "the payload cannot be parsed"))
            continue
        wanted.update((kind, node_id, seq) for kind, node_id in change_log.touched(change))
    there: set[tuple[Any, ...]] = set()
    for kind in {key[0] for key in wanted}:
        ids = values({key[1] for key in wanted if key[0] == kind})
        there |= {tuple(row) for row in tx.rows(_INDEXED, with_kind=kind, ids=ids, first=rows[0][0], last=rows[-1][0])}
    for kind, node_id, seq in sorted(wanted - there, key=lambda key: key[2]):
        breaks.append(Break(seq, f"mdstore_change lacks the row (kind {kind}, id {node_id})"))
    return len(wanted & there), breaks


def _too_much_indexed(tx: Transaction) -> list[Break]:
    breaks: list[Break] = []
    kind, node_id, seq = -1, 0, 0
    while rows := tx.rows(
        _INDEX,
        kind_after=kind,
        kind_same=kind,
        kind_same_too=kind,
        id_after=node_id,
        id_same=node_id,
        seq_after=seq,
        most=PAGE,
    ):
        kind, node_id, seq = rows[-1]
        held: set[tuple[int, int, int]] = set()
        for commit in change_log.commits_at(tx, {row[2] for row in rows}):
            try:
                change = changes.Changes.FromString(commit.changes)
            except DecodeError:
                continue  # said already
            held.update((*key, commit.seq) for key in change_log.touched(change))
        breaks += [
            Break(row[2], f"mdstore_change has the row (kind {row[0]}, id {row[1]}), and the commit does not hold it")
            for row in rows
            if tuple(row) not in held
        ]
    return breaks
