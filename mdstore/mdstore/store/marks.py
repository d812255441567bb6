"""Up to where everything in MLMD's tables is in the change log.

Another program that writes to the same database leaves no log, but ids only grow and an update moves the update time.
So what is new to us is behind these marks, and finding it costs as much as there is of it.
"""

from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import bindparam, func, insert, select, update

from mdstore.store import tables
from mdstore.store.sql import Statement
from mdstore.store.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """A moment of the database."""

    seq: int
    """The log's newest commit then."""
    type: int
    """The highest id of the table; so for all up to `association`."""
    artifact: int
    execution: int
    context: int
    event: int
    attribution: int
    association: int
    parents: int
    """How many links between contexts there were."""
    artifact_ms: int
    """The newest update time of the table, or that of the look when somebody's clock was ahead of ours."""
    execution_ms: int
    context_ms: int


_NAMES: Final = tuple(field.name for field in fields(Marks))
TABLES: Final = {
    "type": tables.TYPE,
    "artifact": tables.ARTIFACT,
    "execution": tables.EXECUTION,
    "context": tables.CONTEXT,
    "event": tables.EVENT,
    "attribution": tables.ATTRIBUTION,
    "association": tables.ASSOCIATION,
}
LINKS: Final = {name: TABLES[name] for name in ("event", "attribution", "association")}
_M = tables.MARK.c
_READ: Final = Statement(lambda: select(*(_M[name] for name in _NAMES)))
_INSERT: Final = Statement(
    lambda: insert(tables.MARK).values({"one": bindparam("v_one"), **{name: bindparam(f"v_{name}") for name in _NAMES}})
)
_UPDATE: Final = Statement(lambda: update(tables.MARK).values({name: bindparam(f"v_{name}") for name in _NAMES}))
# Each is the end of an index, but for the links, which have no number: they are counted only when that is asked for.
_IDS: Final = tuple(select(func.coalesce(func.max(table.c.id), 0)).scalar_subquery() for table in TABLES.values())
_TIMES: Final = tuple(
    select(func.coalesce(func.max(table.c.last_update_time_since_epoch), 0)).scalar_subquery()
    for table in (tables.ARTIFACT, tables.EXECUTION, tables.CONTEXT)
)
_NOW: Final = Statement(lambda: select(*_IDS, *_TIMES))
_PARENTS: Final = Statement(lambda: select(func.count()).select_from(tables.PARENT_CONTEXT))


def read(tx: Transaction) -> Marks | None:
    """The marks, or None when none were made."""
    rows = tx.rows(_READ)
    return Marks(**dict(zip(_NAMES, rows[0], strict=True))) if rows else None


def now(tx: Transaction, seq: int, *, parents: int | None = None) -> Marks:
    """What the marks would be if all that is there were in the log, whose newest commit is at `seq`.

    Args:
        tx: the transaction.
        seq: for the mark of that name.
        parents: for the mark of that name; None to count.
    """
    (row,) = tx.rows(_NOW)
    ids = dict(zip(TABLES, row, strict=False))
    if parents is None:
        ((parents,),) = tx.rows(_PARENTS)
    # A time that is still to come would hide all updates until then.
    at_most = tx.now_ms()
    artifact_ms, execution_ms, context_ms = (min(time_ms, at_most) for time_ms in row[len(TABLES) :])
    return Marks(
        seq=seq,
        **ids,
        parents=parents,
        artifact_ms=artifact_ms,
        execution_ms=execution_ms,
        context_ms=context_ms,
    )


def put(tx: Transaction, marks: Marks) -> None:
    """Replace the marks, or make the first ones."""
    given: dict[str, int] = {f"v_{name}": getattr(marks, name) for name in _NAMES}
    if not tx.run(_UPDATE, **given):
        tx.run(_INSERT, v_one=1, **given)
