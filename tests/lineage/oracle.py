"""What the graph should answer, in plain Python over sets, with no thought of speed; and random stores to ask about."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from mdstore.values import ArtifactId, EventType, ExecutionId
from mdstore.wire import changes, mlmd
from mdstore_lineage.graph import ArtifactNode, Direction, Edge, ExecutionNode, Node

STORE = "store-1"
ARTIFACT_TYPES = {1: "Dataset", 2: "Model", 3: "Model"}  # two versions of one name
EXECUTION_TYPES = {11: "Train", 12: "Split", 13: "system.DAGExecution", 14: "system.ImporterExecution"}
HANDING_ON = {13, 14}
CONTEXT_TYPES = {21: "system.PipelineRun", 22: "system.Pipeline", 23: "KfpRun"}
RUN_TYPES = {21, 23}


@dataclass
class Facts:
    """The sets that a store is, whatever its history."""

    types: dict[Node, int] = field(default_factory=dict)
    edges: dict[tuple[int, int, int], Edge] = field(default_factory=dict)
    handing_on: set[int] = field(default_factory=set)
    """The executions whose last state is CACHED, or that are a group or an importer."""
    contexts: dict[int, int] = field(default_factory=dict)
    members: set[tuple[Node, int]] = field(default_factory=set)


def artifact(number: int) -> ArtifactNode:
    return ArtifactNode(ArtifactId(number))


def execution(number: int) -> ExecutionNode:
    return ExecutionNode(ExecutionId(number))


def event(artifact_id: int, execution_id: int, kind: EventType, *path: str | int, at_ms: int = 0) -> mlmd.Event:
    found = mlmd.Event(
        artifact_id=artifact_id,
        execution_id=execution_id,
        type=mlmd.Event.Type.ValueType(kind.value),
        milliseconds_since_epoch=at_ms,
    )
    for step in path:
        if isinstance(step, str):
            found.path.steps.add(key=step)
        else:
            found.path.steps.add(index=step)
    return found


def type_changes() -> changes.Changes:
    return changes.Changes(
        artifact_types=[mlmd.ArtifactType(id=number, name=name) for number, name in ARTIFACT_TYPES.items()],
        execution_types=[mlmd.ExecutionType(id=number, name=name) for number, name in EXECUTION_TYPES.items()],
        context_types=[mlmd.ContextType(id=number, name=name) for number, name in CONTEXT_TYPES.items()],
    )


def commits_of(parts: Sequence[changes.Changes]) -> list[changes.Commit]:
    """The log whose commits are the parts, from position 1."""
    return [
        changes.Commit(seq=seq, time_ms=1000 + seq, origin="mlmd", hash=f"hash-{seq}".encode(), changes=part)
        for seq, part in enumerate(parts, start=1)
    ]


def facts_of(commits: Sequence[changes.Commit]) -> Facts:
    """What the commits add up to."""
    facts = Facts()
    for commit in commits:
        change = commit.changes
        for one in change.artifacts:
            facts.types.setdefault(artifact(one.id), one.type_id)
        for other in change.executions:
            facts.types.setdefault(execution(other.id), other.type_id)
            hands_on = other.last_known_state == mlmd.Execution.CACHED or other.type_id in HANDING_ON
            (facts.handing_on.add if hands_on else facts.handing_on.discard)(other.id)
        for context in change.contexts:
            facts.contexts.setdefault(context.id, context.type_id)
        for happened in change.events:
            ends: tuple[Node, Node] = (artifact(happened.artifact_id), execution(happened.execution_id))
            if happened.type == 0 or not set(ends) <= set(facts.types):
                continue
            keys = [step.key for step in happened.path.steps if step.HasField("key")]
            triple = (happened.artifact_id, happened.execution_id, happened.type)
            edge = Edge(
                ArtifactId(happened.artifact_id),
                ExecutionId(happened.execution_id),
                EventType(happened.type),
                keys[-1] if keys else None,
                happened.milliseconds_since_epoch,
            )
            facts.edges.setdefault(triple, edge)
        for attribution in change.attributions:
            facts.members.add((artifact(attribution.artifact_id), attribution.context_id))
        for association in change.associations:
            facts.members.add((execution(association.execution_id), association.context_id))
        _take_away(facts, change)
    return facts


def _take_away(facts: Facts, change: changes.Changes) -> None:
    gone: set[Node] = {artifact(deletion.id) for deletion in change.deleted_artifacts}
    gone |= {execution(deletion.id) for deletion in change.deleted_executions}
    contexts = {deletion.id for deletion in change.deleted_contexts}
    for node in gone:
        facts.types.pop(node, None)
    facts.handing_on -= {deletion.id for deletion in change.deleted_executions}
    facts.edges = {key: edge for key, edge in facts.edges.items() if not gone & set(ends_of(edge))}
    facts.contexts = {number: type_id for number, type_id in facts.contexts.items() if number not in contexts}
    facts.members = {(node, context) for node, context in facts.members if node not in gone and context not in contexts}


def ends_of(edge: Edge) -> tuple[Node, Node]:
    """Where data comes from, and where it goes to."""
    if edge.type.is_output:
        return execution(edge.execution_id), artifact(edge.artifact_id)
    return artifact(edge.artifact_id), execution(edge.execution_id)


def sort_key(node: Node) -> tuple[bool, int]:
    return isinstance(node, ExecutionNode), node.id


def type_name(facts: Facts, node: Node) -> str:
    names = EXECUTION_TYPES if isinstance(node, ExecutionNode) else ARTIFACT_TYPES
    return names[facts.types[node]]


def counts(facts: Facts, edge: Edge, direction: Direction) -> bool:
    """Whether a walk may use the edge: not when somebody else made what the execution handed on."""
    if direction is Direction.BOTH or edge.type.is_input or edge.execution_id not in facts.handing_on:
        return True
    makers = {
        other.execution_id
        for other in facts.edges.values()
        if other.artifact_id == edge.artifact_id and other.type.is_output
    }
    return makers <= facts.handing_on


def edges_of(facts: Facts, node: Node, direction: Direction) -> list[Edge]:
    """The edges one hop away, by artifact, execution and type."""
    found = []
    for triple in sorted(facts.edges):
        source, target = ends_of(facts.edges[triple])
        upstream, downstream = target == node, source == node
        wanted = {
            Direction.UPSTREAM: upstream,
            Direction.DOWNSTREAM: downstream,
            Direction.BOTH: upstream or downstream,
        }
        if wanted[direction]:
            found.append(facts.edges[triple])
    return found


def next_of(facts: Facts, node: Node, direction: Direction) -> set[Node]:
    usable = (edge for edge in edges_of(facts, node, direction) if counts(facts, edge, direction))
    return {end for edge in usable for end in ends_of(edge)} - {node}


def levels(facts: Facts, start: Collection[Node], direction: Direction) -> Iterator[list[Node]]:
    """The nodes at each distance, from 0 on, by kind and id; to the end."""
    level = sorted({node for node in start if node in facts.types}, key=sort_key)
    seen = set(level)
    while level:
        yield level
        found = {near for node in level for near in next_of(facts, node, direction)} - seen
        seen |= found
        level = sorted(found, key=sort_key)


def inner_edges(facts: Facts, nodes: Collection[Node], direction: Direction = Direction.BOTH) -> list[Edge]:
    """All usable edges with both ends among the nodes, by artifact, execution and type."""
    inside = set(nodes)
    found = [edge for _, edge in sorted(facts.edges.items(), key=lambda item: item[0]) if set(ends_of(edge)) <= inside]
    return [edge for edge in found if counts(facts, edge, direction)]


def simple_paths(facts: Facts, start: Node, end: Node) -> list[tuple[Node, ...]]:
    """Each simple path, by trying everything."""
    if start not in facts.types or end not in facts.types:
        return []
    found = []
    waiting: list[tuple[Node, ...]] = [(start,)]
    while waiting:
        path = waiting.pop()
        if path[-1] == end:
            found.append(path)
            continue
        waiting += [(*path, near) for near in next_of(facts, path[-1], Direction.DOWNSTREAM) if near not in path]
    return found


def runs_of(facts: Facts, node: Node) -> list[int]:
    return sorted(
        context for member, context in facts.members if member == node and facts.contexts.get(context) in RUN_TYPES
    )


EVENT_TYPES = st.sampled_from(list(EventType))
STATES = st.sampled_from([None, mlmd.Execution.COMPLETE, mlmd.Execution.CACHED])
STEPS = st.lists(st.one_of(st.sampled_from(["data", "model", ""]), st.integers(-1, 3)), max_size=3)


@st.composite
def histories(draw: st.DrawFn, most_ids: int = 7, most_events: int = 30) -> list[changes.Commit]:
    """Logs of small stores: any events between nodes (cycles too), some of nodes that do not exist or come later.

    Executions change their states in between, to CACHED and away from it.
    """
    artifact_ids = range(1, draw(st.integers(1, most_ids)) + 1)
    execution_ids = range(1, draw(st.integers(1, most_ids)) + 1)
    context_ids = range(1, draw(st.integers(1, 4)) + 1)
    type_of = {number: draw(st.sampled_from(sorted(EXECUTION_TYPES))) for number in execution_ids}

    def image(number: int) -> mlmd.Execution:
        return mlmd.Execution(id=number, type_id=type_of[number], last_known_state=draw(STATES))

    nodes: list[changes.Changes] = [
        *(
            changes.Changes(
                artifacts=[mlmd.Artifact(id=number, type_id=draw(st.sampled_from(sorted(ARTIFACT_TYPES))))],
                created_artifact_ids=[number],
            )
            for number in artifact_ids
        ),
        *(
            changes.Changes(
                executions=[image(number)],
                created_execution_ids=[number],
            )
            for number in execution_ids
        ),
        *(
            changes.Changes(
                contexts=[
                    mlmd.Context(id=number, type_id=draw(st.sampled_from(sorted(CONTEXT_TYPES))), name=f"c{number}")
                ]
            )
            for number in context_ids
        ),
    ]
    # Ids one above the last are of nodes that do not exist.
    any_artifact, any_execution = st.integers(1, len(artifact_ids) + 1), st.integers(1, len(execution_ids) + 1)
    any_context = st.integers(1, len(context_ids) + 1)
    links: list[changes.Changes] = []
    for artifact_id, execution_id, kind, path, at_ms in draw(
        st.lists(st.tuples(any_artifact, any_execution, EVENT_TYPES, STEPS, st.integers(0, 9)), max_size=most_events)
    ):
        links.append(changes.Changes(events=[event(artifact_id, execution_id, kind, *path, at_ms=at_ms)]))
    for number, context_id in draw(st.lists(st.tuples(any_artifact, any_context), max_size=6)):
        links.append(changes.Changes(attributions=[mlmd.Attribution(artifact_id=number, context_id=context_id)]))
    for number, context_id in draw(st.lists(st.tuples(any_execution, any_context), max_size=6)):
        links.append(changes.Changes(associations=[mlmd.Association(execution_id=number, context_id=context_id)]))
    for number in draw(st.lists(st.sampled_from(execution_ids), max_size=8)):
        links.insert(draw(st.integers(0, len(links))), changes.Changes(executions=[image(number)]))
    # Mostly nodes first, as a store does it; a few late ones must not change what the log says.
    late = draw(st.integers(0, min(2, len(nodes))))
    ordered = nodes[: len(nodes) - late] + links + nodes[len(nodes) - late :]
    parts = [type_changes()]
    for part in ordered:
        if draw(st.booleans()):
            parts[-1].MergeFrom(part)
        else:
            parts.append(part)
    parts += draw(st.lists(_deletions(any_artifact, any_execution, any_context), max_size=3))
    return commits_of(parts)


@st.composite
def _deletions(
    draw: st.DrawFn,
    artifacts: st.SearchStrategy[int],
    executions: st.SearchStrategy[int],
    contexts: st.SearchStrategy[int],
) -> changes.Changes:
    """Some nodes go, of which some never were; a link to one that is gone means nothing."""
    return changes.Changes(
        events=[event(draw(artifacts), draw(executions), draw(EVENT_TYPES))],
        deleted_artifacts=[changes.Deletion(id=number) for number in draw(st.sets(artifacts, max_size=2))],
        deleted_executions=[changes.Deletion(id=number) for number in draw(st.sets(executions, max_size=2))],
        deleted_contexts=[changes.Deletion(id=number) for number in draw(st.sets(contexts, max_size=1))],
    )
