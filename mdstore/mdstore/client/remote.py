"""A store over gRPC, for those who wait and for asyncio."""

import os
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import Message

from mdstore.client import address, once
from mdstore.client.client import AsyncClient, Client
from mdstore.client.poller import keep_poller
from mdstore.client.retry import Retry
from mdstore.errors import MetadataError, from_grpc
from mdstore.wire import methods

SERVICE_FILES: Final = (
    "ml_metadata/proto/metadata_store_service.proto",
    "mdstore/v1/changes.proto",
    "mdstore/v1/ingestion.proto",
    "mdstore/v1/nodes.proto",
)
MESSAGE_BYTES: Final = 100 * 1024 * 1024
"""As much as Kubeflow Pipelines' client accepts; gRPC's own 4 MB break on long lists."""


_NOBODY: Final = ("failed to connect to all addresses", "DNS resolution failed")
"""How gRPC itself begins to say that nobody answers."""


class _Wire(NamedTuple):
    """A channel and what calls each method on it."""

    url: str
    """Without what follows host and port."""
    channel: Any
    unary: dict[str, Any]
    streams: dict[str, Any]


def _wire(grpc_or_aio: Any, url: str) -> _Wire:
    """Point `grpc` or `grpc.aio` at a server; the connection is made at the first call.

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
        channel = grpc_or_aio.insecure_channel(server.target, options=options)
    else:
        channel = grpc_or_aio.secure_channel(server.target, server.credentials, options=options)
    wire = _Wire(url.partition("?")[0], channel, {}, {})
    for file in SERVICE_FILES:
        for path, request, response, streams in methods(file):
            make = channel.unary_stream if streams else channel.unary_unary
            (wire.streams if streams else wire.unary)[path] = make(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
    return wire


def _error(wire: _Wire, error: grpc.RpcError) -> MetadataError:
    said = error.details() or str(error.code())
    if said.startswith(_NOBODY):
        said = f"no store answers at {wire.url} ({said})"
    found = from_grpc(error.code(), said)
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-retry-pushback-ms" and str(value).isdigit():
            found.retry_after(int(value))
    return found


class RemoteClient(Client):
    """A store over gRPC. A child of a process that has one may use it too: it gets a connection of its own."""

    def __init__(self, url: str, retry: Retry) -> None:
        """Point at `grpc://HOST:PORT` or `grpcs://HOST:PORT`; raises as `address.parse`."""
        super().__init__(retry)
        self._url = url
        self._pid = os.getpid()
        self._inherited: _Wire | None = None
        self._wire = _wire(grpc, url)

    def _own_wire(self) -> _Wire:
        if os.getpid() != self._pid:
            # A forked child has none of the threads that its parent's connection is served by. It is kept, since to
            # close it would be to wait for them.
            self._inherited, self._wire = self._wire, _wire(grpc, self._url)
            self._pid = os.getpid()
        return self._wire

    def _once(self, method: str, request: Message, timeout: float | None) -> Any:
        wire = self._own_wire()
        try:
            return wire.unary[method](request, timeout=timeout, metadata=once.metadata())
        except grpc.RpcError as error:
            raise _error(wire, error) from error

    def _stream(self, method: str, request: Message) -> Iterator[Any]:
        self._check_open()
        wire = self._own_wire()
        call = wire.streams[method](request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise _error(wire, error) from error
        finally:
            call.cancel()

    def _release(self) -> None:
        self._wire.channel.close()


class AsyncRemoteClient(AsyncClient):
    """A store over gRPC, on one event loop."""

    def __init__(self, url: str, retry: Retry) -> None:
        """Point at `grpc://HOST:PORT` or `grpcs://HOST:PORT`; raises as `address.parse`. On the event loop."""
        super().__init__(retry)
        keep_poller()
        self._wire = _wire(grpc.aio, url)

    async def _once(self, method: str, request: Message, timeout: float | None) -> Any:
        try:
            return await self._wire.unary[method](request, timeout=timeout, metadata=once.metadata())
        except grpc.RpcError as error:
            raise _error(self._wire, error) from error

    async def _stream(self, method: str, request: Message) -> AsyncGenerator[Any, None]:
        self._check_open()
        call = self._wire.streams[method](request)
        try:
            async for message in call:
                yield message
        except grpc.RpcError as error:
            raise _error(self._wire, error) from error
        finally:
            call.cancel()

    async def _release(self) -> None:
        await self._wire.channel.close()
