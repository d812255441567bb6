"""Finds what another program, such as the C++ library, has written to MLMD's tables, and puts it into the change log.

Such a writer leaves no log, but its rows are behind our marks (`marks.py`). A sweep reads them, leaves out what our own
commits since then have brought, and logs the rest with origin "external", a page a commit, in the transaction that
moves the marks: killed at any moment, it has either been done or not.

A small sweep looks for new types, nodes and links. On SQLite it runs in the writer's transaction before its operations
whenever another connection has committed, which costs one PRAGMA to know: so a commit of ours that uses somebody else's
node never comes before the node. A whole sweep also looks for changes of types, of old nodes and of links between old
contexts; it runs when the store is opened and from time to time.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any, Final

from sqlalchemy import Table, bindparam, exists, or_, select

from mdstore.store import bootstrapping, change_log, compaction, marks, pages, tables
from mdstore.store.change_log import PAGE, PARENTS, TYPES, Entry, Head
from mdstore.store.gaps import LOOK_BACK, Gaps
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from mdstore.store.marks import Marks
from mdstore.store.operations import links, nodes, types
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction
from mdstore.wire import changes

ORIGIN: Final = "external"
LATE_MS: Final = 60_000
"""How long after the time that it writes into a row a transaction may commit, and how far clocks may differ."""

MARK_EVERY: Final = 5000
"""Commits of ours after which the marks move: so many are read again, at most, when somebody else writes."""

_Link = tuple[int, ...]


@dataclass(slots=True)
class _Logged:
    """What the commits behind the marks hold."""

    events: set[_Link] = field(default_factory=set)
    members: dict[Kind, set[_Link]] = field(default_factory=lambda: {ARTIFACT: set(), EXECUTION: set()})
    parents: set[_Link] = field(default_factory=set)
    parents_gone: int = 0


class Reconciler:
    """The sweeps of one database. Threads: belongs to the writer's, and is used inside its transactions."""

    def __init__(self) -> None:
        """Nothing is known; the first sweep is a whole one."""
        self._version: int | None = None
        self._whole_version: int | None = None
        self._times: dict[Kind, dict[int, int]] = {kind: {} for kind in KINDS}
        """Of each kind: id -> update time of the newest image in the log, for nodes that were updated lately."""
        self._types: dict[tuple[int, int], Any] = {}
        """(type kind, id) -> what the log says of the type."""
        self._bootstrapped = False
        self._marked = 0
        """Where the marks are in the log."""
        self._seen = 0
        """Up to where in the log what is remembered of times and types is true."""
        self._gaps = Gaps({name: table for name, table in marks.TABLES.items() if name != "type"})
        self._looked_back = False

    def is_due(self, version: int | None, seq: int | None) -> bool:
        """Whether somebody else has written since the last sweep, or so much of ours that the marks should move.

        Args:
            version: the database's; None when it has none.
            seq: the newest position, if it is known.
        """
        return version is not None and (version != self._version or (seq or 0) - self._marked > MARK_EVERY)

    def small(self, tx: Transaction, head: Head | None, version: int | None) -> Head | None:
        """Log new types, nodes and links; returns the new head, or None when there was nothing."""
        self._gaps.begin()
        if version is not None and version == self._whole_version:
            return self.whole(tx, head, version)
        return self._sweep(tx, head or change_log.head(tx), version, whole=False)

    def whole(self, tx: Transaction, head: Head | None, version: int | None) -> Head | None:
        """Log everything that the log lacks; returns the new head, or None when there was nothing.

        Costs two statements when the database's version says that nobody else has written since the last one. While a
        bootstrap goes on it is a small one: the log does not know yet which old nodes have changed.
        """
        self._gaps.begin()
        head = head or change_log.head(tx)
        if not self._bootstrapped and not bootstrapping.state(tx).is_done:
            return self._sweep(tx, head, version, whole=False)
        self._bootstrapped = True
        if version is None or version != self._whole_version:
            return self._sweep(tx, head, version, whole=True)
        # All that is there is ours: the next sweep need not look at it again.
        before = marks.read(tx)
        if before is not None and before.seq != head.seq:
            marks.put(tx, marks.now(tx, head.seq))
        self._marked = head.seq
        return None

    def failed(self, version: int | None) -> None:
        """After a sweep that could not be done: only the next whole one tries again."""
        self.forget()
        self._version = version

    def forget(self) -> None:
        """After a rollback: what the last sweep found is not in the log."""
        self._version = self._whole_version = None
        self._looked_back = False
        self._forget_images()
        self._gaps.forget()

    def _forget_images(self) -> None:
        self._times = {kind: {} for kind in KINDS}
        self._types = {}

    def _sweep(self, tx: Transaction, head: Head, version: int | None, *, whole: bool) -> Head | None:
        before = marks.read(tx)
        if before is None or before.seq > head.seq:
            before = marks.now(tx, head.seq)
            marks.put(tx, before)
        top = marks.now(tx, head.seq, parents=None if whole else before.parents)
        newest = head
        logged = self._read_log(tx, before.seq, whole=whole)
        late = self._late(tx, before, whole=whole) if version is None else {}
        for page in self._missing(tx, before, top, logged, late, whole=whole):
            newest = change_log.append(tx, [Entry(ORIGIN, "", page)], newest) or newest
        if whole:
            self._whole_version = version
        else:
            # These are for the whole sweep, which has not been.
            top = replace(
                top, artifact_ms=before.artifact_ms, execution_ms=before.execution_ms, context_ms=before.context_ms
            )
            top = replace(top, parents=before.parents + len(logged.parents) - logged.parents_gone)
        if version is None:
            for name in self._gaps.names:
                self._gaps.look(tx, name, getattr(before, name), getattr(top, name))
        self._version = version
        self._marked = self._seen = newest.seq
        moved = replace(top, seq=newest.seq)
        if moved != before:
            marks.put(tx, moved)
        return newest if newest is not head else None

    def _read_log(self, tx: Transaction, seq: int, *, whole: bool) -> _Logged:
        logged = _Logged()
        # What was there before the log is not behind the marks.
        for position, change in change_log.payloads_since(tx, self._read_from(tx, seq), without=bootstrapping.ORIGIN):
            self._remember(change, times=whole)
            if position <= seq:
                continue
            logged.events.update((event.artifact_id, event.execution_id, event.type) for event in change.events)
            logged.members[ARTIFACT].update((link.context_id, link.artifact_id) for link in change.attributions)
            logged.members[EXECUTION].update((link.context_id, link.execution_id) for link in change.associations)
            logged.parents.update((link.child_id, link.parent_id) for link in change.parent_contexts)
            for gone in (*change.deleted_artifacts, *change.deleted_executions, *change.deleted_contexts):
                logged.parents_gone += gone.parent_contexts
        return logged

    def _read_from(self, tx: Transaction, seq: int) -> int:
        """Behind which position to read for what is behind the marks at `seq`, and for what is remembered.

        The marks may have moved without this process: another one sweeps too, and a sweep that finds the database as
        it was reads nothing. What is remembered from before would differ from the tables, and look like a change.
        """
        if self._seen >= seq or not (self._types or any(self._times.values())):
            return seq
        compacted = compaction.newest(tx)
        if seq - self._seen > MARK_EVERY or (compacted is not None and compacted.seq > self._seen):
            self._forget_images()
            return seq
        return self._seen

    def _late(self, tx: Transaction, before: Marks, *, whole: bool) -> Mapping[str, Sequence[int]]:
        """Ids below the marks whose rows came after these had passed."""
        found = self._gaps.filled(tx)
        if not whole or self._looked_back:
            return found
        # Gaps are known to the process that saw them: what came since another one ended, the log tells.
        self._looked_back = True
        for kind in KINDS:
            mark = getattr(before, kind.label)
            rows = tx.rows(_unlogged(kind), after=mark - LOOK_BACK, last=mark, with_kind=kind.type_kind)
            found[kind.label] = sorted({row[0] for row in rows}.union(found[kind.label]))
        for name, table in marks.LINKS.items():
            ends = {kind: found[kind.label] for kind in KINDS if kind.owner in table.c}
            if any(ends.values()):
                asked = {f"{kind.label}_ids": values(ids) for kind, ids in ends.items()}
                rows = tx.rows(_linked(name), last=getattr(before, name), **asked)
                found[name] = sorted({row[0] for row in rows}.union(found[name]))
        return found

    def _remember(self, change: changes.Changes, *, times: bool = True) -> None:
        for kind in KINDS:
            for node in getattr(change, kind.nodes_field):
                if times:
                    self._times[kind][node.id] = node.last_update_time_since_epoch
                else:
                    # Only a whole sweep forgets old times again, so only it may fill the memory.
                    self._times[kind].pop(node.id, None)
            for type_ in getattr(change, f"{kind.label}_types"):
                self._types[kind.type_kind, type_.id] = _essence(type_)

    def _missing(
        self,
        tx: Transaction,
        before: Marks,
        top: Marks,
        logged: _Logged,
        late: Mapping[str, Sequence[int]],
        *,
        whole: bool,
    ) -> Iterator[changes.Changes]:
        """What the log lacks, in the order in which it must be logged."""
        if whole or top.type != before.type:
            yield from self._missing_types(tx)
        new: dict[Kind, set[int]] = {kind: set() for kind in KINDS}
        for kind in KINDS:
            lower, upper = getattr(before, kind.label), getattr(top, kind.label)
            for page in _new_nodes(tx, kind, lower, upper, late.get(kind.label, ())):
                new[kind].update(node.id for node in getattr(page, kind.nodes_field))
                self._remember(page, times=whole)
                yield page
        if whole:
            for kind in KINDS:
                yield from self._updated_nodes(tx, kind, before)
        yield from _new_events(tx, before, top, logged, new, late.get("event", ()))
        for kind in (ARTIFACT, EXECUTION):
            yield from _new_members(tx, kind, before, top, logged, new, late)
        if new[CONTEXT]:
            yield from _parents_of(tx, new[CONTEXT], logged)
        if whole and top.parents != before.parents + len(logged.parents) - logged.parents_gone:
            yield from _all_parents(tx)

    def _missing_types(self, tx: Transaction) -> Iterator[changes.Changes]:
        page = changes.Changes()
        for kind in KINDS:
            stored = types.of_ids(tx, kind, pages.type_ids(tx, kind))
            self._look_up_types(tx, kind, [type_.id for type_ in stored])
            lacking = [type_ for type_ in stored if self._types.get((kind.type_kind, type_.id)) != _essence(type_)]
            getattr(page, f"{kind.label}_types").extend(lacking)
        self._remember(page)
        yield page

    def _look_up_types(self, tx: Transaction, kind: Kind, ids: Sequence[int]) -> None:
        unknown = [type_id for type_id in ids if (kind.type_kind, type_id) not in self._types]
        newest = change_log.newest_changes(tx, TYPES + kind.type_kind, unknown)
        for commit in change_log.commits_at(tx, newest.values()):
            for type_ in getattr(changes.Changes.FromString(commit.changes), f"{kind.label}_types"):
                if newest.get(type_.id) == commit.seq:
                    self._types[kind.type_kind, type_.id] = _essence(type_)

    def _updated_nodes(self, tx: Transaction, kind: Kind, before: Marks) -> Iterator[changes.Changes]:
        times = self._times[kind]
        # A clock that was put back writes times from before the mark.
        since = min(getattr(before, f"{kind.label}_ms"), tx.now_ms()) - LATE_MS
        for rows in _updated_since(tx, kind, since):
            self._look_up_times(tx, kind, [row[0] for row in rows if row[0] not in times])
            lacking = [node_id for node_id, at_ms in rows if times.get(node_id) != at_ms]
            for found in change_log.portions(nodes.by_ids(tx, kind, lacking)):
                page = changes.Changes()
                getattr(page, kind.nodes_field).extend(found)
                self._remember(page)
                yield page
        self._times[kind] = {node_id: at_ms for node_id, at_ms in times.items() if at_ms >= since}

    def _look_up_times(self, tx: Transaction, kind: Kind, ids: Sequence[int]) -> None:
        newest = change_log.newest_changes(tx, kind.type_kind, ids)
        self._times[kind].update(change_log.times_in(tx, kind, newest))


