"""The metadata server of Kubeflow Pipelines: this project's, started as the original is; and the original.

It is a process on the node, at the address to which the Service `metadata-grpc-service` leads.
"""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster import recorded
from tests.databases.servers import MariaDBServer
from tests.needs import judge_python
from tests.up.processes import Running, mdstore, until

PEER: Final = Path(__file__).parents[2] / "bench" / "peer.py"
COMMAND: Final = Path(sys.executable).parent / "mdstore-metadata-store-server"
ADDRESS: Final = "10.88.0.1:8080"
URL: Final = f"grpc://{ADDRESS}"
HTTP_PORT: Final = 9090
SERVICE: Final = "ml_metadata.MetadataStoreService/"


class MetadataServer:
    """It runs until it is closed, and can be killed and started again in between."""

    def __init__(self, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it with the original's flags, beside `--grpc_port`."""
        self._command = [str(COMMAND), "--grpc_port=8080", *flags]
        self._environment = {**(environment or {}), "MDSTORE_HTTP_PORT": str(HTTP_PORT)}
        self._before: Counter[tuple[str, str]] = Counter()
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = Running(self._command, environment=self._environment)
        self.process.wait_for('"event": "serving"')

    def kill(self) -> None:
        """kill -9."""
        self._before = self.calls()
        self.process.send(signal.SIGKILL)
        self.process.end()

    def calls(self) -> Counter[tuple[str, str]]:
        """How many calls there were of each method with each code, from MLMD's clients and over all starts."""
        told = httpx.get(f"http://127.0.0.1:{HTTP_PORT}/metrics", timeout=10).text
        samples = (sample for family in text_string_to_metric_families(told) for sample in family.samples)
        return self._before + Counter({
            (sample.labels["method"].removeprefix(SERVICE), sample.labels["code"]): int(sample.value)
            for sample in samples
            if sample.name == "mdstore_calls_total" and sample.labels["method"].startswith(SERVICE)
        })  # fmt: skip

    def runs(self) -> dict[str, Any]:
        """What it says of all runs, by id; see `recorded.runs`."""
        # A process of its own: those threads of gRPC's that make connections may have begun outside of the namespace.
        asked = [sys.executable, "-m", recorded.__name__, URL]
        return dict(json.loads(subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send(signal.SIGTERM)
        try:
            self.process.end(seconds=20)
        finally:
            self.process.__exit__(kind, error, trace)


@contextmanager
def original(database: MariaDBServer, name: str) -> Iterator[None]:
    """The original library behind gRPC, which opens a store for each call as its own server does."""
    config = json.dumps(database.library_config(name))
    with Running([str(judge_python()), str(PEER), config, "fresh", "1", ADDRESS]) as process:
        # The socket is there before the library is.
        process.wait_for(r"\d+")
        until("the original's tables", lambda: database.execute(name, "SHOW TABLES LIKE 'MLMDEnv'"))
        yield
        assert process.process.poll() is None, process.printed


@contextmanager
def beside(server: str, database: str, folder: Path, kubeconfig: Path, namespace: str) -> Iterator[str]:
    """What else this project runs in an installation: writer, projector and GraphQL. Gives GraphQL's address."""
    watching = mdstore(
        *("writer", "watch", "--store", server, "--namespace", namespace), environment={"KUBECONFIG": str(kubeconfig)}
    )
    graph = f"sqlite:///{folder / 'graph.db'}"
    with watching, mdstore("lineage", "follow", "--store", server, "--graph", graph) as following:
        watching.wait_for('"event": "listed"', count=3)
        following.wait_for('"event": "caught up"')
        with mdstore("graphql", "serve", "--database", database, "--graph", graph, "--http-port", "0") as graphql:
            yield graphql.wait_for(r'"url": "([^"]+)"')[1]
            for process in (watching, following, graphql):
                assert process.process.poll() is None, process.printed
                assert "Traceback" not in process.printed, process.printed
