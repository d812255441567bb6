"""Runs of Kubeflow Pipelines v2: its tasks are found behind the driver and executor pods that Argo sees.

Of a task, Argo's nodes are a driver (`train-driver`) and a body (`train`, or `train-iterations` of a loop) in which the
executor pod runs the launcher. Driver and launcher write the task into the metadata store themselves. Where they write
into the same store, their executions are found by id and enriched with what only the cluster knows: machine, image
digest, times, why a pod died, and the final state when the launcher did not live to write it. Where they do not
(another store, a recording), the task is recorded in the same words, and its artifacts are read from the arguments
that the driver makes for the launcher.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from mdstore.values import JSON, EventType, ExecutionState
from mdstore.vocabulary import (
    ARTIFACT,
    CONTAINER_EXECUTION,
    DAG_EXECUTION,
    IMPORTER_EXECUTION,
    LOG,
    Property,
)
from mdstore_writer import locations
from mdstore_writer.argo import DID_NOT_RUN, Node, argument, iso, items, mapping, text
from mdstore_writer.contexts import RunContexts, contexts
from mdstore_writer.executions import (
    DELETED_MESSAGE,
    STATES,
    has_final_outputs,
    outputs_of,
    pod_properties,
    prefix,
    root_execution,
)
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import ArtifactRecord, EventRecord, ExecutionKey, ExecutionRecord, Records, Use

_DRIVERS: Final = frozenset({"system-container-driver", "system-dag-driver"})
_IMPORTERS: Final = frozenset({"system-importer", "system-importer-workspace"})
_FINAL: Final = frozenset(
    {ExecutionState.COMPLETE, ExecutionState.FAILED, ExecutionState.CACHED, ExecutionState.CANCELED}
)


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
class _Task:
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


def interpret(run: ObservedRun, known: Mapping[int, LauncherExecution]) -> Records:
    """What an observed run of Kubeflow Pipelines v2 says; see `mdstore_writer.interpret.interpret`.

    Nothing before the root driver is done: it makes the contexts and keeps settings in them (`pipeline_root`), which
    it would not do any more if it found them made by us.
    """
    return _Interpretation(run=run, known=known).records()


def _json(value: str | None) -> Mapping[str, Any]:
    try:
        return mapping(orjson.loads(value)) if value else {}
    except orjson.JSONDecodeError:
        return {}


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Produced:
    task: _Task
    artifact: str | None
    """None for what was there before: its version is that of `as_of_ms`."""
    as_of_ms: int


@dataclass(slots=True, kw_only=True)
class _Interpretation:
    run: ObservedRun
    known: Mapping[int, LauncherExecution]
    contexts: RunContexts = field(init=False)
    tasks: list[_Task] = field(default_factory=list)
    produced: dict[str, list[_Produced]] = field(default_factory=dict)
    untold: dict[tuple[str, str | None, int | None, int | None], int] = field(default_factory=dict)
    """Executions in the store whose ids no node tells, by type, task, group and iteration."""

    def __post_init__(self) -> None:
        self.contexts = contexts(self.run)
        by_name = {node.name: node for node in self.run.workflow.nodes.values()}
        for _, node in sorted(self.run.workflow.nodes.items()):
            if node.template in _IMPORTERS and node.type != "Skipped":
                self.tasks.append(self.importer(node))
            elif node.template in _DRIVERS:
                self.tasks.append(self.task(node, by_name))
        told = {task.store_id for task in self.tasks}
        for number, written in sorted(self.known.items(), reverse=True):
            if number not in told and written.parent is not None:
                kind = IMPORTER_EXECUTION if written.type.startswith("system.Importer") else written.type
                self.untold[kind, written.task, written.parent, written.iteration] = number

    @property
    def root(self) -> _Task | None:
        return next((task for task in self.tasks if task.node.inputs.parameters.get("driver-type") == "ROOT_DAG"), None)

    @property
    def is_kubeflows(self) -> bool:
        """Whether driver and launcher write this run into the same store."""
        return self.root is not None and self.root.store_id in self.known

    def records(self) -> Records:
        workflow = self.run.workflow
        root = self.root
        root_is_done = root is not None and root.node.phase == "Succeeded" and root.store_id is not None
        if not (root_is_done or workflow.is_over or self.run.is_deleted):
            return Records()
        executions: list[ExecutionRecord] = [self.root_record(root)]
        artifacts: list[ArtifactRecord] = []
        events: list[EventRecord] = []
        uses: list[Use] = []
        mine: list[ExecutionKey] = [] if executions[0].key.store_id is not None else [executions[0].key]
        written_by_us = []
        for task in self.tasks:
            if task is root or not self.has_begun(task):
                continue
            key = self.key(task)
            if key.store_id is not None:
                if self.state(task) in _FINAL:
                    executions.append(self.enrichment(task, key))
                continue
            if self.is_kubeflows and not (task.node.is_over or workflow.is_over or self.run.is_deleted):
                continue  # its driver may not have written it yet
            executions.append(self.execution(task, key))
            mine.append(key)
            written_by_us.append((task, key))
        for task, key in written_by_us:
            for made in self.made(task, key):
                if isinstance(made, Use):
                    uses.append(made)
                else:
                    artifacts.append(made[0])
                    events.append(made[1])
        for task, key in written_by_us:
            for used in self.used(task, key):
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

    # Reading the nodes

    def importer(self, node: Node) -> _Task:
        given = node.inputs.parameters
        spec = _json(given.get("task"))
        return _Task(
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
            component=_json(given.get("component")),
            body=node,
            attempts=(node,),
            launcher={},
            image=None,
        )

    def task(self, node: Node, by_name: Mapping[str, Node]) -> _Task:
        given, told = node.inputs.parameters, outputs_of(self.run, node).parameters
        spec = _json(given.get("task"))
        stem = node.name.removesuffix("-driver")
        body = by_name.get(stem) or by_name.get(f"{stem}-iterations")
        patch = next(iter(items(_json(told.get("pod-spec-patch")).get("containers"))), {})
        command = patch.get("command")
        is_container = node.template == "system-container-driver"
        return _Task(
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
            component=_json(given.get("component")),
            body=body,
            attempts=self.executors(body) if is_container and body is not None else (),
            launcher=_json(argument(command, "--executor_input")),
            image=text(patch.get("image")),
        )

    def executors(self, body: Node) -> tuple[Node, ...]:
        found = [
            node
            for node in self.run.workflow.nodes.values()
            if node.boundary == body.id and node.type == "Pod" and node.name.startswith(f"{body.name}.executor")
        ]
        return tuple(sorted(found, key=lambda node: (node.started_ms or 0, node.name)))

    def key(self, task: _Task) -> ExecutionKey:
        external_id, store_id = f"{prefix(self.run)}/{task.node.id}", task.store_id
        if store_id is None:
            # No node tells the id of an importer, a hit of the cache, or what a driver wrote before it failed. What
            # does is their name in their group.
            store_id = self.untold.get((task.type, task.name, task.parent, task.iteration))
        if store_id is None or store_id not in self.known:
            return ExecutionKey(external_id=external_id)
        return ExecutionKey(external_id=external_id, store_id=store_id, run=self.contexts.run.name)

    # States and properties

    def has_begun(self, task: _Task) -> bool:
        return task.node.phase != "Pending" or task.node.is_over

    def state(self, task: _Task) -> ExecutionState:
        if task.node.phase in DID_NOT_RUN or task.is_condition_false:
            return ExecutionState.CANCELED
        if task.node.is_over and STATES[task.node.phase] is ExecutionState.FAILED:
            return ExecutionState.FAILED
        if task.is_cached:
            return ExecutionState.CACHED
        if task.body is not None and task.body.is_over:
            return STATES.get(task.body.phase, ExecutionState.UNKNOWN)
        return ExecutionState.CANCELED if self.run.is_deleted else ExecutionState.RUNNING

    def facts(self, task: _Task, state: ExecutionState) -> dict[str, JSON]:
        """What the cluster knows of a task, wherever the rest of its record comes from."""
        properties: dict[str, JSON] = {Property.NODE_ID: task.node.id, Property.WORKFLOW_NAME: self.run.workflow.name}
        last = task.attempts[-1] if task.attempts else None
        if task.node.started_ms is not None:
            properties[Property.STARTED_AT] = iso(task.node.started_ms)
        ended = last or task.body or task.node
        if state in _FINAL and (ended.finished_ms or task.node.finished_ms):
            properties[Property.FINISHED_AT] = iso(ended.finished_ms or task.node.finished_ms or 0)
        if last is not None:
            properties[Property.ATTEMPT] = len(task.attempts) - 1
            properties |= pod_properties(self.run, last, state)
            if state in _FINAL and last.outputs.exit_code is not None:
                properties[Property.EXIT_CODE] = last.outputs.exit_code
        message = self.message(task, state, last)
        if message is not None:
            properties[Property.MESSAGE] = message
        return properties

    def message(self, task: _Task, state: ExecutionState, last: Node | None) -> str | None:
        if state is ExecutionState.FAILED:
            if task.node.is_over and STATES[task.node.phase] is ExecutionState.FAILED and task.body is not task.node:
                return f"its driver failed: {task.node.message or task.node.phase}"
            return (last or task.body or task.node).message
        if state is ExecutionState.CANCELED:
            if task.is_condition_false:
                return "its condition was false"
            return task.node.message if task.node.phase in DID_NOT_RUN else DELETED_MESSAGE
        return None

    def root_record(self, root: _Task | None) -> ExecutionRecord:
        name = f"run/{self.contexts.run.name}"
        key = ExecutionKey(external_id=prefix(self.run), name=name)
        if root is not None and root.store_id is not None and root.store_id in self.known:
            key = replace(key, store_id=root.store_id, run=self.contexts.run.name)
        record = root_execution(self.run, key)
        if root is None:
            return record
        given = mapping(_json(root.node.inputs.parameters.get("runtime-config")).get("parameterValues"))
        defaults = dict(record.default_properties) | ({Property.INPUTS: dict(given)} if given else {})
        return replace(record, default_properties=defaults)

    def enrichment(self, task: _Task, key: ExecutionKey) -> ExecutionRecord:
        state = self.state(task)
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

    def execution(self, task: _Task, key: ExecutionKey) -> ExecutionRecord:
        state = self.state(task)
        parent = self.parent(task)
        properties = self.facts(task, state) | {
            Property.DISPLAY_NAME: task.name,
            Property.TASK_NAME: task.name,
            Property.NAMESPACE: self.run.workflow.namespace,
            Property.PARENT: prefix(self.run) if parent is None else self.key(parent).external_id,
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
        return ExecutionRecord(
            key=key, type=task.type, state=state, is_last_word=state in _FINAL, properties=properties
        )

    def parent(self, task: _Task) -> _Task | None:
        """The group that a task is in; None for the run's root."""
        found = next((one for one in self.tasks if one.store_id is not None and one.store_id == task.parent), None)
        return None if found is self.root else found

    # Artifacts

    def made(self, task: _Task, key: ExecutionKey) -> Iterator[tuple[ArtifactRecord, EventRecord] | Use]:
        state = self.state(task)
        if task.type == IMPORTER_EXECUTION:
            if state is ExecutionState.COMPLETE:
                yield from self.imported(task, key)
            return
        last = task.attempts[-1] if task.attempts else None
        if last is None or not last.is_over:
            return
        finished = last.finished_ms or last.started_ms or 0
        if state is ExecutionState.COMPLETE:
            outputs = mapping(mapping(task.launcher.get("outputs")).get("artifacts"))
            for name, given in sorted(outputs.items()):
                for place, artifact in enumerate(items(mapping(given).get("artifacts"))):
                    uri = text(artifact.get("uri"))
                    if uri is not None and name == "executor-logs":
                        at = f"{uri}-{len(task.attempts) - 1}"
                        yield self.version(task, key, name, at, type_name=LOG, finished=finished)
                    elif uri is not None:
                        yield self.version(
                            task, key, name, uri, type_name=_schema(artifact), finished=finished, place=place
                        )
        if has_final_outputs(self.run, last):
            for log in outputs_of(self.run, last).artifacts:
                uri = locations.uri(log.source, self.run.workflow.repository)
                if uri is not None and log.name == "main-logs":
                    yield self.version(task, key, log.name, uri, type_name=LOG, finished=finished)

    def version(
        self, task: _Task, key: ExecutionKey, name: str, uri: str, *, type_name: str, finished: int, place: int = 0
    ) -> tuple[ArtifactRecord, EventRecord]:
        external_id = f"{key.external_id}/{name}" + (f"/{place}" if place else "")
        self.produced.setdefault(uri, []).append(_Produced(task=task, artifact=external_id, as_of_ms=finished))
        record = ArtifactRecord(
            external_id=external_id,
            type=type_name,
            uri=uri,
            produced_ms=finished,
            properties={
                Property.DISPLAY_NAME: name,
                Property.PRODUCED_AT: iso(finished),
                Property.NAMESPACE: self.run.workflow.namespace,
            },
        )
        event = EventRecord(
            execution=key, artifact=external_id, type=EventType.OUTPUT, path=name, index=place, at_ms=finished
        )
        return record, event

    def imported(self, task: _Task, key: ExecutionKey) -> Iterator[tuple[ArtifactRecord, EventRecord] | Use]:
        importer = _json(task.node.inputs.parameters.get("importer"))
        uri = self.imported_uri(task, mapping(importer.get("artifactUri")))
        if uri is None:
            return
        finished = task.node.finished_ms or task.node.started_ms or 0
        names = mapping(mapping(task.component.get("outputDefinitions")).get("artifacts"))
        name, schema = next(iter(names), "artifact"), _schema({"type": importer.get("typeSchema")})
        if importer.get("reimport") is True:
            yield self.version(task, key, name, uri, type_name=schema, finished=finished)
            return
        # What is there already is not made again: the importer's output is the version that it found.
        self.produced.setdefault(uri, []).append(_Produced(task=task, artifact=None, as_of_ms=finished))
        metadata = {name: value for name, value in mapping(importer.get("metadata")).items() if value is not None}
        yield Use(
            execution=key,
            uri=uri,
            as_of_ms=finished,
            type=EventType.OUTPUT,
            path=name,
            at_ms=finished,
            contexts=self.contexts.keys,
            default_type=schema,
            default_properties={Property.DISPLAY_NAME: name, **metadata},
        )

    def imported_uri(self, task: _Task, given: Mapping[str, Any]) -> str | None:
        constant, parameter = text(given.get("constant")), text(given.get("runtimeParameter"))
        if constant is not None or parameter is None:
            return constant
        source = mapping(mapping(mapping(task.spec.get("inputs")).get("parameters")).get(parameter))
        direct = text(mapping(source.get("runtimeValue")).get("constant"))
        name, root = text(source.get("componentInputParameter")), self.root
        if direct is not None or name is None or root is None or task.parent != root.store_id:
            return direct
        arguments = mapping(_json(root.node.inputs.parameters.get("runtime-config")).get("parameterValues"))
        default = mapping(mapping(mapping(root.component.get("inputDefinitions")).get("parameters")).get(name))
        return text(arguments.get(name)) or text(default.get("defaultValue"))

    def used(self, task: _Task, key: ExecutionKey) -> Iterator[EventRecord | Use]:
        inputs = mapping(mapping(task.launcher.get("inputs")).get("artifacts"))
        if not task.attempts:
            return
        started = task.attempts[0].started_ms or 0
        for name, given in sorted(inputs.items()):
            artifacts = items(mapping(given).get("artifacts"))
            for place, artifact in enumerate(artifacts):
                uri = text(artifact.get("uri"))
                if uri is None:
                    continue
                made = self.choose(self.produced.get(uri, ()), task, name)
                link = Use(
                    execution=key,
                    uri=uri,
                    as_of_ms=started if made is None else made.as_of_ms,
                    type=EventType.INPUT,
                    path=name,
                    index=place,
                    at_ms=started,
                    default_type=_schema(artifact),
                )
                if made is None or made.artifact is None:
                    yield link
                else:
                    yield EventRecord(
                        execution=key,
                        artifact=made.artifact,
                        type=EventType.INPUT,
                        path=name,
                        index=place,
                        at_ms=started,
                    )

    def choose(self, candidates: Sequence[_Produced], task: _Task, name: str) -> _Produced | None:
        """Whose output an input is.

        Before 2.14 tasks of one name in several groups share a URI: the specification then says which of them it is.
        """
        if len(candidates) > 1:
            meant = {producer.node.id for producer in self.producers(task, name)}
            candidates = [one for one in candidates if one.task.node.id in meant] or candidates
        return max(candidates, key=lambda one: (one.as_of_ms, one.task.node.id), default=None)

    def producers(self, task: _Task, name: str) -> Iterator[_Task]:
        """The tasks whose output a task's input is, by the pipeline's specification."""
        source = mapping(mapping(mapping(task.spec.get("inputs")).get("artifacts")).get(name))
        output = mapping(source.get("taskOutputArtifact"))
        producer, outer = text(output.get("producerTask")), text(source.get("componentInputArtifact"))
        if producer is not None:
            for sibling in self.children(task.parent, producer):
                yield from self.output_tasks(sibling, text(output.get("outputArtifactKey")) or "")
        elif outer is not None:
            group = self.parent(task)
            while group is not None and group.iteration is not None:  # a loop's iteration has the loop's inputs
                group = self.parent(group)
            if group is not None:
                yield from self.producers(group, outer)

    def output_tasks(self, task: _Task, output: str) -> Iterator[_Task]:
        """The tasks inside a group that make one of its outputs; the task itself when it is none."""
        if task.type != DAG_EXECUTION or task.store_id is None:
            yield task
            return
        for iteration in self.tasks:
            if task.iterations and iteration.parent == task.store_id:
                yield from self.output_tasks(iteration, output)
        if task.iterations:
            return
        outputs = mapping(mapping(mapping(task.component.get("dag")).get("outputs")).get("artifacts"))
        for selector in items(mapping(outputs.get(output)).get("artifactSelectors")):
            for child in self.children(task.store_id, text(selector.get("producerSubtask")) or ""):
                yield from self.output_tasks(child, text(selector.get("outputArtifactKey")) or "")

    def children(self, parent: int | None, name: str) -> list[_Task]:
        return [task for task in self.tasks if task.parent == parent and task.name == name]


def _task_name(spec: Mapping[str, Any], fallback: str) -> str:
    return text(mapping(spec.get("taskInfo")).get("name")) or fallback


def _schema(artifact: Mapping[str, Any]) -> str:
    """The artifact type's name: its schema title, or the title in an inline schema."""
    given = mapping(artifact.get("type"))
    title = text(given.get("schemaTitle"))
    if title is None:
        inline = text(given.get("instanceSchema")) or ""
        title = next((line[6:].strip() for line in inline.splitlines() if line.startswith("title:")), "")
    return title or ARTIFACT
