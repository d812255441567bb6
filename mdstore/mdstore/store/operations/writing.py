"""`Write`: nodes of all kinds in one transaction, if all that was expected of the store holds."""

from collections.abc import Sequence
from typing import Any

from mdstore.errors import FailedPrecondition, InvalidArgument
from mdstore.store import change_log
from mdstore.store.kinds import KINDS, Kind
from mdstore.store.operations import nodes as storing
from mdstore.store.operations import putting, references
from mdstore.store.transaction import Transaction
from mdstore.wire import nodes


def write(tx: Transaction, request: nodes.WriteRequest) -> nodes.WriteResponse:
    """`Write`.

    Raises:
        FailedPrecondition: something is not as expected; names the node, what was expected and what was found.
        MetadataError: as MLMD's Put RPCs.
    """
    change_log.sign(tx, request.origin or "write", request.actor)
    _check(tx, request.expected)
    response = nodes.WriteResponse()
    for kind in KINDS:
        getattr(response, f"{kind.label}_ids").extend(
            putting.put(
                tx,
                kind,
                getattr(request, kind.nodes_field),
                mask=frozenset(request.update_paths),
                # Of two writers that expect the same, one must win, even if both write what is there already.
                force_update_time=bool(request.expected),
            )
        )
    return response


def _check(tx: Transaction, expected: Sequence[nodes.Expectation]) -> None:
    if not expected:
        return
    ids = references.find(tx, [expectation.node for expectation in expected])
    for kind in KINDS:
        mine = [
            (expectation, node_id)
            for expectation, node_id in zip(expected, ids, strict=True)
            if references.kind_of(expectation.node.kind) is kind
        ]
        there = [node_id for _, node_id in mine if node_id is not None]
        if not mine:
            continue
        # Locked: what another program commits from here on must not be overwritten.
        times = storing.locked_times(tx, kind, there)
        seqs = (
            change_log.newest_changes(tx, kind.type_kind, there)
            if any(expectation.HasField("seq") for expectation, _ in mine)
            else {}
        )
        just_now = _changed_just_now(tx, kind)
        logged = change_log.times_in(tx, kind, seqs)
        for expectation, node_id in mine:
            _compare(expectation, node_id, times, seqs, logged, just_now)


def _changed_just_now(tx: Transaction, kind: Kind) -> set[int]:
    """What neighbours in this transaction have changed: their commits have no positions yet."""
    return {node.id for change in tx.earlier for node in getattr(change, kind.nodes_field)}


def _compare(
    expectation: nodes.Expectation,
    node_id: int | None,
    times: dict[int, int],
    seqs: dict[int, int],
    logged: dict[int, int],
    just_now: set[int],
) -> None:
    name = references.described(expectation.node)
    state: Any = expectation.WhichOneof("state")
    match state:
        case "absent":
            if not expectation.absent:
                raise InvalidArgument(f"an expectation of {name}: absent is true or not set")
            if node_id is not None:
                raise FailedPrecondition(f"expected no {name}, found the node {node_id}")
        case _ if node_id is None:
            raise FailedPrecondition(f"expected {name}, found none")
        case "last_update_time":
            found = times[node_id]
            if found != expectation.last_update_time:
                raise FailedPrecondition(
                    f"expected {name} as updated at {expectation.last_update_time}, found it updated at {found}: "
                    "read it again"
                )
        case "seq":
            seq = seqs.get(node_id)
            if node_id in just_now or seq != expectation.seq:
                # Only while a database is being taken in, a node that is there is in no commit.
                at = (
                    "just now" if node_id in just_now else f"in commit {seq}" if seq else "in none that the log has yet"
                )
                raise FailedPrecondition(
                    f"expected {name} as changed in commit {expectation.seq}, found it changed {at}: read it again"
                )
            if logged.get(node_id) != times[node_id]:
                raise FailedPrecondition(
                    f"expected {name} as changed in commit {seq}, and another program has changed it since: "
                    "read it again"
                )
        case _:
            # Only that it is there.
            return
