"""Replacing the beginning of the change log by what it had led to.

The commits up to a position are taken away, and in the last positions before it there are commits that show, page by
page, everything that the store held at that position. So following from the beginning still gives a complete state,
without gaps; the commit at the position keeps its hash, from which the chain goes on. What the pages say is hashed too,
and a commit at the end of the log says so: history cannot be rewritten by compacting it.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from google.protobuf.message import DecodeError
from sqlalchemy import bindparam, delete, func, select

from mdstore.errors import Aborted, FailedPrecondition, OutOfRange
from mdstore.store import bootstrapping, change_log, tables
from mdstore.store.kinds import KINDS
from mdstore.store.operations import history
from mdstore.store.sql import Conflict, Insert, Statement
from mdstore.store.transaction import Transaction
from mdstore.wire import changes

ORIGIN: Final = "compaction"

_NEWEST: Final = Statement(lambda: select(tables.COMPACTION.c.compaction))


PAGE_ITEMS: Final = 1000
PAGE_BYTES: Final = 1024 * 1024
"""Nodes and links are put together to pages of that many, or of that size."""
_C = tables.COMMIT.c
_K = tables.CHANGE.c
_T = tables.TOMBSTONE.c
_COUNT: Final = Statement(
    lambda: select(func.count()).select_from(tables.COMMIT).where(_C.seq > 0, _C.seq <= bindparam("last"))
)
_AT_TIME: Final = Statement(
    lambda: select(func.max(_C.seq)).where(_C.seq > bindparam("after"), _C.time_ms < bindparam("before_ms"))
)
_PARKED: Final = Statement(
    lambda: select(_C.payload).where(_C.seq == bindparam("place"), _C.actor == bindparam("by_run"))
)
_PARKED_BY: Final = Statement(lambda: select(_C.actor).where(_C.seq == bindparam("place")))
_DELETE_PARKED: Final = Statement(lambda: delete(tables.COMMIT).where(_C.seq < 0))
_DELETE_PARKED_BY: Final = Statement(lambda: delete(tables.COMMIT).where(_C.seq < 0, _C.actor == bindparam("by_run")))
_DELETE_COMMITS: Final = Statement(lambda: delete(tables.COMMIT).where(_C.seq > 0, _C.seq <= bindparam("last")))
_DELETE_CHANGES: Final = Statement(lambda: delete(tables.CHANGE).where(_K.seq <= bindparam("last")))
_INSERT_COMMIT: Final = Insert(tables.COMMIT, tuple(column.name for column in tables.COMMIT.columns))
_INSERT_CHANGE: Final = Insert(tables.CHANGE, ("kind", "id", "seq"), Conflict.KEEP)
_PUT: Final = Insert(tables.COMPACTION, ("one", "compaction"), Conflict.REPLACE)
_TOMBSTONES: Final = Statement(
    lambda: (
        select(_T.id, _T.deletion)
        .where(_T.kind == bindparam("with_kind"), _T.id > bindparam("after"), _T.seq <= bindparam("last"))
        .order_by(_T.id)
        .limit(bindparam("most"))
    )
)


def position_before(tx: Transaction, time_ms: int) -> int:
    """The last position that was committed before a time (milliseconds since the Unix epoch) and is not compacted.

    0 when there is none.
    """
    compacted = newest(tx)
    ((seq,),) = tx.rows(_AT_TIME, after=0 if compacted is None else compacted.seq, before_ms=time_ms)
    return int(seq or 0)


def newest(tx: Transaction) -> changes.Compaction | None:
    """The compaction that the log begins with, or None."""
    rows = tx.rows(_NEWEST)
    return changes.Compaction.FromString(bytes(rows[0][0])) if rows else None


class Chain:
    """The hashes of a log from its first commit on: each is computed from the one before and compared."""

    def __init__(self, compacted: changes.Compaction | None) -> None:
        """Begin at the beginning, or with the pages of a compaction."""
        self.digest = hashlib.sha256(b"").digest() if compacted is None else compacted.hash
        self._compacted = compacted
        self._attested = compacted is None
        self._unknown = False

    def skip(self) -> None:
        """Commits are missing: the hash of the next one cannot be computed."""
        self._unknown = True

    def follow(self, seq: int, time_ms: int, origin: str, actor: str, digest: bytes, payload: bytes) -> str:
        """Compare the next commit; returns what is wrong with it, or ""."""
        found = change_log.commit_hash(
            self.digest, seq=seq, time_ms=time_ms, origin=origin, actor=actor, payload=payload
        )
        unknown, self._unknown = self._unknown, False
        at = self._compacted
        if at is not None and seq <= at.seq:
            if seq < at.seq:
                wrong = "" if found == digest or unknown else "is not what its hash says"
                self.digest = digest
                return wrong
            # The chain goes on from the hash that this commit always had; the page is hashed by the compaction.
            self.digest = digest
            if digest != at.hash:
                return "has another hash than the compaction says"
            return "" if found == at.digest or unknown else "the compacted commits are not what their hash says"
        if origin == ORIGIN and not self._attested:
            self._attested = _says(payload, at)
        self.digest = digest
        return "" if found == digest or unknown else "is not what its hash says"

    def end(self) -> str:
        """What is wrong once all commits were followed, or ""."""
        return "" if self._attested else "the log does not say of its compaction what mdstore_compaction says"


def _says(payload: bytes, compacted: changes.Compaction | None) -> bool:
    try:
        return compacted in changes.Changes.FromString(payload).compactions
    except DecodeError:
        return False


def pages(tx: Transaction, seq: int) -> Iterator[changes.Changes]:
    """What stands for the commits up to `seq`: all that the store held there, and tombstones of what it had held."""
    page = changes.Changes()
    items = 0
    for part in _parts(tx, seq):
        page.MergeFrom(part)
        items += sum(len(values) for _, values in part.ListFields())
        if items >= PAGE_ITEMS or page.ByteSize() >= PAGE_BYTES:
            yield page
            page, items = changes.Changes(), 0
    if items:
        yield page


def _parts(tx: Transaction, seq: int) -> Iterator[changes.Changes]:
    yield from history.everything_at(tx, seq)
    for kind in KINDS:
        after = 0
        while rows := tx.rows(_TOMBSTONES, with_kind=kind.type_kind, after=after, last=seq, most=PAGE_ITEMS):
            after = rows[-1][0]
            part = changes.Changes()
            getattr(part, f"deleted_{kind.nodes_field}").extend(
                changes.Deletion.FromString(bytes(deletion)) for _, deletion in rows
            )
            yield part


# Compacting reads for long what will not change any more, and must keep nobody from writing meanwhile. So the pages are
# parked one by one below zero, where nobody looks; only the last step, to delete and move rows, is one transaction.


def forget_parked(tx: Transaction, run: str | None) -> None:
    """Take away what a compaction has left behind that did not come to its end; with None, what any has left."""
    if run is None:
        tx.run(_DELETE_PARKED)
    else:
        tx.run(_DELETE_PARKED_BY, by_run=run)


def park(tx: Transaction, request: tuple[str, int, bytes]) -> None:
    """Store a page of a run by its number, from 1 on.

    Raises:
        Aborted: another run has begun since.
    """
    run, number, payload = request
    # Who begins takes away what is there, also of one that is not killed but slow: two must not mix their pages.
    before = tx.rows(_PARKED_BY, place=1 - number) if number > 1 else [(run,)]
    if [row[0] for row in before] != [run] or tx.rows(_PARKED_BY, place=-number):
        raise Aborted(_ANOTHER)
    tx.many(_INSERT_COMMIT, [(-number, 0, ORIGIN, run, b"\0" * 32, payload)])


def goes_on(tx: Transaction, behind: bytes, commit: changes.PackedCommit) -> bool:
    """Whether a commit still follows the one with the hash `behind`, which was read before.

    A compaction puts pages in the place of commits: who has read a commit there and not the pages before would miss
    what these say.
    """
    found = change_log.commit_hash(
        behind,
        seq=commit.seq,
        time_ms=commit.time_ms,
        origin=commit.origin,
        actor=commit.actor,
        payload=commit.changes,
    )
    if found == commit.hash:
        return True
    compacted = newest(tx)
    if compacted is None or commit.seq > compacted.seq:
        return True  # another matter, which `verify` tells
    chain = Chain(compacted)
    chain.digest = behind
    return not chain.follow(commit.seq, commit.time_ms, commit.origin, commit.actor, commit.hash, commit.changes)


def check(tx: Transaction, seq: int) -> None:
    """Raise OutOfRange unless the log can be compacted up to `seq`; FailedPrecondition while it is bootstrapped."""
    head = change_log.head(tx)
    before = newest(tx)
    bootstrapped = bootstrapping.state(tx).complete_from
    if bootstrapped is None:
        raise FailedPrecondition("what was in the database before it had a log is not all in the log yet: try later")
    begun = max(bootstrapped - 1, 0 if before is None else before.seq)
    if not begun < seq <= head.seq:
        raise OutOfRange(f"the log can be compacted up to a position from {begun + 1} to {head.seq}, not up to {seq}")


_ANOTHER: Final = "another compaction of this log has begun: let it end"


def swap(tx: Transaction, request: tuple[str, int, int]) -> bytes:
    """Put the parked pages in the place of commits, and return the bytes of the `Compaction`.

    Args:
        tx: the writer's.
        request: the run, the position up to which commits go, and how many pages are parked.

    Raises:
        Aborted: another run has begun since.
        OutOfRange: somebody else has compacted the log meanwhile.
        FailedPrecondition: there are no fewer pages than commits: nothing is to be won.
    """
    run, seq, count = request
    check(tx, seq)
    before = newest(tx)
    (at,) = change_log.commits_at(tx, [seq])
    ((commits,),) = tx.rows(_COUNT, last=seq)
    if count >= commits:
        raise FailedPrecondition(
            f"the {commits} commits up to {seq} are no more than the {count} that would replace them"
        )
    tx.run(_DELETE_CHANGES, last=seq)
    tx.run(_DELETE_COMMITS, last=seq)
    digest = at.hash
    for number in range(1, count + 1):
        place = seq - count + number
        rows = tx.rows(_PARKED, place=-number, by_run=run)
        if not rows:
            raise Aborted(_ANOTHER)
        ((payload,),) = rows
        digest = change_log.commit_hash(
            digest, seq=place, time_ms=at.time_ms, origin=ORIGIN, actor="", payload=bytes(payload)
        )
        # The last page stands where the commit was from whose hash the chain goes on.
        row = (place, at.time_ms, ORIGIN, "", at.hash if place == seq else digest, bytes(payload))
        tx.many(_INSERT_COMMIT, [row])
        page = changes.Changes.FromString(bytes(payload))
        tx.many(_INSERT_CHANGE, [(*key, place) for key in change_log.touched(page)])
    tx.run(_DELETE_PARKED)
    found = changes.Compaction(
        first_seq=seq - count + 1,
        seq=seq,
        hash=at.hash,
        digest=digest,
        removed=commits - count + (0 if before is None else before.removed),
    )
    tx.many(_PUT, [(1, found.SerializeToString())])
    tx.origin, tx.actor = ORIGIN, ""
    tx.changes.compactions.append(found)
    return found.SerializeToString()