def _essence(type_: Any) -> tuple[Any, ...]:
    """What of a type matters; that a text is empty or not set is the same in the database."""
    return (
        type_.name,
        type_.version,
        type_.description,
        type_.external_id,
        type_.base_type if "base_type" in type_.DESCRIPTOR.fields_by_name else 0,
        frozenset(type_.properties.items()),
    )


def _pages(tx: Transaction, statement: Statement, after: int = 0, **given: int) -> Iterator[Sequence[Any]]:
    while rows := tx.rows(statement, after=after, most=PAGE, **given):
        yield rows
        after = rows[-1][0]


def _chunks(ids: Sequence[int]) -> Iterator[set[int]]:
    return (set(ids[start : start + PAGE]) for start in range(0, len(ids), PAGE))


@cache
def _new_ids(kind: Kind) -> Statement:
    column = kind.table.c.id
    return Statement(
        lambda: (
            select(column)
            .where(column > bindparam("after"), column <= bindparam("last"))
            .order_by(column)
            .limit(bindparam("most"))
        )
    )


def _new_nodes(tx: Transaction, kind: Kind, after: int, last: int, late: Sequence[int]) -> Iterator[changes.Changes]:
    pages = _pages(tx, _new_ids(kind), after, last=last) if after != last else iter(())
    for ids in chain(_chunks(late), ({row[0] for row in rows} for rows in pages)):
        lacking = ids - change_log.newest_changes(tx, kind.type_kind, ids).keys()
        for found in change_log.portions(nodes.by_ids(tx, kind, lacking)):
            page = changes.Changes()
            getattr(page, kind.nodes_field).extend(found)
            getattr(page, f"created_{kind.label}_ids").extend(node.id for node in found)
            yield page


