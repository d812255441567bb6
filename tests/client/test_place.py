"""Where a step runs: what Argo and Kubeflow tell a container, read as they tell it."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mdstore.steps.place import KubeflowTask, Place, find

EXAMPLES = Path(__file__).parents[2] / "examples"
ARGO = {"ARGO_NODE_ID": "train-x2k-123", "ARGO_WORKFLOW_UID": "uid-1", "MDSTORE_NAMESPACE": "pipelines"}
NONE: Sequence[Sequence[str]] = ()


def place(environment: dict[str, str], *commands: Sequence[str], namespace_file: Path = Path("/nonexistent")) -> Place:
    return find(environment, iter(commands), namespace_file)


def launcher_commands() -> list[tuple[str, list[str]]]:
    """Of the recorded pods that run a user's container under Kubeflow's launcher: run id and command line."""
    found = []
    for scenario in ("kfp-lineage-demo", "kfp217-failing-demo"):
        for line in (EXAMPLES / scenario / "pods.jsonl").read_text().splitlines():
            pod = json.loads(line)["object"]
            run_id = pod["metadata"].get("labels", {}).get("pipeline/runid")
            for container in (pod.get("spec") or {}).get("containers") or []:
                command = [*container.get("command", []), *container.get("args", [])]
                if any(word.endswith("/launch") for word in command):
                    found.append((run_id, command))
    return found


def test_without_a_workflow_there_is_nothing_to_join() -> None:
    assert place({}) == Place()
    assert not place({}).is_workflow


def test_a_pod_of_argos_is_called_what_the_writer_calls_it() -> None:
    found = place(ARGO)

    assert found.pod == "default/pipelines/uid-1/train-x2k-123"
    assert found.run_id == "uid-1"
    assert place({**ARGO, "MDSTORE_CLUSTER": "east"}).pod == "east/pipelines/uid-1/train-x2k-123"


def test_the_namespace_is_that_of_the_service_account(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    file.write_text("team-a\n")
    environment = {name: value for name, value in ARGO.items() if name != "MDSTORE_NAMESPACE"}

    assert place(environment, namespace_file=file).pod == "default/team-a/uid-1/train-x2k-123"
    assert place(environment).pod is None
    assert place(environment).run_id == "uid-1"


def test_the_workflows_uid_may_come_as_the_run_id() -> None:
    environment = {**ARGO, "MDSTORE_RUN_ID": "uid-1"}
    del environment["ARGO_WORKFLOW_UID"]

    assert place(environment).pod == "default/pipelines/uid-1/train-x2k-123"


def test_who_was_told_to_be_part_of_another_run_does_not_join_the_pod() -> None:
    found = place({**ARGO, "MDSTORE_RUN_ID": "nightly"})

    assert (found.run_id, found.pod) == ("nightly", None)


def test_every_recorded_launcher_names_its_task() -> None:
    commands = launcher_commands()
    assert len(commands) > 20

    for run_id, command in commands:
        found = place({"ARGO_NODE_ID": "n"}, ["python3", "step.py"], ["sh", "-c", "x"], command)
        assert found.kubeflow is not None
        assert (found.run_id, found.kubeflow.run_id) == (run_id, run_id)
        assert found.kubeflow.execution_id == int(command[command.index("--execution_id") + 1])
        assert found.pod is None


def test_options_of_the_users_own_command_are_not_the_launchers() -> None:
    command = ["/kfp-launcher/launch", "--run_id", "r", "--execution_id", "7", "--", "x", "--run_id", "mine"]

    assert place({"ARGO_NODE_ID": "n"}, command).kubeflow == KubeflowTask(run_id="r", execution_id=7, pipeline=None)


def test_a_launcher_without_a_task_is_none() -> None:
    assert place({"ARGO_NODE_ID": "n"}, ["/kfp-launcher/launch", "--copy", "/x"]).kubeflow is None
    assert place({"ARGO_NODE_ID": "n"}, ["launch", "--run_id", "r", "--execution_id", "x"]).kubeflow is None


@pytest.mark.parametrize(("given", "attempt"), [("3", 3), ("", None), ("x", None), ("-1", None)])
def test_the_attempt_is_a_number(given: str, attempt: int | None) -> None:
    assert place({"MDSTORE_ATTEMPT": given}).attempt == attempt


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="reads /proc")
def test_a_real_process_below_a_launcher_finds_its_task(tmp_path: Path) -> None:
    launch = tmp_path / "launch"
    launch.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\nsubprocess.run(sys.argv[sys.argv.index('--') + 1:])\n"
    )
    launch.chmod(0o755)
    script = "import os; from mdstore.steps.place import find; print(find(os.environ).kubeflow)"
    command = [launch, "--pipeline_name", "p", "--run_id", "r-1", "--execution_id", "42", "--"]

    done = subprocess.run(
        [*command, "sh", "-c", f'{sys.executable} -c "{script}"; true'],
        env={**os.environ, "ARGO_NODE_ID": "n"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "KubeflowTask(run_id='r-1', execution_id=42, pipeline='p')", done.stderr
