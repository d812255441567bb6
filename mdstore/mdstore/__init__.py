"""ML metadata and lineage: the wire and the database of ML Metadata (MLMD), and what its users asked for.

import mdstore
with mdstore.connect("grpc://127.0.0.1:8080") as store: ...
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdstore.client.connect import connect

__all__ = ["connect"]


def __getattr__(name: str) -> object:
    # grpc takes 0.2 s to import, which the `mdstore` command need not wait for.
    if name == "connect":
        from mdstore.client.connect import connect  # noqa: PLC0415 - see above

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