@cache
def _unlogged(kind: Kind) -> Statement:
    column, change = kind.table.c.id, tables.CHANGE.c
    in_log = exists().where(change.kind == bindparam("with_kind"), change.id == column)
    return Statement(lambda: select(column).where(column > bindparam("after"), column <= bindparam("last"), ~in_log))


@cache
def _linked(name: str) -> Statement:
    table = marks.LINKS[name]
    ends = [OneOf(table.c[kind.owner], f"{kind.label}_ids") for kind in KINDS if kind.owner in table.c]
    return Statement(lambda: select(table.c.id).where(table.c.id <= bindparam("last"), or_(*ends)))


@cache
def _updated(kind: Kind) -> Statement:
    table = kind.table.c
    at_ms = table.last_update_time_since_epoch
    # In the order of times: in that of ids, SQLite would go through all that there is.
    return Statement(
        lambda: (
            select(table.id, at_ms)
            .where(at_ms >= bindparam("at"), or_(at_ms > bindparam("at_too"), table.id > bindparam("after")))
            .order_by(at_ms, table.id)
            .limit(bindparam("most"))
        )
    )


def _updated_since(tx: Transaction, kind: Kind, since: int) -> Iterator[Sequence[Any]]:
    """Rows (id, update time) of nodes that were updated after a time, in pages."""
    at, after = since + 1, 0
    while rows := tx.rows(_updated(kind), at=at, at_too=at, after=after, most=PAGE):
        yield rows
        after, at = rows[-1]


