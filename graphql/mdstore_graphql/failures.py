"""What a client sees of an error, and what only the log does.

Every error has `extensions.code`: for a `MetadataError` its code of `mdstore.errors.STATUS`, for a query that GraphQL
itself refuses INVALID_ARGUMENT. Anything else is a fault of ours: logged once with its traceback, and shown as INTERNAL
without a word about its cause.
"""

from typing import Any

import structlog
from graphql import GraphQLError

from mdstore.errors import STATUS, Internal, InvalidArgument, MetadataError

log = structlog.get_logger()

MASKED = "the server failed to answer this; its log says why"


def formatted(error: GraphQLError) -> dict[str, Any]:
    """An error as the response shows it."""
    shown: dict[str, Any] = dict(error.formatted)
    cause = _cause(error)
    if cause is None:
        code = STATUS[InvalidArgument].code
    elif isinstance(cause, MetadataError):
        code = STATUS[type(cause)].code
        shown["message"] = str(cause)
    else:
        code = STATUS[Internal].code
        shown["message"] = MASKED
    shown["extensions"] = {**shown.get("extensions", {}), "code": code}
    return shown


def log_unexpected(error: GraphQLError) -> None:
    """Log an error that is a fault of ours; others are the client's matter."""
    cause = _cause(error)
    if cause is None or isinstance(cause, MetadataError):
        return
    path = ".".join(str(step) for step in error.path or ())
    log.error("failed to answer", path=path, exc_info=cause)


def _cause(error: GraphQLError) -> Exception | None:
    """What went wrong below GraphQL; None when GraphQL itself says no."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        cause = cause.original_error
    return cause
