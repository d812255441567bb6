"""From commit to visible: how long after a write was acknowledged GraphQL shows it, and lineage shows it.

`mdstore up` runs with everything; one client writes an execution with an output and asks for it until it is there.
"""

import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

import mdstore
from bench import servers
from bench.tables import Figure, Sheet
from mdstore.wire import ingestion, mlmd

GOAL_MS = 200
LIST = "query($uri: String!) { artifacts(filter: {uri: $uri}) { edges { node { id } } } }"
LINEAGE = "query($of: [ID!]!) { lineage(of: $of, direction: UPSTREAM) { nodes { __typename } } }"


def write(store: Any, uri: str) -> None:
    request = ingestion.IngestRequest(origin="bench")
    artifact = ingestion.NodeKey(external_id=uri)
    execution = ingestion.NodeKey(external_id=f"{uri}/execution")
    request.artifacts.add(key=artifact, type="system.Artifact", uri=uri)
    request.executions.add(key=execution, type="system.ContainerExecution", state=mlmd.Execution.COMPLETE)
    request.events.add(execution=execution, artifact=artifact, type=mlmd.Event.OUTPUT)
    store.ingest(request)


def run(writes: int) -> Iterator[Sheet]:
    """Measure; gives one sheet."""
    listed, walked = [], []
    with tempfile.TemporaryDirectory(prefix="mdstore-bench-") as name:
        grpc_port, http_port = servers.free_port(), servers.free_port()
        ports = ("--grpc-port", str(grpc_port), "--http-port", str(http_port))
        command = (sys.executable, "-m", "mdstore", "up", "--data", str(Path(name) / "data"), *ports)
        with (
            servers.running(*command, port=http_port),
            mdstore.connect(f"grpc://127.0.0.1:{grpc_port}") as store,
            httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30) as http,
        ):
            for _ in range(writes):
                uri = f"s3://bench/{uuid.uuid4()}"
                write(store, uri)
                acknowledged = time.perf_counter()
                while (node := find(http, uri)) is None:
                    pass
                listed.append((time.perf_counter() - acknowledged) * 1000)
                while not walk(http, node):
                    pass
                walked.append((time.perf_counter() - acknowledged) * 1000)
    sheet = Sheet(
        title=f"From acknowledged commit to visible in GraphQL, {writes} writes, ms",
        headings=("where", "p50", "p95", "max"),
    )
    for label, times in (("list", listed), ("lineage", walked)):
        cuts = quantiles(times, n=20)
        figures = Figure(cuts[9], digits=1), Figure(cuts[18], at_most=GOAL_MS, digits=1), Figure(max(times), digits=1)
        sheet.rows.append((label, *figures))
    yield sheet


def ask(http: httpx.Client, query: str, **variables: object) -> Any:
    answer = http.post("/graphql", json={"query": query, "variables": variables}).json()
    return answer.get("data") if not answer.get("errors") else None


def find(http: httpx.Client, uri: str) -> str | None:
    data = ask(http, LIST, uri=uri)
    edges = data["artifacts"]["edges"] if data else []
    return edges[0]["node"]["id"] if edges else None


def walk(http: httpx.Client, node: str) -> bool:
    data = ask(http, LINEAGE, of=[node])
    return bool(data) and len(data["lineage"]["nodes"]) == 2
