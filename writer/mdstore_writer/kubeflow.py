"""Runs of Kubeflow Pipelines v2: its tasks are found behind the driver and executor pods that Argo sees.

Of a task, Argo's nodes are a driver (`train-driver`) and a body (`train`, or `train-iterations` of a loop) in which the
executor pod runs the launcher. Driver and launcher write the task into the metadata store themselves. Where they write
into the same store, their executions are found by id and enriched with what only the cluster knows: machine, image
digest, times, why a pod died, and the final state when the launcher did not live to write it. Where they do not
(another store, a recording), the task is recorded in the same words, and its artifacts are read from the arguments
that the driver makes for the launcher.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mdstore.values import JSON, ExecutionState
from mdstore.vocabulary import DAG_EXECUTION, Property
from mdstore_writer.argo import DID_NOT_RUN, Node, iso, mapping
from mdstore_writer.contexts import RunContexts, contexts
from mdstore_writer.executions import DELETED_MESSAGE, STATES, pod_properties, prefix, root_execution
from mdstore_writer.kubeflow_artifacts import Artifacts
from mdstore_writer.kubeflow_tasks import FINAL, LauncherExecution, Task, Tasks, json_of
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import ArtifactRecord, EventRecord, ExecutionKey, ExecutionRecord, Records, Use


def interpret(run: ObservedRun, known: Mapping[int, LauncherExecution]) -> Records:
    """What an observed run of Kubeflow Pipelines v2 says; see `mdstore_writer.interpret.interpret`.

    Nothing before the root driver is done: it makes the contexts and keeps settings in them (`pipeline_root`), which
    it would not do any more if it found them made by us.
    """
    return _Interpretation(run=run, known=known).records()


@dataclass(slots=True, kw_only=True)
class _Interpretation:
    run: ObservedRun
    known: Mapping[int, LauncherExecution]
    contexts: RunContexts = field(init=False)
    tasks: Tasks = field(init=False)

    def __post_init__(self) -> None:
        self.contexts = contexts(self.run)
        self.tasks = Tasks(run=self.run, name=self.contexts.run.name, known=self.known)

    def records(self) -> Records:
        workflow = self.run.workflow
        root = self.tasks.root
        root_is_done = root is not None and root.node.phase == "Succeeded" and root.store_id is not None
        if not (root_is_done or workflow.is_over or self.run.is_deleted):
            return Records()
        executions: list[ExecutionRecord] = [self.root_record(root)]
        artifacts: list[ArtifactRecord] = []
        events: list[EventRecord] = []
        uses: list[Use] = []
        mine: list[ExecutionKey] = [] if executions[0].key.store_id is not None else [executions[0].key]
        written_by_us = []
        for task in self.tasks.all:
            if task is root or not self.tasks.has_begun(task):
                continue
            key = self.tasks.key(task)
            if key.store_id is not None:
                if self.tasks.state(task) in FINAL:
                    executions.append(self.enrichment(task, key))
                continue
            if self.tasks.is_kubeflows and not (task.node.is_over or workflow.is_over or self.run.is_deleted):
                continue  # its driver may not have written it yet
            executions.append(self.execution(task, key))
            mine.append(key)
            written_by_us.append((task, key))
        made_and_used = Artifacts(run=self.run, tasks=self.tasks, contexts=self.contexts.keys)
        for task, key in written_by_us:
            for made in made_and_used.made(task, key):
                if isinstance(made, Use):
                    uses.append(made)
                else:
                    artifacts.append(made[0])
                    events.append(made[1])
        for task, key in written_by_us:
            for used in made_and_used.used(task, key):
                if isinstance(used, Use):
                    uses.append(used)
                else:
                    events.append(used)
        return Records(
            contexts=(self.contexts.pipeline, self.contexts.run),
            parents=((self.contexts.run.key, self.contexts.pipeline.key),),
            artifacts=tuple(artifacts),
            executions=tuple(executions),
            events=tuple(events),
            attributions=tuple((made.external_id, context) for made in artifacts for context in self.contexts.keys),
            associations=tuple((key, context) for key in mine for context in self.contexts.keys),
            uses=tuple(uses),
        )

    def facts(self, task: Task, state: ExecutionState) -> dict[str, JSON]:
        """What the cluster knows of a task, wherever the rest of its record comes from."""
        properties: dict[str, JSON] = {Property.NODE_ID: task.node.id, Property.WORKFLOW_NAME: self.run.workflow.name}
        last = task.attempts[-1] if task.attempts else None
        if task.node.started_ms is not None:
            properties[Property.STARTED_AT] = iso(task.node.started_ms)
        ended = last or task.body or task.node
        if state in FINAL and (ended.finished_ms or task.node.finished_ms):
            properties[Property.FINISHED_AT] = iso(ended.finished_ms or task.node.finished_ms or 0)
        if last is not None:
            properties[Property.ATTEMPT] = len(task.attempts) - 1
            properties |= pod_properties(self.run, last, state)
            if state in FINAL and last.outputs.exit_code is not None:
                properties[Property.EXIT_CODE] = last.outputs.exit_code
        message = self.message(task, state, last)
        if message is not None:
            properties[Property.MESSAGE] = message
        return properties

    def message(self, task: Task, state: ExecutionState, last: Node | None) -> str | None:
        if state is ExecutionState.FAILED:
            if task.node.is_over and STATES[task.node.phase] is ExecutionState.FAILED and task.body is not task.node:
                return f"its driver failed: {task.node.message or task.node.phase}"
            return (last or task.body or task.node).message
        if state is ExecutionState.CANCELED:
            if task.is_condition_false:
                return "its condition was false"
            return task.node.message if task.node.phase in DID_NOT_RUN else DELETED_MESSAGE
        return None

    def root_record(self, root: Task | None) -> ExecutionRecord:
        name = f"run/{self.contexts.run.name}"
        key = ExecutionKey(external_id=prefix(self.run), name=name)
        if root is not None and root.store_id is not None and root.store_id in self.known:
            key = replace(key, store_id=root.store_id, run=self.contexts.run.name)
        record = root_execution(self.run, key)
        if root is None:
            return record
        given = mapping(json_of(root.node.inputs.parameters.get("runtime-config")).get("parameterValues"))
        defaults = dict(record.default_properties) | ({Property.INPUTS: dict(given)} if given else {})
        return replace(record, default_properties=defaults)

    def enrichment(self, task: Task, key: ExecutionKey) -> ExecutionRecord:
        state = self.tasks.state(task)
        return ExecutionRecord(
            key=key,
            type=task.type,
            state=state,
            # Launchers count children without a lock and leave groups FAILED or RUNNING that are neither.
            is_last_word=task.type == DAG_EXECUTION
            and self.run.workflow.is_over
            and state in {ExecutionState.COMPLETE, ExecutionState.FAILED},
            properties=self.facts(task, state),
        )

    def execution(self, task: Task, key: ExecutionKey) -> ExecutionRecord:
        state = self.tasks.state(task)
        parent = self.tasks.parent(task)
        properties = self.facts(task, state) | {
            Property.DISPLAY_NAME: task.name,
            Property.TASK_NAME: task.name,
            Property.NAMESPACE: self.run.workflow.namespace,
            Property.PARENT: prefix(self.run) if parent is None else self.tasks.key(parent).external_id,
        }
        if task.iteration is not None:
            properties[Property.ITERATION_INDEX] = task.iteration
        if task.iterations:
            properties[Property.ITERATION_COUNT] = task.iterations
        given = mapping(mapping(task.launcher.get("inputs")).get("parameterValues"))
        if given:
            properties[Property.INPUTS] = dict(given)
        if task.image is not None:
            properties[Property.IMAGE] = task.image
        return ExecutionRecord(key=key, type=task.type, state=state, is_last_word=state in FINAL, properties=properties)
