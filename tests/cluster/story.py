"""Runs the story: eight workflows of four pipelines over two days, whose lineage crosses runs.

The order is part of it: each workflow reads what earlier ones left in S3 and in the memoization cache. As a module it
tells the story on the cluster that `start.sh` started: `in.sh .venv/bin/python -m tests.cluster.story`.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.cluster import driver
from tests.cluster.driver import Cluster

TEMPLATES = Path(__file__).parent / "story" / "templates.yaml"
FINAL_PHASES = frozenset({"Succeeded", "Failed", "Error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One workflow to start, and the phase in which it has to end."""

    name: str
    template: str
    parameters: dict[str, str]
    ends: str = "Succeeded"
    team: str = "growth"
    labels: dict[str, str] = field(default_factory=dict)

    def manifest(self) -> str:
        arguments = [{"name": name, "value": value} for name, value in self.parameters.items()]
        return json.dumps({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": self.name, "labels": {"team": self.team, **self.labels}},
            "spec": {"workflowTemplateRef": {"name": self.template}, "arguments": {"parameters": arguments}},
        })  # fmt: skip


STORY: Final = (
    Launch(name="customers-data-nov18", template="customers-data", parameters={"day": "2026-11-18", "seed": "7"}),
    Launch(name="churn-train-nov18", template="churn-train", parameters={"day": "2026-11-18"}),
    Launch(
        name="churn-release-nov18",
        template="churn-release",
        parameters={"day": "2026-11-18", "training-run": "churn-train-nov18"},
    ),
    Launch(name="fraud-train-nov18", template="fraud-train", parameters={"day": "2026-11-18"}, team="risk"),
    Launch(
        name="customers-data-nov19",
        template="customers-data",
        parameters={"day": "2026-11-19", "seed": "8", "columns": "id,tenure,complaints,churned"},
        ends="Failed",
    ),
    Launch(
        name="customers-data-nov19-again",
        template="customers-data",
        parameters={"day": "2026-11-19", "seed": "8"},
        labels={"workflows.argoproj.io/resubmitted-from-workflow": "customers-data-nov19"},
    ),
    Launch(
        name="churn-train-nov18-wide",
        template="churn-train",
        parameters={"day": "2026-11-18", "epochs": "200", "rates": "[0.02,0.2]"},
    ),
    Launch(
        name="churn-release-nov19",
        template="churn-release",
        parameters={"day": "2026-11-19", "training-run": "churn-train-nov18-wide", "threshold": "0.99"},
    ),
)


def tell(cluster: Cluster, *, heard: Callable[[str, str, float], None]) -> None:
    """Run the workflows one after the other, then delete them; `heard(name, phase, seconds)` after each.

    Raises:
        RuntimeError: a workflow took more than three minutes or ended in another phase than the story's.
    """
    cluster.kubectl("apply", "-f", str(TEMPLATES))
    for launch in STORY:
        begun = time.monotonic()
        cluster.kubectl("create", "-f", "-", stdin=launch.manifest())
        while (phase := _phase(cluster, launch.name)) not in FINAL_PHASES:
            if time.monotonic() - begun > 180:
                raise RuntimeError(f"{launch.name} is {phase or 'not begun'} after 180 s")
            time.sleep(0.5)
        heard(launch.name, phase, time.monotonic() - begun)
        if phase != launch.ends:
            raise RuntimeError(f"{launch.name} is {phase}; the story has it {launch.ends}")
    cluster.kubectl("delete", "workflows", "--all", "--wait=true", "--timeout=60s")


def _phase(cluster: Cluster, name: str) -> str:
    return cluster.kubectl("get", "workflow", name, "-o", "jsonpath={.status.phase}")


if __name__ == "__main__":
    tell(
        Cluster(
            admin_kubeconfig=driver.FOLDER / "admin.kubeconfig",
            writer_kubeconfig=driver.FOLDER / "writer.kubeconfig",
            logs=driver.FOLDER / "logs",
        ),
        heard=lambda name, phase, seconds: print(f"{name}: {phase} after {seconds:.0f} s", flush=True),
    )
