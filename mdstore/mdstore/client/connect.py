"""`connect(url)`: one client for every way to reach a store."""

import importlib
from typing import Protocol, cast

from mdstore.client.client import Client
from mdstore.client.remote import RemoteClient
from mdstore.errors import InvalidArgument, Unavailable


class _LocalStore(Protocol):
    def open_local(self, url: str) -> Client: ...


def connect(url: str) -> Client:
    """Open a store.

    Args:
        url: `grpc://HOST:PORT` for a server, `grpcs://HOST:PORT?ca=FILE` for one with TLS (`address.parse`), or the
            database itself as SQLAlchemy writes it (`sqlite:///FILE`), which is then opened in this process and needs
            `mdstore[server]`.

    Raises:
        InvalidArgument: the URL is none of these.
        Unavailable: what it names cannot be opened.
        FailedPrecondition: the database's schema is not one that this version opens.
    """
    scheme, colon, _ = url.partition(":")
    if scheme in {"grpc", "grpcs"}:
        return RemoteClient(url)
    if not colon:
        raise InvalidArgument(f"{url!r} is no store's URL: write grpc://HOST:PORT or sqlite:///FILE")
    # By name, so that a step which logs over gRPC needs neither SQLAlchemy nor any other part of the server.
    try:
        local = importlib.import_module("mdstore.store.local")
    except ImportError as error:
        raise Unavailable(f"opening {url!r} in this process needs mdstore[server]: {error}") from error
    return cast("_LocalStore", local).open_local(url)
