"""What a step is called in the store: the keys by which the same step is the same, however often it is sent."""

import threading
import uuid
from collections import Counter
from typing import Final

from mdstore.steps import place
from mdstore.steps.records import Identity
from mdstore.vocabulary import CONTAINER_EXECUTION, PIPELINE_RUN
from mdstore.wire import ingestion

_EXTERNAL_ID_CHARACTERS: Final = 200

_begun: Counter[str] = Counter()
"""External id without the attempt -> how many such steps this process has begun: the next one is another attempt."""
_joined: set[str] = set()
"""Executions of the writer's or launcher's that a step of this process stands for: the first one does."""
_counting: Final = threading.Lock()


def identify(
    here: place.Place,
    around: Identity | None,
    *,
    inner: Counter[str],
    process: str,
    name: str,
    pipeline: str | None,
    run_id: str | None,
    attempt: int | None,
) -> tuple[Identity, int | None]:
    """What a step is called, and which attempt it is; None where the writer counts.

    Args:
        here: where the process runs.
        around: the step around this one, if any, and
        inner: how many steps of one name it has had inside of it, in this process;
        process: what tells them from those of other processes, "" in the one that began the step around.
        name: the step's.
        pipeline: as given to `mdstore.run`, like
        run_id: the run, and
        attempt: the attempt.
    """
    if around is not None and run_id in {None, around.run}:
        # Who says which attempt it is means the same step in every process.
        within = f"{around.base}/{process}" if process and attempt is None else around.base
        base, number = _numbered(f"{within}/{_quoted(name)}", attempt, inner)
        return _free(base, run=around.run, pipeline=around.pipeline if pipeline is None else pipeline), number
    kubeflow = here.kubeflow
    if kubeflow is not None and run_id in {None, kubeflow.run_id}:
        base = f"kubeflow:{kubeflow.run_id}/{kubeflow.execution_id}"
        in_pipeline = pipeline or kubeflow.pipeline
        if not _joins(base):
            further, number = _numbered(f"{base}/{_quoted(name)}", attempt)
            return _free(further, run=kubeflow.run_id, pipeline=in_pipeline), number
        key = ingestion.NodeKey(
            id=kubeflow.execution_id,
            in_context_type=PIPELINE_RUN,
            in_context_name=kubeflow.run_id,
            has_no_external_id=True,
            # Where the launcher writes into another store. No external id: the writer knows the launcher's by that.
            type=CONTAINER_EXECUTION,
            name=base,
        )
        identity = Identity(
            key=key, base=base, run=kubeflow.run_id, pipeline=in_pipeline, is_joined=True, is_launchers=True
        )
        return identity, None
    if here.pod is not None and here.run_id is not None and run_id in {None, here.run_id}:
        in_pipeline = None if pipeline is None else f"{here.namespace}/{pipeline}"
        if not _joins(here.pod):
            further, number = _numbered(f"{here.pod}/{_quoted(name)}", attempt)
            return _free(further, run=here.run_id, pipeline=in_pipeline), number
        key = ingestion.NodeKey(external_id=here.pod)
        return Identity(key=key, base=here.pod, run=here.run_id, pipeline=in_pipeline, is_joined=True), attempt
    run = run_id or here.run_id
    is_own = run is None
    run = run or str(uuid.uuid4())
    base, number = _numbered(f"step:{_quoted(run)}/{_quoted(name)}", attempt, Counter() if is_own else _begun)
    return _free(base, run=run, pipeline=pipeline, is_own_run=is_own), number


def _free(base: str, *, run: str, pipeline: str | None, is_own_run: bool = False) -> Identity:
    key = ingestion.NodeKey(external_id=base)
    return Identity(key=key, base=base, run=run, pipeline=pipeline, is_own_run=is_own_run)


def _numbered(base: str, attempt: int | None, begun: Counter[str] = _begun) -> tuple[str, int]:
    if len(base) > _EXTERNAL_ID_CHARACTERS:
        # External ids have 255 characters in MySQL, and what follows needs some.
        base = f"step:{uuid.uuid5(uuid.NAMESPACE_URL, base)}"
    if attempt is None:
        with _counting:
            attempt = begun[base]
            begun[base] += 1
    return f"{base}/{attempt}", attempt


def _joins(execution: str) -> bool:
    """Whether a step may stand for this execution: the first one of the process does, later ones are inside of it."""
    with _counting:
        if execution in _joined:
            return False
        _joined.add(execution)
        return True


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")
