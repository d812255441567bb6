"""How an error is said: its code, its text, and when to try again, for gRPC and grpc-web alike."""

from typing import Final

from mdstore.errors import STATUS, MetadataError, Status

TEXT_BYTES: Final = 1000
"""Clients refuse headers of more than 8 KiB, and then nobody sees the error; each byte may travel as three."""


def status(error: MetadataError) -> Status:
    """The codes of an error."""
    return STATUS[type(error)]


def text(error: MetadataError) -> str:
    """The message, cut where it is too long to travel."""
    encoded = (str(error) or type(error).__name__).encode(errors="replace")
    if len(encoded) <= TEXT_BYTES:
        return encoded.decode()
    return f"{encoded[:TEXT_BYTES].decode(errors='ignore')}..."


def trailing_metadata(error: MetadataError) -> tuple[tuple[str, str | bytes], ...]:
    """The hint when to try again, in both forms that gRPC's clients understand; empty when there is none.

    `grpc-retry-pushback-ms` is obeyed by gRPC's own retry policy; `google.rpc.RetryInfo` is what Google's client
    libraries look for.
    """
    if error.retry_after_ms is None:
        return ()
    # Here, because most servers never refuse anything.
    from google.protobuf.duration_pb2 import Duration  # noqa: PLC0415
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    delay = Duration()
    delay.FromMilliseconds(error.retry_after_ms)
    details = status_pb2.Status(code=status(error).grpc.value[0], message=text(error))
    details.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return (
        ("grpc-retry-pushback-ms", str(error.retry_after_ms)),
        ("grpc-status-details-bin", details.SerializeToString()),
    )
