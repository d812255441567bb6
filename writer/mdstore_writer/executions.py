"""What a node and the pods that ran for it say about one execution: its state, and its properties."""

from collections.abc import Mapping, Sequence
from typing import Final

from mdstore.values import JSON, ExecutionState
from mdstore.vocabulary import ARTIFACT, DAG_EXECUTION, LOG, Property
from mdstore_writer.argo import DID_NOT_RUN, Io, Node, Pod, TaskResult, iso
from mdstore_writer.contexts import run_state
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import ExecutionKey, ExecutionRecord

GROUPS: Final = frozenset({"DAG", "Steps", "TaskGroup"})
"""Node types that hold other nodes and run nothing themselves."""

STATES: Final[Mapping[str, ExecutionState]] = {
    "": ExecutionState.NEW,
    "Pending": ExecutionState.NEW,
    "Running": ExecutionState.RUNNING,
    "Succeeded": ExecutionState.COMPLETE,
    "Failed": ExecutionState.FAILED,
    "Error": ExecutionState.FAILED,
    # Kubeflow's meaning of the word: it did not run, since a condition was false.
    "Skipped": ExecutionState.CANCELED,
    "Omitted": ExecutionState.CANCELED,
}
DELETED_MESSAGE: Final = "the workflow was deleted before this ended"


def state_of(run: ObservedRun, node: Node) -> ExecutionState:
    """The state of the execution that a node is."""
    if node.phase == "Succeeded" and node.is_cache_hit:
        return ExecutionState.CACHED
    if not node.is_over and run.is_deleted:
        return ExecutionState.CANCELED
    return STATES.get(node.phase, ExecutionState.UNKNOWN)


def has_final_outputs(run: ObservedRun, node: Node) -> bool:
    """Whether nothing more will be added to a node's outputs.

    A node can be Succeeded before its executor's report was taken over, and the report of a pod that was lost can
    be there while its replacement runs: so it takes both the phase and the report, or the end of the workflow.
    """
    if run.workflow.is_over or run.is_deleted:
        return True
    return node.is_over and node.is_synced is not False


def outputs_of(run: ObservedRun, node: Node) -> Io:
    """A node's outputs once they are final, from the workflow and from the task's result; nothing before."""
    result: TaskResult | None = run.results.get(node.id)
    reported = result is not None and result.is_complete and node.is_over
    if not has_final_outputs(run, node) and not reported:
        return Io()
    if result is None:
        return node.outputs
    names = {artifact.name for artifact in node.outputs.artifacts}
    return Io(
        parameters={**result.outputs.parameters, **node.outputs.parameters},
        artifacts=(
            *node.outputs.artifacts,
            *(artifact for artifact in result.outputs.artifacts if artifact.name not in names),
        ),
        result=node.outputs.result or result.outputs.result,
        exit_code=node.outputs.exit_code if node.outputs.exit_code is not None else result.outputs.exit_code,
    )


def pods_of(run: ObservedRun, node_id: str) -> Sequence[Pod]:
    """The pods that ran for a node, oldest first: several when one was lost and Argo made another of the same name."""
    return [pod for pod in run.pods if pod.node == node_id]


def common_properties(run: ObservedRun, node: Node, state: ExecutionState) -> dict[str, JSON]:
    """What Argo says of any node. Of what can change only the last word is written, so that order does not matter."""
    properties: dict[str, JSON] = {
        Property.NODE_ID: node.id,
        Property.NODE_TYPE: node.type,
        Property.WORKFLOW_NAME: run.workflow.name,
    }
    if node.template:
        properties[Property.TEMPLATE] = node.template
    if node.started_ms is not None:
        properties[Property.STARTED_AT] = iso(node.started_ms)
    if node.is_over and node.finished_ms is not None:
        properties[Property.FINISHED_AT] = iso(node.finished_ms)
    if node.is_over and node.message is not None:
        properties[Property.MESSAGE] = node.message
    elif not node.is_over and state is ExecutionState.CANCELED:
        properties[Property.MESSAGE] = DELETED_MESSAGE
    if node.cache_key is not None:
        properties[Property.CACHE_KEY] = node.cache_key
    return properties


