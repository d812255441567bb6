"""What the tasks of a run of Kubeflow Pipelines v2 made and used, where its launcher does not write that here.

The driver makes the arguments of the launcher; they name each input and output with its URI. Whose output an input is
follows from the URI, and where several tasks have one, from the pipeline's specification.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mdstore.values import EventType, ExecutionState
from mdstore.vocabulary import ARTIFACT, DAG_EXECUTION, IMPORTER_EXECUTION, LOG, Property
from mdstore_writer import locations
from mdstore_writer.argo import iso, items, mapping, text
from mdstore_writer.executions import has_final_outputs, outputs_of
from mdstore_writer.kubeflow_tasks import Task, Tasks, json_of
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import ArtifactRecord, EventRecord, ExecutionKey, Use


@dataclass(frozen=True, slots=True, kw_only=True)
class _Produced:
    task: Task
    artifact: str | None
    """None for what was there before: its version is that of `as_of_ms`."""
    as_of_ms: int


@dataclass(slots=True, kw_only=True)
class Artifacts:
    """What the tasks of one run put where."""

    run: ObservedRun
    tasks: Tasks
    contexts: tuple[tuple[str, str], ...]
    """Keys of the contexts that artifacts belong to."""
    _produced: dict[str, list[_Produced]] = field(default_factory=dict)

    def made(self, task: Task, key: ExecutionKey) -> Iterator[tuple[ArtifactRecord, EventRecord] | Use]:
        """What a task output, with its events; what an importer found there as a use."""
        state = self.tasks.state(task)
        if task.type == IMPORTER_EXECUTION:
            if state is ExecutionState.COMPLETE:
                yield from self._imported(task, key)
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
                        yield self._version(task, key, name, at, type_name=LOG, finished=finished)
                    elif uri is not None:
                        yield self._version(
                            task, key, name, uri, type_name=_schema(artifact), finished=finished, place=place
                        )
        if has_final_outputs(self.run, last):
            for log in outputs_of(self.run, last).artifacts:
                uri = locations.uri(log.source, self.run.workflow.repository)
                if uri is not None and log.name == "main-logs":
                    yield self._version(task, key, log.name, uri, type_name=LOG, finished=finished)

    def _version(
        self, task: Task, key: ExecutionKey, name: str, uri: str, *, type_name: str, finished: int, place: int = 0
    ) -> tuple[ArtifactRecord, EventRecord]:
        external_id = f"{key.external_id}/{name}" + (f"/{place}" if place else "")
        self._produced.setdefault(uri, []).append(_Produced(task=task, artifact=external_id, as_of_ms=finished))
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

    def _imported(self, task: Task, key: ExecutionKey) -> Iterator[tuple[ArtifactRecord, EventRecord] | Use]:
        importer = json_of(task.node.inputs.parameters.get("importer"))
        uri = self._imported_uri(task, mapping(importer.get("artifactUri")))
        if uri is None:
            return
        finished = task.node.finished_ms or task.node.started_ms or 0
        names = mapping(mapping(task.component.get("outputDefinitions")).get("artifacts"))
        name, schema = next(iter(names), "artifact"), _schema({"type": importer.get("typeSchema")})
        if importer.get("reimport") is True:
            yield self._version(task, key, name, uri, type_name=schema, finished=finished)
            return
        # What is there already is not made again: the importer's output is the version that it found.
        self._produced.setdefault(uri, []).append(_Produced(task=task, artifact=None, as_of_ms=finished))
        metadata = {name: value for name, value in mapping(importer.get("metadata")).items() if value is not None}
        yield Use(
            execution=key,
            uri=uri,
            as_of_ms=finished,
            type=EventType.OUTPUT,
            path=name,
            at_ms=finished,
            contexts=self.contexts,
            default_type=schema,
            default_properties={Property.DISPLAY_NAME: name, **metadata},
        )

    def _imported_uri(self, task: Task, given: Mapping[str, Any]) -> str | None:
        constant, parameter = text(given.get("constant")), text(given.get("runtimeParameter"))
        if constant is not None or parameter is None:
            return constant
        source = mapping(mapping(mapping(task.spec.get("inputs")).get("parameters")).get(parameter))
        direct = text(mapping(source.get("runtimeValue")).get("constant"))
        name, root = text(source.get("componentInputParameter")), self.tasks.root
        if direct is not None or name is None or root is None or task.parent != root.store_id:
            return direct
        arguments = mapping(json_of(root.node.inputs.parameters.get("runtime-config")).get("parameterValues"))
        default = mapping(mapping(mapping(root.component.get("inputDefinitions")).get("parameters")).get(name))
        return text(arguments.get(name)) or text(default.get("defaultValue"))

    def used(self, task: Task, key: ExecutionKey) -> Iterator[EventRecord | Use]:
        """What a task used; after `made` of all tasks, whose outputs are looked for first."""
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
                made = self._choose(self._produced.get(uri, ()), task, name)
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

    def _choose(self, candidates: Sequence[_Produced], task: Task, name: str) -> _Produced | None:
        """Whose output an input is.

        Before 2.14 tasks of one name in several groups share a URI: the specification then says which of them it is.
        """
        if len(candidates) > 1:
            meant = {producer.node.id for producer in self._producers(task, name)}
            candidates = [one for one in candidates if one.task.node.id in meant] or candidates
        return max(candidates, key=lambda one: (one.as_of_ms, one.task.node.id), default=None)

    def _producers(self, task: Task, name: str) -> Iterator[Task]:
        """The tasks whose output a task's input is, by the pipeline's specification."""
        source = mapping(mapping(mapping(task.spec.get("inputs")).get("artifacts")).get(name))
        output = mapping(source.get("taskOutputArtifact"))
        producer, outer = text(output.get("producerTask")), text(source.get("componentInputArtifact"))
        if producer is not None:
            for sibling in self.tasks.children(task.parent, producer):
                yield from self._output_tasks(sibling, text(output.get("outputArtifactKey")) or "")
        elif outer is not None:
            group = self.tasks.parent(task)
            while group is not None and group.iteration is not None:  # a loop's iteration has the loop's inputs
                group = self.tasks.parent(group)
            if group is not None:
                yield from self._producers(group, outer)

    def _output_tasks(self, task: Task, output: str) -> Iterator[Task]:
        """The tasks inside a group that make one of its outputs; the task itself when it is none."""
        if task.type != DAG_EXECUTION or task.store_id is None:
            yield task
            return
        for iteration in self.tasks.all:
            if task.iterations and iteration.parent == task.store_id:
                yield from self._output_tasks(iteration, output)
        if task.iterations:
            return
        outputs = mapping(mapping(mapping(task.component.get("dag")).get("outputs")).get("artifacts"))
        for selector in items(mapping(outputs.get(output)).get("artifactSelectors")):
            for child in self.tasks.children(task.store_id, text(selector.get("producerSubtask")) or ""):
                yield from self._output_tasks(child, text(selector.get("outputArtifactKey")) or "")


def _schema(artifact: Mapping[str, Any]) -> str:
    """The artifact type's name: its schema title, or the title in an inline schema."""
    given = mapping(artifact.get("type"))
    title = text(given.get("schemaTitle"))
    if title is None:
        inline = text(given.get("instanceSchema")) or ""
        title = next((line[6:].strip() for line in inline.splitlines() if line.startswith("title:")), "")
    return title or ARTIFACT
