"""Kubeflow Pipelines 2.0.5 on the cluster: starts it, and runs pipelines through its API server as its SDK does.

What it finds where its metadata server belongs, the Service `metadata-grpc-service`, is a process on the node, which
`metadata.py` starts. Its own database is a MariaDB of the tests.
"""

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.cluster import driver
from tests.cluster.driver import Cluster
from tests.databases.servers import MariaDBServer

NAMESPACE: Final = "kubeflow"
PIPELINES: Final = Path(__file__).parent / "pipelines"
FINAL: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})

Run = Mapping[str, Any]
"""A run as the API server tells it, `/apis/v2beta1/runs/{run_id}`."""


class Database(MariaDBServer):
    """MariaDB that pods reach, with the user of Kubeflow's API server."""

    def _prepare(self) -> None:
        super()._prepare()
        with (self.folder / "users.sql").open("a") as file:
            file.write("CREATE USER IF NOT EXISTS kfp IDENTIFIED BY 'kfp';\nGRANT ALL ON *.* TO kfp;\n")

    def _command(self) -> list[str | Path]:
        # All addresses are those of the cluster's network namespace, none of which exists outside.
        return [*super()._command(), "--bind-address=0.0.0.0"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeflow:
    """A running Kubeflow Pipelines. To be used inside of the cluster's network namespace."""

    cluster: Cluster
    database: Database
    api: httpx.Client

    def submit(self, pipeline: str, **parameters: object) -> str:
        """Start a pipeline of `pipelines/`; returns the run's id."""
        specification = yaml.safe_load((PIPELINES / f"{pipeline}.yaml").read_text())
        body = {
            "display_name": pipeline,
            "pipeline_spec": specification,
            "runtime_config": {"parameters": parameters},
        }
        return str(self._answer(self.api.post("/runs", json=body))["run_id"])

    def end(self, run_id: str, *, seconds: float = 300) -> Run:
        """The run after its end.

        Raises:
            AssertionError: it has none in time; with its pods.
        """
        deadline = time.monotonic() + seconds
        while (run := self._answer(self.api.get(f"/runs/{run_id}"))).get("state") not in FINAL:
            pods = "" if time.monotonic() < deadline else self.cluster.kubectl("get", "pods", "--namespace", NAMESPACE)
            assert not pods, f"{run_id} is {run.get('state')} after {seconds} s\n{pods}"
            time.sleep(0.5)
        return run

    @staticmethod
    def _answer(response: httpx.Response) -> Run:
        assert response.status_code == 200, response.text
        answer: Run = response.json()
        return answer


@contextmanager
def running(cluster: Cluster) -> Iterator[Kubeflow]:
    """Kubeflow Pipelines, started; the calling thread is in the cluster's network namespace meanwhile.

    Raises:
        RuntimeError: it did not start; with what was said.
    """
    with driver.inside(), Database(durable=False) as database:
        started = subprocess.run(
            [driver.HERE / "start-kfp.sh", str(database.port)], capture_output=True, text=True, timeout=180, check=False
        )
        if started.returncode != 0:
            raise RuntimeError(f"Kubeflow Pipelines did not start: {started.stdout[-2000:]}{started.stderr[-2000:]}")
        with httpx.Client(base_url=f"{started.stdout.strip()}/apis/v2beta1", timeout=30) as api:
            yield Kubeflow(cluster=cluster, database=database, api=api)
