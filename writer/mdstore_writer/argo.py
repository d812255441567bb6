"""Argo's and Kubernetes' objects as frozen values: what a Workflow, a task result and a pod say, and nothing else.

The API server keeps objects that fit no schema (Argo's minimal CRDs let everything through), so nothing here trusts a
type: what is not as it should be is read as absent. Times become milliseconds since the epoch, here and only here.
"""

import base64
import binascii
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from mdstore.values import JSON

RUNNING_PHASES: Final = frozenset({"", "Pending", "Running"})
"""Phases that are not the last one."""
DID_NOT_RUN: Final = frozenset({"Skipped", "Omitted"})

WORKFLOW_LABEL: Final = "workflows.argoproj.io/workflow"
NODE_ID_ANNOTATION: Final = "workflows.argoproj.io/node-id"
RUN_ID_LABEL: Final = "pipeline/runid"
V2_COMPONENT: Final = "pipelines.kubeflow.org/v2_component"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An input or output of a node, as Argo writes it: a name and, in `source`, the fields that say where it is."""

    name: str
    source: Mapping[str, Any]
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """The inputs or the outputs of a node."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    result: str | None = None
    exit_code: int | None = None


NOTHING: Final = Io()


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One entry of `Workflow.status.nodes`."""

    id: str
    name: str
    display_name: str
    type: str
    phase: str
    template: str
    boundary: str | None
    message: str | None
    started_ms: int | None
    finished_ms: int | None
    inputs: Io
    outputs: Io
    children: tuple[str, ...]
    is_hook: bool
    is_synced: bool | None
    """Whether the task's result has been taken over; None where Argo does not say (before 3.5)."""
    cache_key: str | None
    is_cache_hit: bool
    machine: str | None

    @property
    def is_over(self) -> bool:
        """The node has its last phase."""
        return self.phase not in RUNNING_PHASES


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """One Workflow object."""

    uid: str
    name: str
    namespace: str
    generate_name: str | None
    labels: Mapping[str, str]
    template_ref: str | None
    parameters: Mapping[str, str]
    has_status: bool
    phase: str
    message: str | None
    created_ms: int | None
    started_ms: int | None
    finished_ms: int | None
    repository: Mapping[str, Any]
    nodes: Mapping[str, Node]
    nodes_problem: str | None
    """Why the nodes could not be read."""
    kubeflow_pipeline: str | None
    """The pipeline's name, when Kubeflow Pipelines v2 made this workflow."""
    run_name: str | None
    """Kubeflow's name of the run."""

    @property
    def is_over(self) -> bool:
        """The workflow has its last phase."""
        return self.phase not in RUNNING_PHASES

    @property
    def kubeflow_run_id(self) -> str | None:
        """Kubeflow Pipelines' id of the run, when its v2 made this workflow."""
        return self.labels.get(RUN_ID_LABEL) if self.kubeflow_pipeline is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """One WorkflowTaskResult: a node's outputs as its executor reported them."""

    node: str
    outputs: Io
    is_complete: bool
    resource_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What only a pod says about the node that it ran for."""

    uid: str
    name: str
    node: str
    created_ms: int
    resource_version: int = field(compare=False)
    phase: str
    image: str | None
    image_digest: str | None
    machine: str | None
    exit_code: int | None
    reason: str | None
    message: str | None
    waited_for: tuple[str, ...]
    """Reasons for which the main container could not start, of all that was seen of this pod."""


def text(value: object) -> str | None:
    """A non-empty string, or None."""
    return value if isinstance(value, str) and value else None


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Mapping[str, Any]]:
    """The JSON objects in a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def strings(value: object) -> dict[str, str]:
    """Those entries of a JSON object that are strings."""
    return {key: entry for key, entry in mapping(value).items() if isinstance(entry, str)}


def milliseconds(value: object) -> int | None:
    """RFC 3339 to milliseconds since the epoch."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    if parsed.tzinfo is None or parsed.year < 1970:  # Go's zero time means "not set"
        return None
    return round(parsed.timestamp() * 1000)


def iso(ms: int) -> str:
    """Milliseconds since the epoch to ISO 8601 in UTC, which sorts as text."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def version(metadata: Mapping[str, Any]) -> int:
    """`metadata.resourceVersion` as a number; -1 when it is none."""
    value = metadata.get("resourceVersion")
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else -1


def owner(metadata: Mapping[str, Any]) -> str | None:
    """The uid of the Workflow that owns this object."""
    for reference in items(metadata.get("ownerReferences")):
        if reference.get("kind") == "Workflow":
            return text(reference.get("uid"))
    return None


