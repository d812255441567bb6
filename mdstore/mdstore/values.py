"""The store's nodes and links as frozen values, and the one place that makes them from messages.

Inside the store the message is the value; everything above it (lineage, GraphQL, reports) works on these.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NewType, TypeAlias

from google.protobuf import json_format, struct_pb2

from mdstore.wire import mlmd

ArtifactId = NewType("ArtifactId", int)
ExecutionId = NewType("ExecutionId", int)
ContextId = NewType("ContextId", int)
TypeId = NewType("TypeId", int)

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None


class NodeKind(Enum):
    """The three kinds of MLMD's nodes."""

    ARTIFACT = "artifact"
    EXECUTION = "execution"
    CONTEXT = "context"


class ArtifactState(IntEnum):
    """`ml_metadata.Artifact.State`."""

    UNKNOWN = 0
    PENDING = 1
    LIVE = 2
    MARKED_FOR_DELETION = 3
    DELETED = 4
    ABANDONED = 5
    REFERENCE = 6


class ExecutionState(IntEnum):
    """`ml_metadata.Execution.State`."""

    UNKNOWN = 0
    NEW = 1
    RUNNING = 2
    COMPLETE = 3
    FAILED = 4
    CACHED = 5
    CANCELED = 6


class EventType(IntEnum):
    """`ml_metadata.Event.Type`."""

    UNKNOWN = 0
    DECLARED_OUTPUT = 1
    DECLARED_INPUT = 2
    INPUT = 3
    OUTPUT = 4
    INTERNAL_INPUT = 5
    INTERNAL_OUTPUT = 6
    PENDING_OUTPUT = 7

    @property
    def is_output(self) -> bool:
        """The execution made the artifact."""
        return self in OUTPUTS

    @property
    def is_input(self) -> bool:
        """The execution used the artifact."""
        return self in INPUTS


OUTPUTS = frozenset({EventType.OUTPUT, EventType.DECLARED_OUTPUT, EventType.INTERNAL_OUTPUT, EventType.PENDING_OUTPUT})
INPUTS = frozenset({EventType.INPUT, EventType.DECLARED_INPUT, EventType.INTERNAL_INPUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A thing that executions make and use: data, a model, a report."""

    id: ArtifactId
    type_id: TypeId
    type: str
    name: str | None
    uri: str
    state: ArtifactState | None
    external_id: str | None
    properties: Mapping[str, JSON]
    custom_properties: Mapping[str, JSON]
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of one step."""

    id: ExecutionId
    type_id: TypeId
    type: str
    name: str | None
    state: ExecutionState | None
    external_id: str | None
    properties: Mapping[str, JSON]
    custom_properties: Mapping[str, JSON]
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """A group of artifacts and executions: a run, a pipeline, an experiment."""

    id: ContextId
    type_id: TypeId
    type: str
    name: str
    external_id: str | None
    properties: Mapping[str, JSON]
    custom_properties: Mapping[str, JSON]
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One use of one artifact by one execution, at `at_ms` (milliseconds, Unix epoch).

    `path` says as what: the input's or output's name, and its place in a list.
    """

    artifact_id: ArtifactId
    execution_id: ExecutionId
    type: EventType
    path: tuple[str | int, ...]
    at_ms: int


def json_from_value(value: mlmd.Value) -> JSON:
    """A property's value as JSON; a `google.protobuf.Any` as `{"@type": type_url, "value": base64}`."""
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return None
        case "struct_value":
            return json_format.MessageToDict(value.struct_value)
        case "proto_value":
            return {
                "@type": value.proto_value.type_url,
                "value": base64.b64encode(value.proto_value.value).decode("ascii"),
            }
        case _:
            plain: JSON = getattr(value, kind)
            return plain


def value_from_json(given: JSON) -> mlmd.Value:
    """A property's value: text, numbers and truth as they are, lists, objects and null as KFP wraps them.

    What a database or JSON cannot hold becomes text: NaN and infinite numbers; a NUL in a text is replaced.
    """
    message = mlmd.Value()
    match _holdable(given):
        case bool(plain):
            message.bool_value = plain
        case int(plain) if plain in _INT32:
            message.int_value = plain
        case int(plain) | float(plain):
            message.double_value = plain
        case str(plain):
            message.string_value = plain
        case dict(plain):
            json_format.ParseDict(plain, message.struct_value)
        case list(plain):
            json_format.ParseDict({"list": plain}, message.struct_value)
        case None:
            message.struct_value.fields["null"].null_value = struct_pb2.NULL_VALUE
    return message


_INT32 = range(-(2**31), 2**31)


def _holdable(given: JSON) -> JSON:
    match given:
        case float() if not math.isfinite(given):
            return "NaN" if math.isnan(given) else "Infinity" if given > 0 else "-Infinity"
        case int() if abs(given) > 2**1023:
            return str(given)
        case str():
            # Lone surrogates have no UTF-8; MLMD's readers cut a text off at a NUL.
            return given.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        case list():
            return [_holdable(item) for item in given]
        case dict():
            return {str(_holdable(name)): _holdable(item) for name, item in given.items()}
        case _:
            return given


def artifact_from_message(message: mlmd.Artifact) -> Artifact:
    """The value of one MLMD artifact."""
    return Artifact(
        id=ArtifactId(message.id),
        type_id=TypeId(message.type_id),
        type=message.type,
        name=message.name if message.HasField("name") else None,
        uri=message.uri,
        state=ArtifactState(message.state) if message.HasField("state") else None,
        external_id=message.external_id if message.HasField("external_id") else None,
        properties={name: json_from_value(value) for name, value in message.properties.items()},
        custom_properties={name: json_from_value(value) for name, value in message.custom_properties.items()},
        created_at_ms=message.create_time_since_epoch,
        updated_at_ms=message.last_update_time_since_epoch,
    )


def execution_from_message(message: mlmd.Execution) -> Execution:
    """The value of one MLMD execution."""
    return Execution(
        id=ExecutionId(message.id),
        type_id=TypeId(message.type_id),
        type=message.type,
        name=message.name if message.HasField("name") else None,
        state=ExecutionState(message.last_known_state) if message.HasField("last_known_state") else None,
        external_id=message.external_id if message.HasField("external_id") else None,
        properties={name: json_from_value(value) for name, value in message.properties.items()},
        custom_properties={name: json_from_value(value) for name, value in message.custom_properties.items()},
        created_at_ms=message.create_time_since_epoch,
        updated_at_ms=message.last_update_time_since_epoch,
    )


def context_from_message(message: mlmd.Context) -> Context:
    """The value of one MLMD context."""
    return Context(
        id=ContextId(message.id),
        type_id=TypeId(message.type_id),
        type=message.type,
        name=message.name,
        external_id=message.external_id if message.HasField("external_id") else None,
        properties={name: json_from_value(value) for name, value in message.properties.items()},
        custom_properties={name: json_from_value(value) for name, value in message.custom_properties.items()},
        created_at_ms=message.create_time_since_epoch,
        updated_at_ms=message.last_update_time_since_epoch,
    )


def event_from_message(message: mlmd.Event) -> Event:
    """The value of one MLMD event."""
    return Event(
        artifact_id=ArtifactId(message.artifact_id),
        execution_id=ExecutionId(message.execution_id),
        type=EventType(message.type),
        path=tuple(step.key if step.WhichOneof("value") == "key" else step.index for step in message.path.steps),
        at_ms=message.milliseconds_since_epoch,
    )
