"""The scalars that GraphQL does not bring along: moments, positions in the change log, JSON."""

from datetime import UTC, datetime
from typing import Final, NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from mdstore.values import JSON

Json = NewType("Json", object)
"""A property's value or a map of them; see `mdstore.values.JSON`."""

Position = NewType("Position", int)
"""A place in the store's change log, which may outgrow GraphQL's 32-bit Int."""


def moment(ms: int) -> datetime | None:
    """Milliseconds since the Unix epoch as a moment in UTC.

    None for 0, which is how MLMD says that it is not known, and for what is no date: a client may store any number.
    """
    try:
        return datetime.fromtimestamp(ms / 1000, UTC) if ms else None
    except (ValueError, OverflowError, OSError):
        return None


def moment_from_property(value: JSON) -> datetime | None:
    """A custom property that holds a time (`mdstore.vocabulary.Property`); None when it holds anything else."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.astimezone(UTC) if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def milliseconds(at: datetime) -> int:
    """Milliseconds since the Unix epoch."""
    return round(at.timestamp() * 1000)


def sortable(at: datetime) -> str:
    """A moment as times are kept in custom properties, without the final Z.

    Text is compared there: without the Z this sorts directly before the same moment, so that it serves both as the
    inclusive lower and as the exclusive upper bound of a range.
    """
    return _iso(at).removesuffix("Z")


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_moment(value: object) -> datetime:
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
        # OverflowError: the first and the last day that there are, in another zone.
        moment_in_utc = parsed.astimezone(UTC) if parsed is not None and parsed.tzinfo is not None else None
    except (ValueError, OverflowError):
        moment_in_utc = None
    if moment_in_utc is None:
        raise GraphQLError(f"{value!r} is not a moment: write ISO 8601 with a zone, as 2026-01-31T08:00:00Z")
    return moment_in_utc


def _parse_position(value: object) -> Position:
    # bool is an int in Python and not in GraphQL.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise GraphQLError(f"{value!r} is not a position: write a whole number from 0 on")
    return Position(value)


SCALARS: Final[dict[object, ScalarDefinition]] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in ISO 8601 with milliseconds, in UTC: `2026-01-31T08:00:00.000Z`. "
        "As an argument it may be in any zone, but must name it.",
        specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        serialize=_iso,
        parse_value=_parse_moment,
    ),
    Position: strawberry.scalar(
        name="Position",
        description="A place in the store's change log: a whole number of up to 63 bits, growing by one per commit.",
        parse_value=_parse_position,
    ),
    Json: strawberry.scalar(name="JSON", description="Any JSON value."),
}
