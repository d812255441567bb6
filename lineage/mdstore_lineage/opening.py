"""`open_graph(url)`: the lineage graph wherever it is kept."""

from pathlib import Path
from typing import Final

from mdstore.errors import InvalidArgument
from mdstore.vocabulary import ContextRoles
from mdstore_lineage.embedded.graph import EmbeddedGraph
from mdstore_lineage.graph import LineageGraph

_FILE: Final = "sqlite:///"


def open_graph(url: str, roles: ContextRoles | None = None) -> LineageGraph:
    """Open a lineage graph, to follow a store into it or to ask it.

    Args:
        url: `sqlite:///FILE` (four slashes before an absolute path); the file is made when there is none.
        roles: which context types are runs; `ContextRoles.default()` when left out.

    Raises:
        InvalidArgument: the URL is none of these.
        Unavailable: the file or its folder cannot be opened.
        PermissionDenied: it cannot be written to.
        FailedPrecondition: it is no lineage graph, or one of a newer format.
    """
    if not url.startswith("sqlite:"):
        raise InvalidArgument(f"{url!r} is no lineage graph's URL: write sqlite:///FILE")
    file = url.removeprefix(_FILE)
    if file == url or file in {"", ":memory:"}:
        raise InvalidArgument(f"{url!r} names no file, and a lineage graph is read by other processes: sqlite:///FILE")
    return EmbeddedGraph(Path(file), roles or ContextRoles.default())
