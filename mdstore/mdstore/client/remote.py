"""A store over gRPC."""

from collections.abc import Iterator
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from mdstore.client import address
from mdstore.client.client import Client
from mdstore.errors import from_grpc
from mdstore.wire import changes, methods

SERVICE_FILES: Final = (
    "ml_metadata/proto/metadata_store_service.proto",
    "mdstore/v1/changes.proto",
    "mdstore/v1/ingestion.proto",
)
MESSAGE_BYTES: Final = 100 * 1024 * 1024
"""As much as Kubeflow Pipelines' client accepts; gRPC's own 4 MB break on long lists."""


class RemoteClient(Client):
    """A store over gRPC."""

    def __init__(self, url: str) -> None:
        """Point at `grpc://HOST:PORT` or `grpcs://HOST:PORT`; the connection is made at the first call.

        Raises:
            InvalidArgument: as `address.parse`.
        """
        server = address.parse(url)
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            # A client that waits for its server to come back should see it within a second.
            ("grpc.max_reconnect_backoff_ms", 1000),
            *server.options,
        ]
        if server.credentials is None:
            self._channel = grpc.insecure_channel(server.target, options=options)
        else:
            self._channel = grpc.secure_channel(server.target, server.credentials, options=options)
        self._unary: dict[str, Any] = {}
        self._streams: dict[str, Any] = {}
        for file in SERVICE_FILES:
            for path, request, response, streams in methods(file):
                make = self._channel.unary_stream if streams else self._channel.unary_unary
                into = self._streams if streams else self._unary
                into[path] = make(
                    path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
                )

    def _call(self, method: str, request: Message, timeout: float | None) -> Any:
        try:
            return self._unary[method](request, timeout=timeout)
        except grpc.RpcError as error:
            raise from_grpc(error.code(), error.details() or str(error.code())) from error

    def _stream(self, method: str, request: Message) -> Iterator[Any]:
        call = self._streams[method](request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise from_grpc(error.code(), error.details() or str(error.code())) from error
        finally:
            call.cancel()

    def follow(
        self, from_seq: int = 1, *, once: bool = False, max_commits: int = 0
    ) -> Iterator[changes.FollowResponse]:
        """The commits from position `from_seq` on, in order and without gaps; endless unless `once`."""
        request = changes.FollowRequest(from_seq=from_seq, once=once, max_commits=max_commits)
        return self._stream("/mdstore.v1.ChangeFeed/Follow", request)

    def snapshot(self, at_seq: int = 0) -> Iterator[changes.SnapshotResponse]:
        """Everything at one position, in pages; 0 is the newest position."""
        return self._stream("/mdstore.v1.ChangeFeed/Snapshot", changes.SnapshotRequest(at_seq=at_seq))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
