"""`connect(url)` and `connect_async(url)`: one client for every way to reach a store."""

import importlib
from collections.abc import Generator
from types import TracebackType
from typing import Any, Final, Protocol, cast

from mdstore.client.client import AsyncClient, Client
from mdstore.client.remote import AsyncRemoteClient, RemoteClient
from mdstore.client.retry import Retry
from mdstore.errors import InvalidArgument, Unavailable
from mdstore.redaction import shown

_DEFAULT: Final = Retry()


class _LocalStore(Protocol):
    def open_local(self, url: str, retry: Retry) -> Client: ...

    async def open_local_async(self, url: str, retry: Retry) -> AsyncClient: ...


def connect(url: str, *, retry: Retry = _DEFAULT) -> Client:
    """Open a store.

    Args:
        url: `grpc://HOST:PORT` for a server, `grpcs://HOST:PORT?ca=FILE` for one with TLS (`address.parse`), or the
            database itself as SQLAlchemy writes it (`sqlite:///FILE`), which is then opened in this process and needs
            `mdstore[server]`.
        retry: which calls are made again when the store is away for a moment or another writer won; by default reads
            and idempotent writes (`mdstore.client.retry`).

    Raises:
        InvalidArgument: the URL is none of these.
        Unavailable: what it names cannot be opened.
        FailedPrecondition: the database's schema is not one that this version opens.
    """
    return RemoteClient(url, retry) if _is_remote(url) else _local(url).open_local(url, retry)


def connect_async(url: str, *, retry: Retry = _DEFAULT) -> "Connecting":
    """Open a store for asyncio, in an `async with` block or with `await`.

    Arguments and errors are those of `connect`; the errors come from the `async with` or the `await`.
    """
    return Connecting(url, retry)


class Connecting:
    """A store that is being opened."""

    def __init__(self, url: str, retry: Retry) -> None:
        """Nothing is done before it is awaited."""
        self._url = url
        self._retry = retry
        self._client: AsyncClient | None = None

    async def _connect(self) -> AsyncClient:
        if _is_remote(self._url):
            return AsyncRemoteClient(self._url, self._retry)
        return await _local(self._url).open_local_async(self._url, self._retry)

    def __await__(self) -> Generator[Any, Any, AsyncClient]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncClient:
        self._client = await self._connect()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()


def _is_remote(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise InvalidArgument(
            f"{shown(url)!r} is no store's URL: write grpc://HOST:PORT for a server, or its database's "
            "(sqlite:///FILE, postgresql://..., mysql://...)"
        )
    return scheme in {"grpc", "grpcs"}


def _local(url: str) -> _LocalStore:
    # By name, so that a step which logs over gRPC needs neither SQLAlchemy nor any other part of the server.
    try:
        return cast("_LocalStore", importlib.import_module("mdstore.store.local"))
    except ImportError as error:
        raise Unavailable(f"opening {shown(url)!r} in this process needs mdstore[server]: {error}") from error
