"""ML metadata and lineage: the wire and the database of ML Metadata (MLMD), and what its users asked for.

import mdstore
with mdstore.connect("grpc://127.0.0.1:8080") as store: ...
"""

from mdstore.client.connect import connect

__all__ = ["connect"]
