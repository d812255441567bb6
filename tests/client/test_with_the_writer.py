"""A step in a pod and the writer that watches the pod record one execution, whoever comes first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mdstore
from mdstore.steps import identity as steps
from tests.client.reading import Stored, stored

EXAMPLE = Path(__file__).parents[2] / "examples" / "dag-artifacts"


def pods() -> list[tuple[str, str, str]]:
    """(workflow uid, namespace, node id) of each recorded pod."""
    found = set()
    for line in (EXAMPLE / "pods.jsonl").read_text().splitlines():
        pod = json.loads(line)["object"]
        for owner in pod["metadata"].get("ownerReferences", ()):
            node = pod["metadata"]["annotations"]["workflows.argoproj.io/node-id"]
            found.add((owner["uid"], pod["metadata"]["namespace"], node))
    return sorted(found)


def run_steps(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step in each pod would log: its node's template knows nothing of it."""
    for uid, namespace, node in pods():
        monkeypatch.setenv("ARGO_WORKFLOW_UID", uid)
        monkeypatch.setenv("ARGO_NODE_ID", node)
        monkeypatch.setenv("MDSTORE_NAMESPACE", namespace)
        with mdstore.run("whatever", store=store, strict=True) as step:
            step.log_metric("rows", 7)
            step.output("extra", f"s3://b/{node}", type="system.Dataset")
    steps._joined.clear()


def replay(store: str) -> None:
    command = [sys.executable, "-P", "-m", "mdstore", "writer", "replay", str(EXAMPLE), "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def read(store: str) -> Stored:
    with mdstore.connect(store) as client:
        return stored(client)


@pytest.mark.parametrize("first", ["writer", "step", "both twice"])
def test_a_step_and_the_writer_share_the_pods_execution(
    first: str, database: str, tmp_path: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = f"sqlite:///{tmp_path / 'alone.db'}"
    (tmp_path / "alone.db").write_bytes(empty.read_bytes())
    replay(alone)
    expected = read(alone)

    if first != "step":
        replay(database)
    run_steps(database, monkeypatch)
    if first != "writer":
        replay(database)
        run_steps(database, monkeypatch)
    found = read(database)

    assert len(pods()) == 3
    assert found.executions.keys() == expected.executions.keys()
    assert found.contexts.keys() == expected.contexts.keys()
    for uid, namespace, node in pods():
        key = f"default/{namespace}/{uid}/{node}"
        mine, writers = found.executions[key], expected.executions[key]
        assert (mine.state, mine.type) == (writers.state, writers.type)
        assert writers.custom_properties.items() <= mine.custom_properties.items()
        assert found.outputs[key].keys() == expected.outputs.get(key, {}).keys() | {"metrics", "extra"}
        assert found.artifacts[f"{key}/metrics"].custom_properties["rows"] == 7
    assert found.artifacts.keys() - expected.artifacts.keys() == {
        f"default/{namespace}/{uid}/{node}/{name}" for uid, namespace, node in pods() for name in ("metrics", "extra")
    }
