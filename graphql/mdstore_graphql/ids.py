"""Global ids: one opaque text for every node of the API, made of its GraphQL type and its MLMD id.

MLMD's ids are unique per kind only; `node(id:)` needs one that says the kind too. Clients must not take them apart.
"""

import base64
import binascii
from enum import Enum

import strawberry

from mdstore.errors import InvalidArgument


class Kind(Enum):
    """The GraphQL types that have global ids. Runs and pipelines are both MLMD contexts."""

    ARTIFACT = "Artifact"
    EXECUTION = "Execution"
    RUN = "Run"
    PIPELINE = "Pipeline"


def global_id(kind: Kind, number: int) -> strawberry.ID:
    """The global id of the node of this kind with this MLMD id."""
    return strawberry.ID(base64.urlsafe_b64encode(f"{kind.value}:{number}".encode()).decode())


def parse_global_id(text: str) -> tuple[Kind, int]:
    """The kind and the MLMD id that a global id stands for.

    Raises:
        InvalidArgument: it is not one of ours.
    """
    try:
        kind, _, number = base64.b64decode(text, altchars=b"-_", validate=True).decode().partition(":")
        return Kind(kind), metadata_id(number)
    except (ValueError, binascii.Error, InvalidArgument):
        raise InvalidArgument(f"{text!r} is not a global id: take one from an `id` field of this API") from None


def expect_kind(text: str, *kinds: Kind) -> tuple[Kind, int]:
    """As `parse_global_id`, for an argument that takes only some kinds."""
    kind, number = parse_global_id(text)
    if kind not in kinds:
        wanted = " or ".join(each.value for each in kinds)
        raise InvalidArgument(f"{text!r} is the id of a {kind.value}, and a {wanted} is wanted")
    return kind, number


def metadata_id(text: str) -> int:
    """An MLMD id from the text that GraphQL's scalar ID is.

    Raises:
        InvalidArgument: it is no whole number from 1 to 2^63 - 1.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**63):
        raise InvalidArgument(f"{text!r} is not an MLMD id: write a whole number from 1 on")
    return int(text)
