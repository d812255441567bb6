"""The tasks of a run of Kubeflow Pipelines v2, as its nodes in Argo tell them.

Of a task, Argo's nodes are a driver (`train-driver`) and a body (`train`, or `train-iterations` of a loop) in which the
executor pod runs the launcher. What the driver was told and what it answered are parameters of its node.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from mdstore.values import ExecutionState
from mdstore.vocabulary import CONTAINER_EXECUTION, DAG_EXECUTION, IMPORTER_EXECUTION
from mdstore_writer.argo import DID_NOT_RUN, Node, argument, items, mapping, text
from mdstore_writer.executions import STATES, outputs_of, prefix
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import ExecutionKey

_DRIVERS: Final = frozenset({"system-container-driver", "system-dag-driver"})
_IMPORTERS: Final = frozenset({"system-importer", "system-importer-workspace"})
FINAL: Final = frozenset(
    {ExecutionState.COMPLETE, ExecutionState.FAILED, ExecutionState.CACHED, ExecutionState.CANCELED}
)
"""States that are the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LauncherExecution:
    """An execution of this run that Kubeflow's driver or launcher wrote into the store."""

    type: str
    task: str | None
    parent: int | None
    """`parent_dag_id`."""
    iteration: int | None
    """`iteration_index`."""


NONE_KNOWN: Final[Mapping[int, LauncherExecution]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of the pipeline, as its driver or importer node tells it."""

    node: Node
    """The driver, or the importer itself."""
    name: str
    type: str
    store_id: int | None
    parent: int | None
    iteration: int | None
    iterations: int
    is_cached: bool
    is_condition_false: bool
    spec: Mapping[str, Any]
    component: Mapping[str, Any]
    body: Node | None
    attempts: tuple[Node, ...]
    """The executor pods' nodes, in order."""
    launcher: Mapping[str, Any]
    """`--executor_input` of the launcher."""
    image: str | None


def json_of(value: str | None) -> Mapping[str, Any]:
    """The object in a text; empty when there is none."""
    try:
        return mapping(orjson.loads(value)) if value else {}
    except orjson.JSONDecodeError:
        return {}


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


@dataclass(slots=True, kw_only=True)
class Tasks:
    """All tasks of one observed run, and which execution of the store each of them is."""

    run: ObservedRun
    name: str
    """Of the run's context."""
    known: Mapping[int, LauncherExecution]
    all: list[Task] = field(default_factory=list)
    _untold: dict[tuple[str, str | None, int | None, int | None], int] = field(default_factory=dict)
    """Executions in the store whose ids no node tells, by type, task, group and iteration."""

    def __post_init__(self) -> None:
        by_name = {node.name: node for node in self.run.workflow.nodes.values()}
        for _, node in sorted(self.run.workflow.nodes.items()):
            if node.template in _IMPORTERS and node.type != "Skipped":
                self.all.append(self._importer(node))
            elif node.template in _DRIVERS:
                self.all.append(self._task(node, by_name))
        told = {task.store_id for task in self.all}
        for number, written in sorted(self.known.items(), reverse=True):
            if number not in told and written.parent is not None:
                kind = IMPORTER_EXECUTION if written.type.startswith("system.Importer") else written.type
                self._untold[kind, written.task, written.parent, written.iteration] = number

    @property
    def root(self) -> Task | None:
        """The driver of the whole run."""
        return next((task for task in self.all if task.node.inputs.parameters.get("driver-type") == "ROOT_DAG"), None)

    @property
    def is_kubeflows(self) -> bool:
        """Whether driver and launcher write this run into the same store."""
        return self.root is not None and self.root.store_id in self.known

    def _importer(self, node: Node) -> Task:
        given = node.inputs.parameters
        spec = json_of(given.get("task"))
        return Task(
            node=node,
            name=_task_name(spec, node.display_name),
            type=IMPORTER_EXECUTION,
            store_id=None,
            parent=_number(given.get("parent-dag-id")),
            iteration=None,
            iterations=0,
            is_cached=False,
            is_condition_false=False,
            spec=spec,
            component=json_of(given.get("component")),
            body=node,
            attempts=(node,),
            launcher={},
            image=None,
        )

    def _task(self, node: Node, by_name: Mapping[str, Node]) -> Task:
        given, told = node.inputs.parameters, outputs_of(self.run, node).parameters
        spec = json_of(given.get("task"))
        stem = node.name.removesuffix("-driver")
        body = by_name.get(stem) or by_name.get(f"{stem}-iterations")
        patch = next(iter(items(json_of(told.get("pod-spec-patch")).get("containers"))), {})
        command = patch.get("command")
        is_container = node.template == "system-container-driver"
        return Task(
            node=node,
            name=given.get("task-name") or _task_name(spec, node.display_name.removesuffix("-driver")),
            type=CONTAINER_EXECUTION if is_container else DAG_EXECUTION,
            store_id=_number(told.get("execution-id")) or _number(argument(command, "--execution_id")),
            parent=_number(given.get("parent-dag-id")),
            iteration=_number(given.get("iteration-index")),
            iterations=_number(told.get("iteration-count")) or 0,
            is_cached=told.get("cached-decision") == "true",
            is_condition_false=told.get("condition") == "false",
            spec=spec,
            component=json_of(given.get("component")),
            body=body,
            attempts=self._executors(body) if is_container and body is not None else (),
            launcher=json_of(argument(command, "--executor_input")),
            image=text(patch.get("image")),
        )

    def _executors(self, body: Node) -> tuple[Node, ...]:
        found = [
            node
            for node in self.run.workflow.nodes.values()
            if node.boundary == body.id and node.type == "Pod" and node.name.startswith(f"{body.name}.executor")
        ]
        return tuple(sorted(found, key=lambda node: (node.started_ms or 0, node.name)))

    def key(self, task: Task) -> ExecutionKey:
        """How the store finds the execution that a task is."""
        external_id, store_id = f"{prefix(self.run)}/{task.node.id}", task.store_id
        if store_id is None:
            # No node tells the id of an importer, a hit of the cache, or what a driver wrote before it failed. What
            # does is their name in their group.
            store_id = self._untold.get((task.type, task.name, task.parent, task.iteration))
        if store_id is None or store_id not in self.known:
            return ExecutionKey(external_id=external_id)
        return ExecutionKey(external_id=external_id, store_id=store_id, run=self.name)

    def has_begun(self, task: Task) -> bool:
        """Whether its driver or importer runs or ran."""
        return task.node.phase != "Pending" or task.node.is_over

    def state(self, task: Task) -> ExecutionState:
        """The state of the execution that a task is."""
        if task.node.phase in DID_NOT_RUN or task.is_condition_false:
            return ExecutionState.CANCELED
        if task.node.is_over and STATES[task.node.phase] is ExecutionState.FAILED:
            return ExecutionState.FAILED
        if task.is_cached:
            return ExecutionState.CACHED
        if task.body is not None and task.body.is_over:
            return STATES.get(task.body.phase, ExecutionState.UNKNOWN)
        return ExecutionState.CANCELED if self.run.is_deleted else ExecutionState.RUNNING

    def parent(self, task: Task) -> Task | None:
        """The group that a task is in; None for the run's root."""
        found = next((one for one in self.all if one.store_id is not None and one.store_id == task.parent), None)
        return None if found is self.root else found

    def children(self, parent: int | None, name: str) -> list[Task]:
        """The tasks of a name in the group that is the store's execution `parent`."""
        return [task for task in self.all if task.parent == parent and task.name == name]


def _task_name(spec: Mapping[str, Any], fallback: str) -> str:
    return text(mapping(spec.get("taskInfo")).get("name")) or fallback
