"""What a filter may name: the columns of a node, of its properties and of its neighbours."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION, Kind
from mdstore.wire import mlmd


class Type(Enum):
    """The type of an expression."""

    INT64 = "INT64"
    DOUBLE = "DOUBLE"
    STRING = "STRING"
    BOOL = "BOOL"
    NULL = "NULL"
    """A NULL that no other operand gives a type to."""

    @property
    def is_number(self) -> bool:
        """INT64 or DOUBLE."""
        return self in (Type.INT64, Type.DOUBLE)


class Relation(Enum):
    """How the rows that a filter speaks of belong to the node."""

    PROPERTY = "properties"
    CUSTOM_PROPERTY = "custom_properties"
    CONTEXT = "contexts"
    EVENT = "events"
    PARENT = "parent_contexts"
    CHILD = "child_contexts"
    ARTIFACT = "artifacts"
    EXECUTION = "executions"

    @property
    def is_property(self) -> bool:
        """Of these a node has at most one row of a name."""
        return self in (Relation.PROPERTY, Relation.CUSTOM_PROPERTY)


@dataclass(frozen=True, slots=True)
class Field:
    """A column."""

    name: str
    type: Type
    names: Mapping[str, int] | None = None
    """Of a state or an event's type: what each number is called."""


def _fields(*fields: Field) -> Mapping[str, Field]:
    return {field.name: field for field in fields}


def _enum(name: str, names: Mapping[str, int]) -> Field:
    return Field(name, Type.INT64, names)


_ID: Final = Field("id", Type.INT64)
_NAME: Final = Field("name", Type.STRING)
_TYPE: Final = Field("type", Type.STRING)
_EXTERNAL_ID: Final = Field("external_id", Type.STRING)
_URI: Final = Field("uri", Type.STRING)
_TIMES: Final = (
    Field("create_time_since_epoch", Type.INT64),
    Field("last_update_time_since_epoch", Type.INT64),
)
_ARTIFACT_STATE: Final = _enum("state", dict(mlmd.Artifact.State.items()))
_EXECUTION_STATE: Final = _enum("last_known_state", dict(mlmd.Execution.State.items()))
_EVENT: Final = (
    _enum("type", dict(mlmd.Event.Type.items())),
    Field("milliseconds_since_epoch", Type.INT64),
)
_NODE: Final = (_ID, Field("type_id", Type.INT64), _TYPE, _NAME, _EXTERNAL_ID, *_TIMES)
_CONTEXT: Final = _fields(_ID, _NAME, _TYPE, *_TIMES)

PROPERTY_FIELDS: Final = _fields(
    Field("int_value", Type.INT64),
    Field("double_value", Type.DOUBLE),
    Field("string_value", Type.STRING),
    Field("bool_value", Type.BOOL),
)

NODE_FIELDS: Final[Mapping[Kind, Mapping[str, Field]]] = {
    ARTIFACT: _fields(*_NODE, _URI, _ARTIFACT_STATE),
    EXECUTION: _fields(*_NODE, _EXECUTION_STATE),
    CONTEXT: _fields(*_NODE),
}

NEIGHBOUR_FIELDS: Final[Mapping[Kind, Mapping[Relation, Mapping[str, Field]]]] = {
    ARTIFACT: {
        Relation.CONTEXT: _CONTEXT,
        Relation.EVENT: _fields(*_EVENT, Field("execution_id", Type.INT64)),
    },
    EXECUTION: {
        Relation.CONTEXT: _CONTEXT,
        Relation.EVENT: _fields(*_EVENT, Field("artifact_id", Type.INT64)),
    },
    CONTEXT: {
        Relation.PARENT: _CONTEXT,
        Relation.CHILD: _CONTEXT,
        Relation.ARTIFACT: _fields(_ID, _NAME, _TYPE, _EXTERNAL_ID, _URI, _ARTIFACT_STATE, *_TIMES),
        Relation.EXECUTION: _fields(_ID, _NAME, _TYPE, _EXTERNAL_ID, _EXECUTION_STATE, *_TIMES),
    },
}


def described(kind: Kind) -> str:
    """The columns of a kind, for messages."""
    neighbours = [f"{relation.value}_X.COLUMN" for relation in NEIGHBOUR_FIELDS[kind]]
    names = [*NODE_FIELDS[kind], "properties.NAME.int_value", "custom_properties.NAME.int_value", *neighbours]
    return f"{'an' if kind.label[0] in 'ae' else 'a'} {kind.label} has {', '.join(names)}"