_E = tables.EVENT.c
_NEW_EVENTS: Final = Statement(
    lambda: (
        select(_E.id, _E.artifact_id, _E.execution_id, _E.type, _E.milliseconds_since_epoch)
        .where(_E.id > bindparam("after"), _E.id <= bindparam("last"))
        .order_by(_E.id)
        .limit(bindparam("most"))
    )
)


_LATE_EVENTS: Final = Statement(
    lambda: (
        select(_E.id, _E.artifact_id, _E.execution_id, _E.type, _E.milliseconds_since_epoch)
        .where(OneOf(_E.id, "ids"))
        .order_by(_E.id)
    )
)


def _new_events(
    tx: Transaction, before: Marks, top: Marks, logged: _Logged, new: dict[Kind, set[int]], late: Sequence[int]
) -> Iterator[changes.Changes]:
    pages = _pages(tx, _NEW_EVENTS, before.event, last=top.event) if before.event != top.event else iter(())
    for rows in chain((tx.rows(_LATE_EVENTS, ids=values(ids)) for ids in _chunks(late)), pages):
        lacking = [
            row
            for row in rows
            # An event of ours that came before its node was known is logged again: whoever follows had no use for it.
            if tuple(row[1:4]) not in logged.events or row[1] in new[ARTIFACT] or row[2] in new[EXECUTION]
        ]
        if lacking:
            yield changes.Changes(events=links.event_messages(tx, lacking))