def _parameters(value: object) -> dict[str, str]:
    found = {}
    for parameter in items(value):
        name, given = text(parameter.get("name")), parameter.get("value", parameter.get("default"))
        if name is not None and given is not None:
            found[name] = given if isinstance(given, str) else orjson.dumps(given).decode()
    return found


def _io(value: object) -> Io:
    given = mapping(value)
    if not given:
        return NOTHING
    code = given.get("exitCode")
    return Io(
        parameters=_parameters(given.get("parameters")),
        artifacts=tuple(
            Artifact(name=name, source=artifact, is_optional=artifact.get("optional") is True)
            for artifact in items(given.get("artifacts"))
            if (name := text(artifact.get("name"))) is not None
        ),
        result=text(given.get("result")),
        exit_code=int(code) if isinstance(code, str) and code.lstrip("-").isdigit() else None,
    )


def _node(node_id: str, value: Mapping[str, Any], completions: Mapping[str, Any]) -> Node:
    memoized = mapping(value.get("memoizationStatus"))
    synced = value.get("taskResultSynced", completions.get(node_id))
    template_ref = mapping(value.get("templateRef"))
    return Node(
        id=node_id,
        name=text(value.get("name")) or node_id,
        display_name=text(value.get("displayName")) or text(value.get("name")) or node_id,
        type=text(value.get("type")) or "",
        phase=text(value.get("phase")) or "",
        template=text(value.get("templateName")) or text(template_ref.get("template")) or "",
        boundary=text(value.get("boundaryID")),
        message=text(value.get("message")),
        started_ms=milliseconds(value.get("startedAt")),
        finished_ms=milliseconds(value.get("finishedAt")),
        inputs=_io(value.get("inputs")),
        outputs=_io(value.get("outputs")),
        children=tuple(child for child in value.get("children") or () if isinstance(child, str)),
        is_hook=mapping(value.get("nodeFlag")).get("hooked") is True,
        is_synced=synced if isinstance(synced, bool) else None,
        cache_key=text(memoized.get("key")),
        is_cache_hit=memoized.get("hit") is True,
        machine=text(value.get("hostNodeName")),
    )


