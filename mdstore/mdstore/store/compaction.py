"""Replacing the beginning of the change log by what it had led to.

The commits up to a position are taken away, and in the last positions before it there are commits that show, page by
page, everything that the store held at that position. So following from the beginning still gives a complete state,
without gaps; the commit at the position keeps its hash, from which the chain goes on. What the pages say is hashed too,
and a commit at the end of the log says so: history cannot be rewritten by compacting it.
"""

import hashlib
from typing import Final

from sqlalchemy import select

from mdstore.store import change_log, tables
from mdstore.store.sql import Statement
from mdstore.store.transaction import Transaction
from mdstore.wire import changes

ORIGIN: Final = "compaction"

_NEWEST: Final = Statement(lambda: select(tables.COMPACTION.c.compaction))


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
        if at is not None and seq == at.at_seq:
            self._attested = _without_place(at) == changes.Changes.FromString(payload).compaction
        self.digest = digest
        return "" if found == digest or unknown else "is not what its hash says"

    def end(self) -> str:
        """What is wrong once all commits were followed, or ""."""
        return "" if self._attested else "the log does not say of its compaction what mdstore_compaction says"


def _without_place(compacted: changes.Compaction) -> changes.Compaction:
    found = changes.Compaction()
    found.CopyFrom(compacted)
    found.ClearField("at_seq")
    return found
