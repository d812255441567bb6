"""The change log: what every transaction did, in one order, each commit's hash over the one before.

A commit's row is written in the transaction that it describes, under the lock of that transaction, so positions have
no gaps and none appears late. The payload is a `mdstore.v1.Changes`, complete enough to be projected without a second
read.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, func, select, update

from mdstore.errors import InvalidArgument
from mdstore.store import tables
from mdstore.store.kinds import KINDS, Kind
from mdstore.store.properties import check_text
from mdstore.store.sql import Conflict, Insert, OneOf, Statement, Update, values
from mdstore.store.transaction import Transaction
from mdstore.wire import changes

_H = tables.HEAD.c
_C = tables.COMMIT.c
_HEAD: Final = Statement(lambda: select(_H.seq, _H.hash, _H.store_id))
_SET_HEAD: Final = Statement(
    lambda: (
        update(tables.HEAD)
        .where(_H.seq == bindparam("old_seq"), _H.hash == bindparam("old_hash"))
        .values(seq=bindparam("v_seq"), hash=bindparam("v_hash"))
    )
)
_MOVE_HEAD: Final = Update(tables.HEAD, ("seq", "hash"), key=("store_id",))
_INSERT_COMMIT: Final = Insert(tables.COMMIT, ("seq", "time_ms", "origin", "actor", "hash", "payload"))
_INSERT_CHANGE: Final = Insert(tables.CHANGE, ("kind", "id", "seq"), Conflict.KEEP)
_INSERT_TOMBSTONE: Final = Insert(tables.TOMBSTONE, ("kind", "id", "seq", "deletion"))
_NEWEST: Final = Statement(
    lambda: (
        select(tables.CHANGE.c.id, func.max(tables.CHANGE.c.seq))
        .where(tables.CHANGE.c.kind == bindparam("with_kind"), OneOf(tables.CHANGE.c.id, "ids"))
        .group_by(tables.CHANGE.c.id)
    )
)
_ALL_OF: Final = Statement(
    lambda: (
        select(tables.CHANGE.c.seq)
        .distinct()
        .where(tables.CHANGE.c.kind == bindparam("with_kind"), OneOf(tables.CHANGE.c.id, "ids"))
    )
)
_FROM: Final = Statement(
    lambda: (
        select(_C.seq, _C.time_ms, _C.origin, _C.actor, _C.hash, _C.payload)
        .where(_C.seq >= bindparam("from_seq"))
        .order_by(_C.seq)
        .limit(bindparam("most"))
    )
)
_PAYLOADS: Final = Statement(
    lambda: (
        select(_C.seq, _C.payload)
        .where(_C.seq >= bindparam("from_seq"), _C.origin != bindparam("without"))
        .order_by(_C.seq)
        .limit(bindparam("most"))
    )
)

TYPES: Final = 16
"""Of a type in `mdstore_change.kind`: this and its type kind."""
PARENTS: Final = 32
"""Of a link between contexts in `mdstore_change.kind`; the id is the child's."""

PAYLOADS: Final = 50
"""Commits that are in memory at once when many are read: one can be some megabytes."""

PAGE: Final = 1000
"""Nodes or links that are looked at together."""

PORTION_BYTES: Final = 1024 * 1024
"""What is put together to one commit, or one message of a snapshot, ends at this size: a database takes no row of any
size, nor a client any message.
"""

OWN_ORIGINS: Final = frozenset({"bootstrap", "external", "compaction"})
"""Commits of these say something of the log itself, and nobody else may seem to have made one."""
NAME_BYTES: Final = 255
"""Of an origin or an actor, as UTF-8: MySQL's columns count so."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest position, and which store it is in."""

    seq: int
    hash: bytes
    store_id: str


def head(tx: Transaction) -> Head:
    """Read the head."""
    ((seq, digest, store_id),) = tx.rows(_HEAD)
    return Head(seq, bytes(digest), store_id)


def commit_hash(previous: bytes, *, seq: int, time_ms: int, origin: str, actor: str, payload: bytes) -> bytes:
    """SHA-256 over the previous hash and a commit's fields, each with its length before it."""
    digest = hashlib.sha256(previous)
    for part in (
        seq.to_bytes(8, "big"),
        time_ms.to_bytes(8, "big", signed=True),
        origin.encode(),
        actor.encode(),
        payload,
    ):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def portions(images: Iterable[Any]) -> Iterator[list[Any]]:
    """Messages in lists of about `PORTION_BYTES`, none of them empty."""
    portion: list[Any] = []
    size = 0
    for image in images:
        portion.append(image)
        size += image.ByteSize()
        if size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def sign(tx: Transaction, origin: str, actor: str) -> None:
    """Say who makes the running operation's commit.

    Raises:
        InvalidArgument: the log cannot hold a name, or the origin is one of the log's own.
    """
    for what, name in (("the origin", origin), ("the actor", actor)):
        check_text(what, name)
        if (size := len(name.encode())) > NAME_BYTES:
            raise InvalidArgument(f"{what} has {size} bytes, more than {NAME_BYTES}")
    if origin in OWN_ORIGINS:
        raise InvalidArgument(f"the origin {origin!r} is the change log's own: take another name")
    tx.origin, tx.actor = origin, actor


@dataclass(slots=True)
class Entry:
    """What one commit will say."""

    origin: str
    actor: str
    changes: changes.Changes


