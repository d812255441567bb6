"""What writes will ask of the store, read before they run: for all of a group together, in one round trip.

That it is read ahead changes no answer: what is not known is read when it is asked for, and what an operation of the
group writes is known to the next ones.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdstore.store import tables
from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, KINDS, Kind
from mdstore.store.operations import links, nodes, types
from mdstore.store.sql import Statement, values
from mdstore.store.transaction import Row, Transaction
from mdstore.wire import service


def _by_kind() -> dict[Kind, set[int]]:
    return {kind: set() for kind in KINDS}


@dataclass(slots=True)
class Needs:
    """What some requests will ask for; anything may be missing, or too much."""

    types: set[int] = field(default_factory=set)
    contexts: set[tuple[int, str]] = field(default_factory=set)
    """(type id, name)."""
    nodes: dict[Kind, set[int]] = field(default_factory=_by_kind)
    """Those that are updated."""
    types_of: dict[Kind, set[int]] = field(default_factory=_by_kind)
    """Those of them whose types the request does not say."""
    existing: dict[Kind, set[int]] = field(default_factory=_by_kind)
    """Those that only must be there."""
    members: dict[Kind, set[int]] = field(default_factory=_by_kind)
    """Those that are put into contexts."""
    new: Counter[str] = field(default_factory=Counter)
    """Table -> how many rows it gets."""

    def add_nodes(self, kind: Kind, given: Iterable[Any]) -> None:
        """Need what creating and updating nodes asks for."""
        for node in given:
            if node.HasField("type_id"):
                self.types.add(node.type_id)
            if node.HasField("id"):
                self.nodes[kind].add(node.id)
                if not node.HasField("type_id"):
                    self.types_of[kind].add(node.id)
            else:
                self.new[kind.table.name] += 1


Foresee = Callable[[Needs, Any], None]
"""Adds what one request will ask for."""


def for_nodes(kind: Kind) -> Foresee:
    """What `Put*K*s` will ask for."""
    return lambda needs, request: needs.add_nodes(kind, getattr(request, kind.nodes_field))


def for_execution(needs: Needs, request: service.PutExecutionRequest) -> None:
    """What `PutExecution` will ask for."""
    pairs = request.artifact_event_pairs
    needs.add_nodes(EXECUTION, [request.execution])
    reuses = request.options.reuse_artifact_if_already_exist_by_external_id
    needs.add_nodes(
        ARTIFACT,
        [pair.artifact for pair in pairs if pair.HasField("artifact") and not (reuses and pair.artifact.external_id)],
    )
    needs.new[tables.EVENT.name] += sum(pair.HasField("event") for pair in pairs)
    needs.existing[ARTIFACT].update(pair.event.artifact_id for pair in pairs if not pair.HasField("artifact"))
    for context in request.contexts:
        needs.types.add(context.type_id)
        if context.HasField("id"):
            needs.nodes[CONTEXT].add(context.id)
        elif isinstance(context.name, str):  # else it is refused
            needs.contexts.add((context.type_id, context.name))
    if request.contexts:
        if request.execution.HasField("id"):
            needs.members[EXECUTION].add(request.execution.id)
        needs.members[ARTIFACT].update(
            pair.artifact.id or pair.event.artifact_id
            for pair in pairs
            if pair.artifact.HasField("id") or not pair.HasField("artifact")
        )


def for_events(needs: Needs, request: service.PutEventsRequest) -> None:
    """What `PutEvents` will ask for."""
    needs.existing[ARTIFACT].update(event.artifact_id for event in request.events)
    needs.existing[EXECUTION].update(event.execution_id for event in request.events)
    needs.new[tables.EVENT.name] += len(request.events)


def for_members(needs: Needs, request: service.PutAttributionsAndAssociationsRequest) -> None:
    """What `PutAttributionsAndAssociations` will ask for."""
    for kind, given in ((ARTIFACT, request.attributions), (EXECUTION, request.associations)):
        ids = {getattr(link, kind.owner) for link in given}
        needs.existing[kind] |= ids
        needs.members[kind] |= ids
        needs.existing[CONTEXT].update(link.context_id for link in given)


class Reading:
    """What is read ahead in one transaction."""

    def __init__(self, tx: Transaction, needs: Needs, *, requests: int) -> None:
        """Ask what so many requests need."""
        self._tx = tx
        questions, self._learners = _questions(tx, needs)
        self._asked = tx.asked(questions, needs.new, requests=requests)
        self.texts = self._asked.texts
        """Queries and their arguments."""

    def learn(self, found: list[Sequence[Row]]) -> None:
        """Let the transaction know the rows of each."""
        answers: list[Iterable[Row]] = list(self._tx.answered(self._asked, found)) if self.texts else []
        for learn in self._learners:
            learn(answers)


_Questions = list[tuple[Statement, Mapping[str, Any]]]
_Learners = list[Callable[[list[Iterable[Row]]], None]]


def _questions(tx: Transaction, needs: Needs) -> tuple[_Questions, _Learners]:
    questions: _Questions = []
    learners: _Learners = []

    def ask(learn: Callable[..., None], *asked: tuple[Statement, Mapping[str, Any]]) -> None:
        questions.extend(asked)
        learners.append(lambda found: learn(*(found.pop(0) for _ in asked)))

    known = tx.known
    if needs.types:
        ask(lambda rows: types.learn_from(tx, rows), (types.DECLARED, {"ids": values(needs.types)}))
    if needs.contexts:

        def learn_contexts(rows: Sequence[Row]) -> None:
            if not nodes.has_others(rows, needs.contexts):
                known.contexts.update(dict.fromkeys(needs.contexts))
            known.contexts.update(((row[0], row[1]), row[2]) for row in rows if (row[0], row[1]) in needs.contexts)

        ask(learn_contexts, (nodes.ids_by_names(CONTEXT), nodes.by_names(needs.contexts)))
    for kind in KINDS:
        if ids := needs.nodes[kind]:

            def learn_nodes(rows: Iterable[Row], properties: Iterable[Row], kind: Kind = kind) -> None:
                found = {node.id: node for node in nodes.messages_of(kind, rows, properties)}
                known.nodes[kind].update(found)
                known.existing[kind].update(found)

            ask(
                learn_nodes,
                (nodes.locked_by_ids(kind), {"ids": values(ids)}),
                (nodes.locked_properties_by_ids(kind), {"ids": values(ids)}),
            )
        # Where types are asked for anyway, they are these ones most of the time.
        if (ids := needs.types_of[kind]) and not needs.types:
            ask(lambda rows: types.learn_from(tx, rows), (types.declared_of(kind), {"ids": values(ids)}))
        if ids := needs.existing[kind]:

            def learn_existing(rows: Iterable[Row], kind: Kind = kind) -> None:
                known.existing[kind].update(row[0] for row in rows)

            ask(learn_existing, (links.existing(kind), {"ids": values(ids)}))
        if ids := needs.members[kind]:
            known.contexts_of[kind].update((node_id, set()) for node_id in ids)

            def learn_members(rows: Iterable[Row], kind: Kind = kind) -> None:
                for node_id, context_id in rows:
                    known.contexts_of[kind][node_id].add(context_id)

            ask(learn_members, (links.contexts_by_ids(kind), {"ids": values(ids)}))
    return questions, learners
