"""What a transport tells the dispatcher of a call, and what bounds the calls."""

from dataclasses import dataclass
from typing import Any, Protocol

from mdstore.client.remote import MESSAGE_BYTES
from mdstore.store.rpcs import Rpc


class Caller(Protocol):
    """Who calls. Asked only when somebody wants to know, because a transport has to fetch it."""

    def peer(self) -> str:
        """The address, as "ipv4:127.0.0.1:4711"."""

    def client(self) -> str:
        """The address without the port: whoever shares it shares its limits and its turns."""

    def header(self, name: str) -> str:
        """A header or gRPC metadata by its lower-case name; "" when it was not sent."""


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the store's services."""

    path: str
    """Such as "/ml_metadata.MetadataStoreService/PutArtifacts"."""
    request: Any
    """The class of its request message."""
    streams: bool
    """It answers with a stream of messages."""
    rpc: Rpc | None
    """None for a stream, and for what answers UNIMPLEMENTED."""

    @property
    def name(self) -> str:
        """Without the leading slash, as metrics, traces and the access log have it."""
        return self.path[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What keeps one client from starving the rest. What is over a limit is answered with RESOURCE_EXHAUSTED."""

    calls: int = 2000
    """Under way at the same time."""
    client_calls: int = 500
    """Under way at the same time for one address."""
    queued_writes: int = 1000
    """Accepted and not yet on disk."""
    queued_bytes: int = 256 * 1024 * 1024
    """Of the requests of these writes; a single one may be larger."""
    write_items: int = 100_000
    """Nodes, events, links and types in one write."""
    message_bytes: int = MESSAGE_BYTES
    """Of one request or answer."""
    streams: int = 200
    """Followers of the change log and readers of snapshots."""
