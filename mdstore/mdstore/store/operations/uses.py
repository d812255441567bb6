"""Which version of what is at a location an execution used, found when the use is recorded.

A version is an artifact at that URI; `ingestion.proto` says at `UseRecord` which one is taken. "Newest" is by id: the
order in which the store saw them, whatever the clocks of those who wrote them say.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, bindparam, select

from mdstore.errors import InvalidArgument
from mdstore.store import tables
from mdstore.store.kinds import ARTIFACT
from mdstore.store.operations import nodes
from mdstore.store.sql import OneOf, Statement, values
from mdstore.store.transaction import Transaction
from mdstore.values import INPUTS, OUTPUTS
from mdstore.vocabulary import ARTIFACT as ARTIFACT_TYPE
from mdstore.vocabulary import Property
from mdstore.wire import ingestion, mlmd

_PAGE: Final = 100
_MOST_VERSIONS: Final = 1_000
"""Versions at one location that are looked through, newest first."""

_A = tables.ARTIFACT.c
_E = tables.EVENT.c
_NEWEST: Final = Statement(
    lambda: (
        select(_A.id)
        .where(_A.uri == bindparam("at_uri"), _A.id < bindparam("below", type_=BigInteger()))
        .order_by(_A.id.desc())
        .limit(bindparam("most"))
    )
)
_LINKED: Final = Statement(
    lambda: (
        select(_E.execution_id, _E.type, _E.artifact_id)
        .select_from(tables.EVENT.join(tables.ARTIFACT, _A.id == _E.artifact_id))
        .where(OneOf(_E.execution_id, "execution_ids"), OneOf(_A.uri, "uris"))
    )
)


@dataclass(slots=True)
class Found:
    """What the uses of a request are uses of."""

    unknown: list[ingestion.NodeRecord] = field(default_factory=list)
    """Artifacts to make, for versions that the store does not know."""
    _uses: list[tuple[int, ingestion.UseRecord, int]] = field(default_factory=list)

    def events(self, made: Sequence[int]) -> Iterator[mlmd.Event]:
        """The INPUT events, once the artifacts in `unknown` have the ids `made`."""
        for execution_id, use, version in self._uses:
            event = mlmd.Event(
                execution_id=execution_id,
                artifact_id=version if version >= 0 else made[-version - 1],
                type=mlmd.Event.INPUT,
            )
            if use.name:
                event.path.steps.add(key=use.name)
            if use.time_ms:
                event.milliseconds_since_epoch = use.time_ms
            yield event

    def add(self, execution_id: int, use: ingestion.UseRecord, version: int) -> None:
        """A use of an artifact that is there."""
        self._uses.append((execution_id, use, version))

    def add_unknown(self, execution_id: int, use: ingestion.UseRecord, external_id: str) -> None:
        """A use of a version that is not there yet; the place in `unknown`, below zero, stands for its id."""
        record = ingestion.NodeRecord(
            key=ingestion.NodeKey(external_id=external_id),
            type=use.type or ARTIFACT_TYPE,
            uri=use.uri,
            state=mlmd.Artifact.LIVE,
            default_custom_properties=use.default_custom_properties,
        )
        if use.digest:
            record.default_custom_properties[Property.DIGEST].string_value = use.digest
        self.unknown.append(record)
        self._uses.append((execution_id, use, -len(self.unknown)))


def resolve(tx: Transaction, uses: Sequence[tuple[int, ingestion.UseRecord]], events: Sequence[mlmd.Event]) -> Found:
    """Find the versions.

    Args:
        tx: inside of which the executions are, and the artifacts that the same request made.
        uses: each with its execution's id.
        events: those of the same request, which are not there yet: what an execution makes it does not use.

    Raises:
        InvalidArgument: a use has no URI.
    """
    if any(not use.uri for _, use in uses):
        raise InvalidArgument("a use needs the uri of what was used")
    used: dict[int, set[int]] = defaultdict(set)
    own: dict[int, set[int]] = defaultdict(set)
    linked = tx.rows(
        _LINKED, execution_ids=values({pair[0] for pair in uses}), uris=values({use.uri for _, use in uses})
    )
    coming = ((event.execution_id, event.type, event.artifact_id) for event in events)
    for execution_id, event_type, artifact_id in (*linked, *coming):
        if event_type in INPUTS:
            used[execution_id].add(artifact_id)
        elif event_type in OUTPUTS:
            own[execution_id].add(artifact_id)
    found = Found()
    there: dict[str, Sequence[Any]] = {}
    for execution_id, use in uses:
        # An input that is an output as well was there before it was written.
        mine = own[execution_id] - used[execution_id]
        if use.uri not in there:
            # What stands for a version that nobody was seen to make is older than all that somebody was.
            there[use.uri] = sorted(_versions(tx, use.uri), key=_is_unknown)
        versions = [version for version in there[use.uri] if version.id not in mine]
        fitting = [version for version in versions if _digest(version) in {"", use.digest} or not use.digest]
        if any(version.id in used[execution_id] for version in fitting):
            continue
        version = _choose(fitting, use)
        if version is not None:
            found.add(execution_id, use, version.id)
            continue
        unknown = f"uri:{use.uri}"
        is_taken = any(version.external_id == unknown for version in there[use.uri])
        found.add_unknown(execution_id, use, f"{unknown}#{use.digest}" if is_taken and use.digest else unknown)
    return found


def _versions(tx: Transaction, uri: str) -> Iterator[Any]:
    """The artifacts at a URI, newest first."""
    below = 2**63 - 1
    for _ in range(_MOST_VERSIONS // _PAGE):
        ids = [row[0] for row in tx.rows(_NEWEST, at_uri=uri, below=below, most=_PAGE)]
        yield from reversed(nodes.by_ids(tx, ARTIFACT, ids))
        if len(ids) < _PAGE:
            return
        below = ids[-1]


def _choose(versions: Sequence[Any], use: ingestion.UseRecord) -> Any | None:
    if use.digest:
        same = [version for version in versions if _digest(version)]
        # Equal bytes are the surest sign; only without them is the newest taken.
        versions = same or versions
    if not use.as_of_ms:
        return next(iter(versions), None)
    by_then = (version for version in versions if _finished_ms(version) <= use.as_of_ms)
    return next(by_then, versions[-1] if versions else None)


def _is_unknown(version: Any) -> bool:
    return bool(version.external_id.startswith(f"uri:{version.uri}"))


def _digest(version: Any) -> str:
    properties = version.custom_properties
    return str(properties[Property.DIGEST].string_value) if Property.DIGEST in properties else ""


def _finished_ms(version: Any) -> int:
    """When a version was finished: what its producer says, else when it was recorded."""
    properties = version.custom_properties
    if Property.PRODUCED_AT in properties:
        try:
            produced = datetime.fromisoformat(properties[Property.PRODUCED_AT].string_value)
            return int(produced.timestamp() * 1000)
        except (ValueError, OverflowError):
            pass
    return int(version.create_time_since_epoch)
