"""Taking what a database held before it had a change log into the log, while others already read and write.

Opening such a database logs its types, sets the marks (`marks.py`) as if everything were in the log, and notes a place.
Then page after page is logged with origin "bootstrap", each a transaction of its own, which moves the place, too:
killed at any moment, it goes on from there. Several processes on one database share the work.

What is true meanwhile:
- A write logs itself, as always. So a change of a node, or a link to it, may come before the page that has the node;
  the page then shows the node as it is by then, and links come again on pages behind those of all nodes.
- Sweeps find what other programs add, which is behind the marks. Their changes of old nodes are found by the first
  whole sweep after the end, whose marks of times are still those of the beginning.
- What the store held at a position is not known from the log before the bootstrap's end.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, insert, select, update

from mdstore.store import change_log, marks, pages, tables
from mdstore.store.change_log import Entry
from mdstore.store.kinds import KINDS
from mdstore.store.pages import END, Pages, Place
from mdstore.store.sql import Statement
from mdstore.store.transaction import Transaction
from mdstore.wire import changes

ORIGIN: Final = "bootstrap"
NODES: Final = 1000
LINKS: Final = 5000
"""Of a commit, at most. Larger than pages for readers: each waits for the disk."""

_B = tables.BOOTSTRAP.c
_READ: Final = Statement(lambda: select(_B.part, _B.after_id, _B.after_too, _B.seq))
_MOVE: Final = Statement(
    lambda: update(tables.BOOTSTRAP).values(
        part=bindparam("v_part"),
        after_id=bindparam("v_after"),
        after_too=bindparam("v_after_too"),
        seq=bindparam("v_seq"),
    )
)
_BEGIN: Final = Statement(lambda: insert(tables.BOOTSTRAP).values(one=1, part=0, after_id=0, after_too=0, seq=0))


@dataclass(frozen=True, slots=True)
class State:
    """How far it is."""

    place: Place
    complete_from: int | None
    """The position from which on the log knows everything; None while that is not reached."""

    @property
    def is_done(self) -> bool:
        """Whether everything is in the log."""
        return self.complete_from is not None


def state(tx: Transaction) -> State:
    """How far it is. A store that has no place logged everything in its first transaction."""
    rows = tx.rows(_READ)
    if not rows:
        return State(END, 0)
    part, after, after_too, seq = rows[0]
    return State(Place(part, after, after_too), seq or None)


def begin(tx: Transaction, added: changes.Changes) -> None:
    """Log what opening a database found or made: of an empty log its types, of one that has begun `added`.

    Nodes and links are left for `Bootstrap.step`, unless there are none.
    """
    newest = change_log.head(tx)
    is_new = newest.seq == 0
    page = pages.of_types(tx) if is_new else added
    newest = change_log.append(tx, [Entry(ORIGIN, "", page)], newest) or newest
    if is_new:
        now = marks.now(tx, newest.seq)
        marks.put(tx, now)
        if not tx.rows(_READ):
            tx.run(_BEGIN)
        is_empty = not any(getattr(now, kind.label) for kind in KINDS)
        _note(tx, State(END, newest.seq) if is_empty else State(Place(), None))
    elif marks.read(tx) is None:
        marks.put(tx, marks.now(tx, newest.seq))


def _note(tx: Transaction, state: State) -> None:
    place = state.place
    tx.run(_MOVE, v_part=place.part, v_after=place.after, v_after_too=place.after_too, v_seq=state.complete_from or 0)


class Bootstrap:
    """The steps of one process. Threads: `step` belongs to the writer's."""

    def __init__(self) -> None:
        """Nothing is known; each step reads the place."""
        self._pages = Pages(most_nodes=NODES, most_links=LINKS)

    def step(self, tx: Transaction, _request: None) -> State:
        """Log one page, in a commit of its own; when there is none, note that everything is in the log.

        An operation for the writer, of which one transaction must not hold two.
        """
        tx.origin = ORIGIN
        before = state(tx)
        if before.is_done:
            return before
        self._pages.place = before.place
        page = changes.Changes()
        while not page.ListFields() and self._pages.place != END:
            page = self._pages.next(tx)
        _keep_created_once(tx, page)
        # A page becomes a commit after this: only a later step knows that the last one's is there.
        after = State(self._pages.place, None if page.ListFields() else change_log.head(tx).seq)
        tx.changes = page
        _note(tx, after)
        return after


def _keep_created_once(tx: Transaction, page: changes.Changes) -> None:
    """What was created since the beginning came with the commit that says so, and not with a page."""
    for kind in KINDS:
        name = f"created_{kind.label}_ids"
        ids = getattr(page, name)
        if not ids:
            continue
        earlier = change_log.commits_at(tx, change_log.changes_of(tx, kind.type_kind, ids))
        known = {node_id for commit in earlier for node_id in getattr(changes.Changes.FromString(commit.changes), name)}
        if not known.isdisjoint(ids):
            kept = [node_id for node_id in ids if node_id not in known]
            del ids[:]
            ids.extend(kept)
