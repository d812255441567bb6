"""What a step logged, as requests of `mdstore.v1.Ingestion`.

Every request stands alone: it names the run, the pipeline and the execution again, which changes nothing when they are
there. So no request depends on one before it, and each may be sent again, at any time, any number of times.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mdstore.values import JSON, ArtifactState, EventType, ExecutionState, value_from_json
from mdstore.vocabulary import METRICS, PIPELINE, PIPELINE_RUN, Property
from mdstore.wire import ingestion, mlmd

ORIGIN = "step"
METRICS_NAME = "metrics"
"""The output under which a step's metrics are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a step is called in the store; it decides what is the same step."""

    key: ingestion.NodeKey
    base: str
    """What the external ids of its artifacts and of the steps inside it begin with."""
    run: str
    """The run context's name."""
    pipeline: str | None
    """The pipeline context's name."""
    is_own_run: bool = False
    """Nobody else records the run: the step says how it ended."""
    is_joined: bool = False
    """The execution is also recorded by the writer or by Kubeflow's launcher."""
    is_launchers: bool = False
    """Kubeflow's launcher made the execution, and will write it as a whole when it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """An input."""

    name: str
    uri: str
    digest: str | None
    type: str
    properties: Mapping[str, JSON]
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """An output; `index` counts those of one name."""

    name: str
    index: int
    uri: str | None
    digest: str | None
    type: str
    properties: Mapping[str, JSON]
    at_ms: int


@dataclass(slots=True, kw_only=True)
class Changes:
    """What is new of a step since the last request."""

    uses: list[Use] = field(default_factory=list)
    outputs: dict[tuple[str, int], Output] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, JSON] | None = None
    """All of them, when there are new ones."""
    properties: dict[str, JSON] = field(default_factory=dict)
    """Of the execution."""
    state: ExecutionState | None = None
    run_properties: dict[str, JSON] = field(default_factory=dict)
    """Of a run that is the step's own."""

    def count(self) -> int:
        """How many things there are."""
        return len(self.uses) + len(self.outputs) + len(self.metrics) + len(self.parameters or ())


def iso(at_ms: int) -> str:
    """A moment as text, as in `docs/vocabulary.md`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def request(
    identity: Identity, type_name: str, defaults: Mapping[str, JSON], run_defaults: Mapping[str, JSON], new: Changes
) -> ingestion.IngestRequest:
    """One request for what is new.

    Args:
        identity: of the step.
        type_name: the execution's type, if it is made now.
        defaults: properties of the execution, where it does not have them yet.
        run_defaults: of the run.
        new: what is new.
    """
    message = ingestion.IngestRequest(origin=ORIGIN)
    run = ingestion.NodeKey(type=PIPELINE_RUN, name=identity.run)
    contexts = [run]
    message.contexts.add(
        key=run,
        type=PIPELINE_RUN,
        custom_properties=_values(new.run_properties if identity.is_own_run else {}),
        default_custom_properties=_values(run_defaults),
    )
    if identity.pipeline is not None:
        pipeline = ingestion.NodeKey(type=PIPELINE, name=identity.pipeline)
        display = {Property.DISPLAY_NAME: identity.pipeline.rpartition("/")[2] or identity.pipeline}
        message.contexts.add(key=pipeline, type=PIPELINE, default_custom_properties=_values(display))
        message.parents.add(context=pipeline, member=run)
        contexts.append(pipeline)
    properties = dict(new.properties)
    if new.parameters:
        properties[Property.PARAMETERS] = new.parameters
    execution = message.executions.add(
        key=identity.key,
        type=type_name,
        # A launcher's execution is tried again under the same id, and what it came to last counts.
        overrides_final_state=identity.is_launchers,
        # The writer knows better when the pod began and ended, and says it without asking.
        custom_properties=_values({} if identity.is_joined else properties),
        default_custom_properties=_values({**defaults, **(properties if identity.is_joined else {})}),
    )
    if identity.is_joined and new.parameters:
        execution.custom_properties[Property.PARAMETERS].CopyFrom(value_from_json(new.parameters))
    if new.state is not None:
        execution.state = new.state
    for context in contexts:
        message.associations.add(context=context, member=identity.key)
    for use in new.uses:
        _add_use(message, identity, use)
    for output in new.outputs.values():
        _add_output(message, identity, output, contexts)
    if new.metrics or (new.parameters and identity.is_launchers):
        _add_metrics(message, identity, new, contexts)
    return message


def _values(given: Mapping[str, JSON]) -> dict[str, mlmd.Value]:
    return {name: value_from_json(value) for name, value in given.items()}


def _external_id(identity: Identity, what: str) -> str:
    found = f"{identity.base}/{what}"
    # As many characters as MySQL's column has.
    return found if len(found) <= 255 else f"step:{uuid.uuid5(uuid.NAMESPACE_URL, found)}"


def _add_use(message: ingestion.IngestRequest, identity: Identity, use: Use) -> None:
    message.uses.add(
        execution=identity.key,
        name=use.name,
        uri=use.uri,
        digest=use.digest or "",
        time_ms=use.at_ms,
        type=use.type,
        default_custom_properties=_values({Property.DISPLAY_NAME: use.name, **use.properties}),
    )


def _add_output(
    message: ingestion.IngestRequest, identity: Identity, output: Output, contexts: list[ingestion.NodeKey]
) -> None:
    external_id = _external_id(identity, f"{output.name}/{output.index}" if output.index else output.name)
    properties = dict(output.properties) | {Property.PRODUCED_AT: iso(output.at_ms)}
    if output.digest is not None:
        properties[Property.DIGEST] = output.digest
    artifact = message.artifacts.add(
        key=ingestion.NodeKey(external_id=external_id),
        type=output.type,
        state=ArtifactState.LIVE,
        custom_properties=_values(properties),
        default_custom_properties=_values({Property.DISPLAY_NAME: output.name}),
    )
    if output.uri is not None:
        artifact.uri = output.uri
    _link(message, identity, external_id, contexts, name=output.name, index=output.index, at_ms=output.at_ms)


def _add_metrics(
    message: ingestion.IngestRequest, identity: Identity, new: Changes, contexts: list[ingestion.NodeKey]
) -> None:
    external_id = _external_id(identity, METRICS_NAME)
    properties: dict[str, JSON] = dict(new.metrics)
    if new.parameters and identity.is_launchers:
        # On the execution they last only until the launcher writes it as a whole.
        properties[Property.PARAMETERS] = new.parameters
    message.artifacts.add(
        key=ingestion.NodeKey(external_id=external_id),
        type=METRICS,
        state=ArtifactState.LIVE,
        custom_properties=_values(properties),
        default_custom_properties=_values({Property.DISPLAY_NAME: METRICS_NAME}),
    )
    _link(message, identity, external_id, contexts, name=METRICS_NAME, index=0, at_ms=0)


def _link(
    message: ingestion.IngestRequest,
    identity: Identity,
    external_id: str,
    contexts: list[ingestion.NodeKey],
    *,
    name: str,
    index: int,
    at_ms: int,
) -> None:
    artifact = ingestion.NodeKey(external_id=external_id)
    steps = [mlmd.Event.Path.Step(key=name)] + ([mlmd.Event.Path.Step(index=index)] if index else [])
    message.events.add(
        execution=identity.key,
        artifact=artifact,
        type=EventType.OUTPUT,
        path=mlmd.Event.Path(steps=steps),
        time_ms=at_ms,
    )
    for context in contexts:
        message.attributions.add(context=context, member=artifact)