def pod_properties(run: ObservedRun, node: Node, state: ExecutionState) -> dict[str, JSON]:
    """What only pods say. Each fact is the newest pod's that has it, so that all orders of arrival end the same."""
    pods = pods_of(run, node.id)
    properties: dict[str, JSON] = {}
    is_over = node.is_over or run.is_deleted
    for pod in pods:
        facts: dict[str, JSON] = {
            Property.POD_NAME: pod.name,
            Property.POD_UID: pod.uid,
            Property.IMAGE: pod.image,
            Property.IMAGE_DIGEST: pod.image_digest,
            Property.NODE: pod.machine,
            Property.EXIT_CODE: pod.exit_code if is_over else None,
            # A pod that was lost says why; its replacement may have done well.
            Property.REASON: pod.reason if is_over and state is not ExecutionState.COMPLETE else None,
        }
        properties.update({key: fact for key, fact in facts.items() if fact})
        if pod.exit_code == 0 and is_over:
            properties[Property.EXIT_CODE] = 0
    waits = sorted({reason for pod in pods for reason in pod.waited_for})
    if waits:
        properties[Property.WAITED_FOR] = ", ".join(waits)
    if len(pods) > 1:
        properties[Property.REPLACED_PODS] = {
            pod.uid: pod.reason or (f"exit code {pod.exit_code}" if pod.exit_code is not None else pod.phase)
            for pod in pods[:-1]
        }
    if node.machine is not None:
        properties.setdefault(Property.NODE, node.machine)
    return properties


def did_run(node: Node) -> bool:
    """The node began to run, so it used its inputs."""
    return node.phase == "Running" or (node.is_over and node.phase not in DID_NOT_RUN)


def artifact_type(name: str, uri: str) -> str:
    """`Log` for what Argo's executor saves of a container's output, else `system.Artifact`."""
    container = name.removesuffix("-logs")
    return LOG if container != name and uri.endswith(f"/{container}.log") else ARTIFACT


def prefix(run: ObservedRun) -> str:
    """What the external ids of a run's nodes begin with; it is the external id of its root."""
    return f"{run.cluster}/{run.workflow.namespace}/{run.workflow.uid}"


def root_execution(run: ObservedRun, key: ExecutionKey) -> ExecutionRecord:
    """The execution that stands for the whole run."""
    workflow = run.workflow
    state = {
        "PENDING": ExecutionState.NEW,
        "RUNNING": ExecutionState.RUNNING,
        "SUCCEEDED": ExecutionState.COMPLETE,
        "DELETED": ExecutionState.CANCELED,
    }.get(run_state(run), ExecutionState.FAILED)
    properties: dict[str, JSON] = {Property.WORKFLOW_NAME: workflow.name}
    if workflow.started_ms is not None:
        properties[Property.STARTED_AT] = iso(workflow.started_ms)
    if workflow.is_over and workflow.finished_ms is not None:
        properties[Property.FINISHED_AT] = iso(workflow.finished_ms)
    if workflow.is_over and workflow.message is not None:
        properties[Property.MESSAGE] = workflow.message
    root = workflow.nodes.get(workflow.name)
    if root is not None and root.type in GROUPS and workflow.is_over and root.outputs.parameters:
        properties[Property.OUTPUTS] = dict(root.outputs.parameters)
    defaults: dict[str, JSON] = {Property.DISPLAY_NAME: workflow.name, Property.NAMESPACE: workflow.namespace}
    if workflow.parameters:
        defaults[Property.INPUTS] = dict(workflow.parameters)
    return ExecutionRecord(
        key=key,
        type=DAG_EXECUTION,
        state=state,
        is_last_word=workflow.is_over,
        properties=properties,
        default_properties=defaults,
    )