def _nodes(status: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """The raw nodes, wherever they are, or why they cannot be had."""
    nodes, packed = mapping(status.get("nodes")), status.get("compressedNodes")
    if nodes:
        return nodes, None
    if isinstance(packed, str) and packed:
        try:
            return mapping(orjson.loads(gzip.decompress(base64.b64decode(packed, validate=True)))), None
        except (binascii.Error, OSError, EOFError, orjson.JSONDecodeError) as error:
            return {}, f"status.compressedNodes cannot be read: {error}"
    if text(status.get("offloadNodeStatusVersion")):
        return {}, "the nodes are in Argo's own database (offloadNodeStatusVersion), not in the object"
    return {}, None


def kubeflow_pipeline(raw: Mapping[str, Any]) -> str | None:
    """The pipeline that a Workflow of Kubeflow Pipelines v2 runs: its driver gets the name as an argument."""
    spec = mapping(raw.get("spec"))
    marked = mapping(mapping(spec.get("podMetadata")).get("annotations")).get(V2_COMPONENT) == "true"
    if not marked and "pipelines.kubeflow.org/v2_pipeline" not in mapping(
        mapping(raw.get("metadata")).get("annotations")
    ):
        return None
    for template in items(spec.get("templates")):
        arguments = mapping(template.get("container")).get("args")
        name = argument(arguments, "--pipeline_name")
        if name is not None:
            return name
    return None


def argument(arguments: object, flag: str) -> str | None:
    """The word after `flag` in a command line."""
    if not isinstance(arguments, list) or flag not in arguments:
        return None
    place = arguments.index(flag) + 1
    return text(arguments[place]) if place < len(arguments) else None


def essentials(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A Workflow object without what nobody here reads: templates and annotations are most of its size."""
    metadata, spec, status = mapping(raw.get("metadata")), mapping(raw.get("spec")), mapping(raw.get("status"))
    reference = mapping(spec.get("workflowTemplateRef"))
    return {
        "metadata": {
            key: metadata.get(key)
            for key in ("uid", "name", "namespace", "generateName", "labels", "creationTimestamp", "resourceVersion")
        },
        "arguments": mapping(spec.get("arguments")).get("parameters"),
        "templateRef": reference.get("name"),
        "status": {
            key: status[key]
            for key in (
                *(
                    "phase",
                    "message",
                    "startedAt",
                    "finishedAt",
                    "nodes",
                    "compressedNodes",
                    "offloadNodeStatusVersion",
                ),
                *("artifactRepositoryRef", "taskResultsCompletionStatus"),
            )
            if key in status
        },
        "kubeflowPipeline": kubeflow_pipeline(raw),
        "runName": mapping(metadata.get("annotations")).get("pipelines.kubeflow.org/run_name"),
    }


def workflow(kept: Mapping[str, Any]) -> Workflow:
    """The value of what `essentials` kept of a Workflow object."""
    metadata, status = mapping(kept.get("metadata")), mapping(kept.get("status"))
    nodes, problem = _nodes(status)
    completions = mapping(status.get("taskResultsCompletionStatus"))
    return Workflow(
        uid=text(metadata.get("uid")) or "",
        name=text(metadata.get("name")) or "",
        namespace=text(metadata.get("namespace")) or "",
        generate_name=text(metadata.get("generateName")),
        labels=strings(metadata.get("labels")),
        template_ref=text(kept.get("templateRef")),
        parameters=_parameters(kept.get("arguments")),
        has_status=bool(status),
        phase=text(status.get("phase")) or "",
        message=text(status.get("message")),
        created_ms=milliseconds(metadata.get("creationTimestamp")),
        started_ms=milliseconds(status.get("startedAt")),
        finished_ms=milliseconds(status.get("finishedAt")),
        repository=mapping(mapping(status.get("artifactRepositoryRef")).get("artifactRepository")),
        nodes={key: _node(key, node, completions) for key, node in nodes.items() if isinstance(node, dict)},
        nodes_problem=problem,
        kubeflow_pipeline=text(kept.get("kubeflowPipeline")),
        run_name=text(kept.get("runName")),
    )


def task_result(raw: Mapping[str, Any]) -> TaskResult:
    """The value of a WorkflowTaskResult object; its name is its node's id."""
    metadata = mapping(raw.get("metadata"))
    labels = mapping(metadata.get("labels"))
    return TaskResult(
        node=text(metadata.get("name")) or "",
        outputs=_io(raw.get("outputs")),
        is_complete=labels.get("workflows.argoproj.io/report-outputs-completed") == "true",
        resource_version=version(metadata),
    )


_STARTING: Final = frozenset({"PodInitializing", "ContainerCreating"})
_ENDS_WITHOUT_MEANING: Final = frozenset({"Completed", "Error"})


def pod(raw: Mapping[str, Any], earlier: Pod | None) -> Pod:
    """The value of a pod of Argo's; `earlier` is what was seen of the same pod before, in any order."""
    metadata, spec, status = mapping(raw.get("metadata")), mapping(raw.get("spec")), mapping(raw.get("status"))
    annotations = mapping(metadata.get("annotations"))
    main = next((c for c in items(spec.get("containers")) if c.get("name") == "main"), {})
    seen = next((c for c in items(status.get("containerStatuses")) if c.get("name") == "main"), {})
    state = mapping(seen.get("state"))
    ended, waiting = mapping(state.get("terminated")), text(mapping(state.get("waiting")).get("reason"))
    code = ended.get("exitCode")
    why = text(status.get("reason")) or text(ended.get("reason"))
    waits = set(earlier.waited_for if earlier else ())
    if waiting is not None and waiting not in _STARTING:
        waits.add(waiting)
    return Pod(
        uid=text(metadata.get("uid")) or "",
        name=text(metadata.get("name")) or "",
        node=text(annotations.get(NODE_ID_ANNOTATION)) or "",
        created_ms=milliseconds(metadata.get("creationTimestamp")) or 0,
        resource_version=version(metadata),
        phase=text(status.get("phase")) or "",
        image=text(main.get("image")),
        image_digest=_digest(text(seen.get("imageID"))),
        machine=text(spec.get("nodeName")),
        exit_code=code if isinstance(code, int) else None,
        reason=why if why not in _ENDS_WITHOUT_MEANING else None,
        message=text(status.get("message")) or text(ended.get("message")),
        waited_for=tuple(sorted(waits)),
    )


def _digest(image_id: str | None) -> str | None:
    """`docker-pullable://repo/name@sha256:...` or `sha256:...` to `sha256:...`."""
    return None if image_id is None else image_id.rpartition("@")[2]


def json_text(value: JSON) -> str:
    """JSON in one line, keys in order."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