def append(
    tx: Transaction, entries: Sequence[Entry], known: Head | None = None, *, is_locked: bool = False
) -> Head | None:
    """Write commits at the end of the log; returns the new head, or None when the entries hold no change.

    Three statements when `known` is the head, as it is unless another process wrote meanwhile; else five. The caller's
    transaction must hold the database's write lock.

    Args:
        tx: the transaction.
        entries: one of each commit.
        known: what was the head when somebody looked.
        is_locked: that was in this transaction, and nobody else can have moved it since.
    """
    payloads = [(entry, entry.changes.SerializeToString()) for entry in entries]
    payloads = [(entry, payload) for entry, payload in payloads if payload]
    if not payloads:
        return None
    now = tx.now_ms()
    old = known or head(tx)
    commits = _chain(old, now, payloads)
    new = Head(old.seq + len(commits), commits[-1][4], old.store_id)
    if is_locked:
        tx.later(_MOVE_HEAD, [(new.seq, new.hash, new.store_id)])
    elif not tx.run(_SET_HEAD, v_seq=new.seq, v_hash=new.hash, old_seq=old.seq, old_hash=old.hash):
        old = head(tx)
        commits = _chain(old, now, payloads)
        new = Head(old.seq + len(commits), commits[-1][4], old.store_id)
        tx.run(_SET_HEAD, v_seq=new.seq, v_hash=new.hash, old_seq=old.seq, old_hash=old.hash)
    tx.later(_INSERT_COMMIT, commits)
    numbered = [(commit[0], entry.changes) for commit, (entry, _) in zip(commits, payloads, strict=True)]
    tx.later(_INSERT_CHANGE, [(*key, seq) for seq, change in numbered for key in touched(change)])
    tx.later(
        _INSERT_TOMBSTONE,
        [
            (kind.type_kind, gone.id, seq, gone.SerializeToString())
            for seq, change in numbered
            for kind in KINDS
            for gone in getattr(change, f"deleted_{kind.nodes_field}")
        ],
    )
    return new


def touched(change: changes.Changes) -> Iterator[tuple[int, int]]:
    """Rows `(kind, id)` of `mdstore_change`: what a commit changed; some may come twice."""
    for kind in KINDS:
        for node in getattr(change, kind.nodes_field):
            yield kind.type_kind, node.id
        for gone in getattr(change, f"deleted_{kind.nodes_field}"):
            yield kind.type_kind, gone.id
        for type_ in getattr(change, f"{kind.label}_types"):
            yield TYPES + kind.type_kind, type_.id
    for link in change.parent_contexts:
        yield PARENTS, link.child_id


_CommitRow = tuple[int, int, str, str, bytes, bytes]


def _chain(old: Head, now: int, payloads: Sequence[tuple[Entry, bytes]]) -> list[_CommitRow]:
    """The rows of the commits after `old`, each hash over the one before."""
    digest = old.hash
    rows: list[_CommitRow] = []
    for seq, (entry, payload) in enumerate(payloads, old.seq + 1):
        digest = commit_hash(digest, seq=seq, time_ms=now, origin=entry.origin, actor=entry.actor, payload=payload)
        rows.append((seq, now, entry.origin, entry.actor, digest, payload))
    return rows


_AT: Final = Statement(
    lambda: (
        select(_C.seq, _C.time_ms, _C.origin, _C.actor, _C.hash, _C.payload)
        .where(OneOf(_C.seq, "seqs"))
        .order_by(_C.seq)
    )
)


def newest_changes(tx: Transaction, kind: int, ids: Collection[int]) -> dict[int, int]:
    """Id -> position of the newest commit that changed it; what the log does not know is absent."""
    return {row[0]: row[1] for row in tx.rows(_NEWEST, with_kind=kind, ids=values(set(ids)))} if ids else {}


def times_in(tx: Transaction, kind: Kind, newest: Mapping[int, int]) -> dict[int, int]:
    """Id -> update time of the image of a node in a commit; ids and positions as `newest_changes` gives them."""
    return {
        image.id: image.last_update_time_since_epoch
        for commit in commits_at(tx, newest.values())
        for image in getattr(changes.Changes.FromString(commit.changes), kind.nodes_field)
        if newest.get(image.id) == commit.seq
    }


def changes_of(tx: Transaction, kind: int, ids: Collection[int]) -> set[int]:
    """The positions of all commits that changed any of these."""
    return {row[0] for row in tx.rows(_ALL_OF, with_kind=kind, ids=values(set(ids)))}


def payloads_since(tx: Transaction, seq: int, *, without: str = "") -> Iterator[tuple[int, changes.Changes]]:
    """`(position, changes)` of the commits behind `seq` whose origin is not `without`, read in pages."""
    while rows := tx.rows(_PAYLOADS, from_seq=seq + 1, without=without, most=PAYLOADS):
        for row in rows:
            yield row[0], changes.Changes.FromString(row[1])
        seq = rows[-1][0]


def commits_at(tx: Transaction, seqs: Collection[int]) -> Iterator[changes.PackedCommit]:
    """The commits at these positions, in order, read in pages."""
    ordered = sorted(set(seqs))
    for start in range(0, len(ordered), PAYLOADS):
        for seq, time_ms, origin, actor, digest, payload in tx.rows(
            _AT, seqs=values(ordered[start : start + PAYLOADS])
        ):
            yield changes.PackedCommit(
                seq=seq, time_ms=time_ms, origin=origin, actor=actor, hash=digest, changes=payload
            )


def commits_from(tx: Transaction, from_seq: int, most: int) -> Iterator[changes.PackedCommit]:
    """Up to `most` commits, in order; their changes are not unpacked. Whoever stops early has not read the rest."""
    few = PAYLOADS // 2
    while most > 0:
        few = min(2 * few, most)
        rows = tx.rows(_FROM, from_seq=max(1, from_seq), most=few)
        for seq, time_ms, origin, actor, digest, payload in rows:
            yield changes.PackedCommit(
                seq=seq, time_ms=time_ms, origin=origin, actor=actor, hash=digest, changes=payload
            )
        if len(rows) < few:
            return
        from_seq = rows[-1][0] + 1
        most -= few