@cache
def _new_pairs(kind: Kind) -> Statement:
    table: Table = tables.ATTRIBUTION if kind is ARTIFACT else tables.ASSOCIATION
    return Statement(
        lambda: (
            select(table.c.id, table.c.context_id, table.c[kind.owner])
            .where(table.c.id > bindparam("after"), table.c.id <= bindparam("last"))
            .order_by(table.c.id)
            .limit(bindparam("most"))
        )
    )


@cache
def _late_pairs(kind: Kind) -> Statement:
    table: Table = tables.ATTRIBUTION if kind is ARTIFACT else tables.ASSOCIATION
    return Statement(
        lambda: select(table.c.id, table.c.context_id, table.c[kind.owner]).where(OneOf(table.c.id, "ids"))
    )


def _new_members(
    tx: Transaction,
    kind: Kind,
    before: Marks,
    top: Marks,
    logged: _Logged,
    new: dict[Kind, set[int]],
    late: Mapping[str, Sequence[int]],
) -> Iterator[changes.Changes]:
    name = "attribution" if kind is ARTIFACT else "association"
    after, last = getattr(before, name), getattr(top, name)
    pages = _pages(tx, _new_pairs(kind), after, last=last) if after != last else iter(())
    filled = (tx.rows(_late_pairs(kind), ids=values(ids)) for ids in _chunks(late.get(name, ())))
    for rows in chain(filled, pages):
        page = changes.Changes()
        for _, context, node in rows:
            if (context, node) not in logged.members[kind] or context in new[CONTEXT] or node in new[kind]:
                getattr(page, f"{name}s").add(**{"context_id": context, kind.owner: node})
        yield page


_PC = tables.PARENT_CONTEXT.c
_TOUCHING: Final = Statement(
    lambda: select(_PC.context_id, _PC.parent_context_id).where(
        or_(OneOf(_PC.context_id, "ids"), OneOf(_PC.parent_context_id, "ids_too"))
    )
)


def _page_of_parents(pairs: Iterable[Sequence[int]]) -> changes.Changes:
    page = changes.Changes()
    for child, parent in pairs:
        page.parent_contexts.add(child_id=child, parent_id=parent)
    return page


def _parents_of(tx: Transaction, contexts: Collection[int], logged: _Logged) -> Iterator[changes.Changes]:
    ordered = sorted(contexts)
    seen: set[_Link] = set()
    for start in range(0, len(ordered), PAGE):
        asked = values(ordered[start : start + PAGE])
        found = {tuple(row) for row in tx.rows(_TOUCHING, ids=asked, ids_too=asked)} - seen
        seen |= found
        yield _page_of_parents(sorted(found))
    logged.parents |= seen


def _all_parents(tx: Transaction) -> Iterator[changes.Changes]:
    """Compare all links between contexts with the log: rarely needed, when old contexts were linked."""
    child = parent = 0
    while rows := tx.rows(pages.PARENTS, child=child, child_too=child, parent=parent, most=PAGE):
        child, parent = rows[-1]
        seqs = change_log.changes_of(tx, PARENTS, {row[0] for row in rows})
        known = {
            (link.child_id, link.parent_id)
            for commit in change_log.commits_at(tx, seqs)
            for link in changes.Changes.FromString(commit.changes).parent_contexts
        }
        yield _page_of_parents(row for row in rows if tuple(row) not in known)
