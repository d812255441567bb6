"""Where a step runs, as far as that decides what it is called in the store.

In a pod of Argo's or Kubeflow's a step joins the execution that the metadata-writer or Kubeflow's launcher records of
the same pod, under their key (`docs/vocabulary.md`), so that one piece of work is one execution.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

_NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_LAUNCHERS: Final = frozenset({"launch", "launcher-v2"})
_ANCESTORS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeflowTask:
    """The task of Kubeflow Pipelines v2 whose launcher started this process."""

    run_id: str
    execution_id: int
    """In the store that Kubeflow's own components write to."""
    pipeline: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the environment says."""

    run_id: str | None = None
    """The run that this process is part of, if it says."""
    pod: str | None = None
    """The external id under which the writer records Argo's node that this process runs for."""
    namespace: str | None = None
    kubeflow: KubeflowTask | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    attempt: int | None = None

    @property
    def is_workflow(self) -> bool:
        """Somebody else records the run: the writer, or Kubeflow's launcher."""
        return self.pod is not None or self.kubeflow is not None


def find(
    environment: Mapping[str, str],
    commands: Iterator[Sequence[str]] | None = None,
    namespace_file: Path = _NAMESPACE_FILE,
) -> Place:
    """Read where this process runs.

    Args:
        environment: its variables.
        commands: the command lines of its ancestors, nearest first; None to look them up.
        namespace_file: where Kubernetes tells a pod its namespace.
    """
    namespace = _first(environment, "MDSTORE_NAMESPACE", "ARGO_NAMESPACE", "POD_NAMESPACE") or _read(namespace_file)
    given, node = environment.get("MDSTORE_RUN_ID") or None, environment.get("ARGO_NODE_ID") or None
    attempt = environment.get("MDSTORE_ATTEMPT", "")
    kubeflow = kubeflow_task(_ancestors() if commands is None else commands) if node else None
    workflow = environment.get("ARGO_WORKFLOW_UID") or given
    run_id = given or (kubeflow.run_id if kubeflow is not None else workflow)
    pod = None
    if kubeflow is not None:
        # A process that was told to be part of another run is no part of this one.
        kubeflow = kubeflow if run_id == kubeflow.run_id else None
    elif node and namespace and workflow and workflow == run_id:
        cluster = environment.get("MDSTORE_CLUSTER") or "default"
        pod = f"{cluster}/{namespace}/{workflow}/{node}"
    in_pod = node is not None or "KUBERNETES_SERVICE_HOST" in environment
    return Place(
        run_id=run_id,
        pod=pod,
        namespace=namespace,
        kubeflow=kubeflow,
        pod_name=_first(environment, "KFP_POD_NAME", "ARGO_POD_NAME", *(["HOSTNAME"] if in_pod else [])),
        pod_uid=_first(environment, "KFP_POD_UID", "ARGO_POD_UID"),
        attempt=int(attempt) if attempt.isascii() and attempt.isdigit() else None,
    )


def kubeflow_task(commands: Iterator[Sequence[str]]) -> KubeflowTask | None:
    """The task named by the launcher among these command lines: Kubeflow tells it nowhere else."""
    for command in commands:
        if not any(word.rpartition("/")[2] in _LAUNCHERS for word in command):
            continue
        # Backwards, so that the first of each counts: the user's own command comes behind the launcher's options.
        options = dict(reversed([*pairwise(command)]))
        run_id, execution_id = options.get("--run_id"), options.get("--execution_id", "")
        if run_id and execution_id.isascii() and execution_id.isdigit():
            return KubeflowTask(
                run_id=run_id, execution_id=int(execution_id), pipeline=options.get("--pipeline_name") or None
            )
    return None


def _ancestors() -> Iterator[Sequence[str]]:
    """Command lines of the processes above this one; on systems without /proc there are none."""
    pid = os.getppid()
    for _ in range(_ANCESTORS):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return
        yield [word.decode(errors="replace") for word in command.split(b"\0")]
        # The name in parentheses may hold anything, so fields are counted behind it.
        pid = int(status.rpartition(")")[2].split()[1])
        if pid <= 0:
            return


def _first(environment: Mapping[str, str], *names: str) -> str | None:
    return next((environment[name] for name in names if environment.get(name)), None)


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip() or None
    except OSError:
        return None
