"""What `mdstore up` can start: each member of the workspace names its service, so that nobody below imports it.

A member registers a function in the entry-point group `mdstore.services`; `mdstore up` calls it with the plan of the
machine and starts what it returns as a child process, in the order of `after`. Subcommands of `mdstore` come in the
same way: the group `mdstore.commands` names typer applications (`writer = "mdstore_writer.commands:app"`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where things are when everything runs on one machine."""

    data: Path
    grpc_port: int
    http_port: int

    @property
    def database_url(self) -> str:
        """The store's database."""
        return f"sqlite:///{self.data / 'metadata.db'}"

    @property
    def store_url(self) -> str:
        """The store over gRPC."""
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def graph_url(self) -> str:
        """The lineage graph."""
        return f"sqlite:///{self.data / 'lineage.db'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One child process, `mdstore ARGUMENTS`, and how to tell that it is ready."""

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    ready_url: str | None = None
    """An HTTP address that answers 200 when the service is ready."""
    ready_port: int | None = None
    """Else: a TCP port on loopback that accepts connections."""
    ready_line: str | None = None
    """Else: a text that the service logs once it is ready."""
    environment: Mapping[str, str] = field(default_factory=dict)
    imports: tuple[str, ...] = ()
    """Modules that the command imports only once it runs: its process does so while it waits for those in `after`."""


ServiceFactory = Callable[[Plan], Service]
