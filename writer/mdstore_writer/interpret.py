"""Turns one observed run into records: a pure function, so that a recording gives what the live cluster gave.

Which nodes are executions: every node that runs something (pods, containers, HTTP requests, plugins, waits), each
attempt of its own, and the groups that mean something to a reader (nested DAGs and steps, loops). Not executions
are a Retry node, whose attempts are, and a StepGroup, which only says what runs side by side.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mdstore.values import JSON, ArtifactState, EventType
from mdstore.vocabulary import ARTIFACT, CONTAINER_EXECUTION, DAG_EXECUTION, Property
from mdstore_writer import kubeflow, locations
from mdstore_writer.argo import Artifact, Io, Node, Workflow, iso
from mdstore_writer.contexts import RunContexts, contexts
from mdstore_writer.executions import (
    GROUPS,
    artifact_type,
    common_properties,
    did_run,
    outputs_of,
    pod_properties,
    prefix,
    root_execution,
    state_of,
)
from mdstore_writer.kubeflow_tasks import NONE_KNOWN, LauncherExecution
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import (
    ArtifactRecord,
    EventRecord,
    ExecutionKey,
    ExecutionRecord,
    Problem,
    Records,
    Use,
)

_LOOP_ITEM: Final = re.compile(r"(?P<task>[^(]+)\((?P<index>\d+):")
_ATTEMPT: Final = re.compile(r"\((?P<attempt>\d+)\)$")


def interpret(run: ObservedRun, known: Mapping[int, LauncherExecution] = NONE_KNOWN) -> Records:
    """What an observed run says.

    Args:
        run: the newest states of its objects.
        known: the executions that Kubeflow's own launcher wrote of this run into the same store; these are enriched,
            and the records hold no artifacts of theirs.
    """
    if run.workflow.kubeflow_run_id is not None:
        return kubeflow.interpret(run, known)
    return _Interpretation(run).records()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Produced:
    """What a node of this run put somewhere: a version of its own, or one that it found in the cache."""

    finished_ms: int
    node: str
    artifact: str | None
    cached_as_of_ms: int


@dataclass(slots=True)
class _Interpretation:
    """One pass over the nodes of one run."""

    run: ObservedRun
    contexts: RunContexts = field(init=False)
    attempts: dict[str, tuple[Node, int]] = field(init=False)
    """Of each attempt: its Retry node and which attempt it is."""
    loops: dict[str, str] = field(init=False)
    """Node -> the TaskGroup whose item it is."""
    produced: dict[str, list[_Produced]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.contexts = contexts(self.run)
        self.attempts = _attempts(self.nodes)
        self.loops = {
            child: node.id for node in self.nodes.values() if node.type == "TaskGroup" for child in node.children
        }

    @property
    def workflow(self) -> Workflow:
        return self.run.workflow

    @property
    def nodes(self) -> Mapping[str, Node]:
        return self.run.workflow.nodes

    @property
    def root(self) -> ExecutionKey:
        return ExecutionKey(external_id=prefix(self.run), name=f"run/{self.workflow.uid}")

    def key(self, node: Node) -> ExecutionKey:
        return ExecutionKey(external_id=f"{prefix(self.run)}/{node.id}")

    def records(self) -> Records:
        if not self.workflow.has_status and (self.run.is_deleted or self.run.is_abandoned):
            self.problem("status", "the workflow has no status: its controller never looked at it, or it is cut out")
        if self.workflow.nodes_problem is not None:
            self.problem("nodes", self.workflow.nodes_problem)
        chosen = [node for _, node in sorted(self.nodes.items()) if self.is_execution(node)]
        executions = [root_execution(self.run, self.root)]
        artifacts: list[ArtifactRecord] = []
        events: list[EventRecord] = []
        uses: list[Use] = []
        for node in chosen:
            executions.append(self.execution(node))
            for record, event in self.made(node):
                artifacts.append(record)
                events.append(event)
            uses.extend(self.found_in_cache(node))
        # Only now, since it is the producers of this run that inputs are looked for at first.
        for node in chosen:
            for linked in self.used(node):
                if isinstance(linked, Use):
                    uses.append(linked)
                else:
                    events.append(linked)
        return Records(
            contexts=(self.contexts.pipeline, self.contexts.run),
            parents=((self.contexts.run.key, self.contexts.pipeline.key),),
            artifacts=tuple(artifacts),
            executions=tuple(executions),
            events=tuple(events),
            attributions=tuple((record.external_id, key) for record in artifacts for key in self.contexts.keys),
            associations=tuple((execution.key, key) for execution in executions for key in self.contexts.keys),
            uses=tuple(uses),
            problems=tuple(self.problems),
        )

    def is_execution(self, node: Node) -> bool:
        if node.type == "StepGroup":
            return False
        if node.type == "Retry":
            # One that never tried: a cache hit, or an error before the first attempt.
            return node.is_over and not any(retry.id == node.id for retry, _ in self.attempts.values())
        return not (node.id == self.workflow.name and node.type in GROUPS)

    def is_group(self, node: Node) -> bool:
        return node.type in GROUPS and not node.is_cache_hit

    def execution(self, node: Node) -> ExecutionRecord:
        state = state_of(self.run, node)
        retry, attempt = self.attempts.get(node.id, (node, 0))
        # Argo calls an exit handler `WORKFLOW.onExit`.
        name = retry.display_name.removeprefix(f"{self.workflow.name}.")
        item = _LOOP_ITEM.match(name)
        properties = common_properties(self.run, node, state) | {
            Property.DISPLAY_NAME: name,
            Property.TASK_NAME: item["task"] if item else name,
            Property.ATTEMPT: attempt,
            Property.NAMESPACE: self.workflow.namespace,
            Property.PARENT: self.parent(node).external_id,
        }
        if item and retry.type != "TaskGroup":
            properties[Property.ITERATION_INDEX] = int(item["index"])
        if node.type == "TaskGroup":
            properties[Property.ITERATION_COUNT] = len(node.children)
        if node.inputs.parameters:
            properties[Property.INPUTS] = dict(node.inputs.parameters)
        outputs = outputs_of(self.run, node)
        values: dict[str, JSON] = dict(outputs.parameters)
        if outputs.result is not None:
            values["result"] = outputs.result
        if values:
            properties[Property.OUTPUTS] = values
        if not self.is_group(node):
            properties |= pod_properties(self.run, node, state)
        if outputs.exit_code is not None and node.is_over and not node.is_cache_hit:
            properties[Property.EXIT_CODE] = outputs.exit_code
        return ExecutionRecord(
            key=self.key(node),
            type=DAG_EXECUTION if self.is_group(node) else CONTAINER_EXECUTION,
            state=state,
            is_last_word=node.is_over,
            properties=properties,
        )

    def parent(self, node: Node) -> ExecutionKey:
        """The execution around a node's: its loop, else the group that it is a task of."""
        retry, _ = self.attempts.get(node.id, (node, 0))
        around = self.nodes.get(self.loops.get(retry.id) or node.boundary or "")
        while around is not None and not self.is_execution(around):
            around = self.nodes.get(around.boundary or "")
        return self.root if around is None else self.key(around)

    def located(self, node: Node, given: Io, what: str) -> Iterator[tuple[Artifact, str]]:
        for artifact in given.artifacts:
            uri = locations.uri(artifact.source, self.workflow.repository)
            if uri is not None:
                yield artifact, uri
            elif not artifact.is_optional and node.phase not in {"Failed", "Error"}:
                # A step that failed did not save everything that it declares.
                self.problem(
                    f"{node.id}/{what}/{artifact.name}",
                    f"{what} artifact {artifact.name!r} of node {node.display_name!r} ({node.id}) has no location",
                )

    def made(self, node: Node) -> Iterator[tuple[ArtifactRecord, EventRecord]]:
        if node.is_cache_hit or self.is_group(node):
            return
        finished = node.finished_ms or self.workflow.finished_ms or node.started_ms or 0
        for artifact, uri in self.located(node, outputs_of(self.run, node), "output"):
            external_id = f"{self.key(node).external_id}/{artifact.name}"
            self.produced.setdefault(uri, []).append(
                _Produced(finished_ms=finished, node=node.id, artifact=external_id, cached_as_of_ms=0)
            )
            yield (
                ArtifactRecord(
                    external_id=external_id,
                    type=artifact_type(artifact.name, uri),
                    uri=uri,
                    state=ArtifactState.DELETED if artifact.source.get("deleted") is True else ArtifactState.LIVE,
                    produced_ms=finished,
                    properties={
                        Property.DISPLAY_NAME: artifact.name,
                        Property.PRODUCED_AT: iso(finished),
                        Property.NAMESPACE: self.workflow.namespace,
                    },
                ),
                EventRecord(
                    execution=self.key(node),
                    artifact=external_id,
                    type=EventType.OUTPUT,
                    path=artifact.name,
                    at_ms=finished,
                ),
            )

    def found_in_cache(self, node: Node) -> Iterator[Use]:
        if not node.is_cache_hit or not node.is_over:
            return
        started = node.started_ms or 0
        for artifact, uri in self.located(node, outputs_of(self.run, node), "output"):
            self.produced.setdefault(uri, []).append(
                _Produced(finished_ms=started, node=node.id, artifact=None, cached_as_of_ms=started)
            )
            yield Use(
                execution=self.key(node),
                uri=uri,
                as_of_ms=started,
                type=EventType.OUTPUT,
                path=artifact.name,
                at_ms=node.finished_ms or started,
                is_from_cache=True,
                contexts=self.contexts.keys,
                default_type=artifact_type(artifact.name, uri),
            )

    def used(self, node: Node) -> Iterator[EventRecord | Use]:
        if self.is_group(node) or not did_run(node) or node.started_ms is None:
            return
        for artifact, uri in self.located(node, node.inputs, "input"):
            link = Use(
                execution=self.key(node),
                uri=uri,
                as_of_ms=node.started_ms,
                type=EventType.INPUT,
                path=artifact.name,
                at_ms=node.started_ms,
                default_type=ARTIFACT,
            )
            candidates = [
                made
                for made in self.produced.get(uri, ())
                if made.finished_ms <= node.started_ms and made.node != node.id
            ]
            if not candidates:
                yield link
                continue
            latest = max(candidates, key=lambda made: (made.finished_ms, made.node))
            if latest.artifact is None:
                yield replace(link, as_of_ms=latest.cached_as_of_ms)
            else:
                yield EventRecord(
                    execution=link.execution,
                    artifact=latest.artifact,
                    type=EventType.INPUT,
                    path=link.path,
                    at_ms=link.at_ms,
                )

    def problem(self, key: str, reason: str) -> None:
        self.problems.append(
            Problem(
                key=f"{prefix(self.run)}/{key}",
                reason=reason,
                subject=f"Workflow {self.workflow.namespace}/{self.workflow.name}",
            )
        )


def _attempts(nodes: Mapping[str, Node]) -> dict[str, tuple[Node, int]]:
    found: dict[str, tuple[Node, int]] = {}
    for retry in nodes.values():
        if retry.type != "Retry":
            continue
        for child in retry.children:
            node = nodes.get(child)
            numbered = _ATTEMPT.search(node.name) if node is not None else None
            # Hooks are children of a Retry node too.
            if node is not None and numbered is not None and node.name == f"{retry.name}{numbered[0]}":
                found[node.id] = retry, int(numbered["attempt"])
    return found
