"""ML metadata and lineage: the wire and the database of ML Metadata (MLMD), and what its users asked for.

import mdstore
with mdstore.connect("grpc://127.0.0.1:8080") as store: ...
async with mdstore.connect_async("grpc://127.0.0.1:8080") as store: ...
with mdstore.run("train", pipeline="churn") as step: step.log_metric("accuracy", 0.9)
"""

# Without imports: the `mdstore` command begins here, and until it has begun Ctrl-C prints a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mdstore.client.connect import connect, connect_async
    from mdstore.client.retry import Retry
    from mdstore.steps.step import run

__all__ = ["Retry", "connect", "connect_async", "run"]

_WHERE = {
    "Retry": "mdstore.client.retry",
    "connect": "mdstore.client.connect",
    "connect_async": "mdstore.client.connect",
    "run": "mdstore.steps.step",
}


def __getattr__(name: str) -> object:
    # grpc takes 0.2 s to import, which the `mdstore` command need not wait for.
    if name in _WHERE:
        from importlib import import_module  # noqa: PLC0415 - as above

        found: object = getattr(import_module(_WHERE[name]), name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
