"""What the writer records, as frozen values: the step between an observed run and the store's messages.

Nodes are named by keys that follow from what was observed (cluster, namespace, workflow uid, node id, output name),
so the same observation gives the same records, whoever makes it and however often.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mdstore.values import JSON, ArtifactState, EventType, ExecutionState


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRecord:
    """A run or a pipeline."""

    type: str
    name: str
    properties: Mapping[str, JSON] = field(default_factory=dict)
    default_properties: Mapping[str, JSON] = field(default_factory=dict)
    """Written only where the context does not have them."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from all others."""
        return self.type, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionKey:
    """How an execution is found.

    `store_id` is set when Kubeflow's own launcher wrote the execution and gave it no external id; else the external id
    decides, or for a run's root, which Kubeflow's driver may have written, the name.
    """

    external_id: str
    store_id: int | None = None
    run: str | None = None
    """The run context's name, which must hold `store_id`."""
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """One try of one task, or a group of them."""

    key: ExecutionKey
    type: str
    state: ExecutionState | None
    is_last_word: bool = False
    """The state replaces another final one."""
    properties: Mapping[str, JSON] = field(default_factory=dict)
    default_properties: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRecord:
    """One version of what is at a location: what one execution put there."""

    external_id: str
    type: str
    uri: str
    state: ArtifactState = ArtifactState.LIVE
    produced_ms: int | None
    properties: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """An execution made or used an artifact that is known by its external id."""

    execution: ExecutionKey
    artifact: str
    type: EventType
    path: str
    index: int | None = None
    """The place in a list of artifacts of one name."""
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """An execution made or used what was at a location at a time, whichever version that was.

    An input comes from outside of the run; an output was not made but found there.
    """

    execution: ExecutionKey
    uri: str
    as_of_ms: int
    """The version is the last one that was finished by then."""
    type: EventType
    path: str
    index: int | None = None
    at_ms: int
    is_from_cache: bool = False
    """The output is another execution's, which did the same before."""
    contexts: tuple[tuple[str, str], ...] = ()
    """The contexts that an output also belongs to."""
    default_type: str
    """Of the artifact that stands for an unknown version."""
    default_properties: Mapping[str, JSON] = field(default_factory=dict)
    """Of the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in an observed run that could not be recorded."""

    key: str
    reason: str
    subject: str
    """What it is about: `Workflow pipelines/train-x2k`, and the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Everything that one observed run says."""

    contexts: tuple[ContextRecord, ...] = ()
    parents: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = ()
    """(child, parent) keys of contexts."""
    artifacts: tuple[ArtifactRecord, ...] = ()
    executions: tuple[ExecutionRecord, ...] = ()
    events: tuple[EventRecord, ...] = ()
    attributions: tuple[tuple[str, tuple[str, str]], ...] = ()
    """(external id of an artifact, key of a context)."""
    associations: tuple[tuple[ExecutionKey, tuple[str, str]], ...] = ()
    uses: tuple[Use, ...] = ()
    problems: tuple[Problem, ...] = ()
