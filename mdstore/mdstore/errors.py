"""What can go wrong with a store, as one small tree, and the table of protocol codes.

    MetadataError
    ├── InvalidArgument       the request can never work as it is
    ├── NotFound              no node, type or run has this id or name
    ├── AlreadyExists         a unique name, external id or link is taken
    ├── FailedPrecondition    the store is not in the state that the request needs
    ├── Aborted               lost a race; the same request may work now
    ├── OutOfRange            an index points past its list
    ├── Unimplemented         this server does not do that
    ├── Unavailable           the store cannot be reached now; try again later
    ├── ResourceExhausted     a limit is reached: queue, message, disk
    ├── DeadlineExceeded      the caller's time was over
    ├── Cancelled             the caller gave up
    ├── DataLoss              the database holds what cannot be
    ├── PermissionDenied      the caller may not
    ├── Unauthenticated       the caller is not known
    └── Internal              a fault of the server

A message names the thing, what is wrong with it, and what to do. Whoever serves a protocol catches `MetadataError` once
and looks the code up in `STATUS`; anything else is a fault of ours.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Self

import grpc


class MetadataError(Exception):
    """The root of all errors that a store answers with."""

    retry_after_ms: int | None = None
    """The same request may work after so long; None when nothing is known about that."""

    def retry_after(self, ms: int) -> Self:
        """This error, with a hint when to try again."""
        self.retry_after_ms = ms
        return self


class InvalidArgument(MetadataError):
    """The request can never work as it is."""


class NotFound(MetadataError):
    """No node, type or run has this id or name."""


class AlreadyExists(MetadataError):
    """A unique name, external id or link is taken."""


class FailedPrecondition(MetadataError):
    """The store is not in the state that the request needs."""


class Aborted(MetadataError):
    """Lost a race; the same request may work now."""


class OutOfRange(MetadataError):
    """An index points past its list."""


class Unimplemented(MetadataError):
    """This server does not do that."""


class Unavailable(MetadataError):
    """The store cannot be reached now; try again later."""


class ResourceExhausted(MetadataError):
    """A limit is reached: queue, message, disk."""


class DeadlineExceeded(MetadataError):
    """The caller's time was over."""


class Cancelled(MetadataError):
    """The caller gave up."""


class DataLoss(MetadataError):
    """The database holds what cannot be."""


class PermissionDenied(MetadataError):
    """The caller may not."""


class Unauthenticated(MetadataError):
    """The caller is not known."""


class Internal(MetadataError):
    """A fault of the server."""


class Status(NamedTuple):
    """How the protocols say an error."""

    grpc: grpc.StatusCode
    http: int
    code: str


STATUS: Final[Mapping[type[MetadataError], Status]] = {
    InvalidArgument: Status(grpc.StatusCode.INVALID_ARGUMENT, 400, "INVALID_ARGUMENT"),
    NotFound: Status(grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND"),
    AlreadyExists: Status(grpc.StatusCode.ALREADY_EXISTS, 409, "ALREADY_EXISTS"),
    FailedPrecondition: Status(grpc.StatusCode.FAILED_PRECONDITION, 409, "FAILED_PRECONDITION"),
    Aborted: Status(grpc.StatusCode.ABORTED, 409, "ABORTED"),
    OutOfRange: Status(grpc.StatusCode.OUT_OF_RANGE, 400, "OUT_OF_RANGE"),
    Unimplemented: Status(grpc.StatusCode.UNIMPLEMENTED, 501, "UNIMPLEMENTED"),
    Unavailable: Status(grpc.StatusCode.UNAVAILABLE, 503, "UNAVAILABLE"),
    ResourceExhausted: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "RESOURCE_EXHAUSTED"),
    DeadlineExceeded: Status(grpc.StatusCode.DEADLINE_EXCEEDED, 504, "DEADLINE_EXCEEDED"),
    Cancelled: Status(grpc.StatusCode.CANCELLED, 499, "CANCELLED"),
    DataLoss: Status(grpc.StatusCode.DATA_LOSS, 500, "DATA_LOSS"),
    PermissionDenied: Status(grpc.StatusCode.PERMISSION_DENIED, 403, "PERMISSION_DENIED"),
    Unauthenticated: Status(grpc.StatusCode.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
    Internal: Status(grpc.StatusCode.INTERNAL, 500, "INTERNAL"),
}

_BY_GRPC: Final = {status.grpc: error for error, status in STATUS.items()}


def from_grpc(code: grpc.StatusCode, message: str) -> MetadataError:
    """The error that a gRPC status stands for; an unknown code is `Internal`."""
    return _BY_GRPC.get(code, Internal)(message)
