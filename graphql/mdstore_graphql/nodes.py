"""What all nodes of the API have in common: interfaces, enums, and how a name and a property are read."""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum

import strawberry

from mdstore import values
from mdstore.values import JSON, ArtifactState, EventType, ExecutionState
from mdstore.vocabulary import Property
from mdstore_graphql.describing import api_interface
from mdstore_graphql.scalars import Json

strawberry.enum(ArtifactState, name="ArtifactState", description="MLMD's state of an artifact.")
strawberry.enum(ExecutionState, name="ExecutionState", description="MLMD's last known state of an execution.")
strawberry.enum(EventType, name="EventType", description="MLMD's type of an event.")


@strawberry.enum(description="How far a run is.")
class RunState(Enum):
    """How far a run is."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ERROR = strawberry.enum_value("ERROR", description="The engine failed, not the work.")
    DELETED = strawberry.enum_value("DELETED", description="Deleted before it ended.")
    UNKNOWN = strawberry.enum_value("UNKNOWN", description="The store has a word that this API does not know.")


@api_interface
class Node:
    """Anything with a global id."""

    id: strawberry.ID = strawberry.field(description="The global id: opaque, and the same for ever.")


@api_interface
class MetadataNode(Node):
    """An artifact, an execution or a context as the store keeps it."""

    metadata_id: strawberry.ID = strawberry.field(
        description="The id in the store, as MLMD's clients know it: unique among artifacts, executions or contexts."
    )
    type: str = strawberry.field(description="The name of its MLMD type, as `system.Model`.")
    name: str = strawberry.field(description="What a person would call it.")
    external_id: str | None = strawberry.field(description="Its identity outside of the store.")
    properties: Json = strawberry.field(description="The properties that its type declares.")
    custom_properties: Json = strawberry.field(description="All other properties.")
    created_at: datetime | None = strawberry.field(description="When the store first heard of it.")
    updated_at: datetime | None = strawberry.field(description="When the store last changed it.")


@api_interface
class LineageNode(MetadataNode, Node):
    """A node of the lineage graph: an artifact or an execution."""


def artifact_name(artifact: values.Artifact) -> str:
    """The display name, else the name, else the last part of the URI, else the type."""
    last = artifact.uri.rstrip("/").rpartition("/")[2]
    return text(artifact.custom_properties, Property.DISPLAY_NAME) or artifact.name or last or artifact.type


def execution_name(execution: values.Execution) -> str:
    """The display name, else the task's name, else the name, else the type."""
    properties = execution.custom_properties
    return (
        text(properties, Property.DISPLAY_NAME)
        or text(properties, Property.TASK_NAME)
        or execution.name
        or execution.type
    )


def context_name(context: values.Context) -> str:
    """The display name, else the name."""
    return text(context.custom_properties, Property.DISPLAY_NAME) or context.name


def text(properties: Mapping[str, JSON], name: str) -> str | None:
    """A property that is text, and not empty."""
    found = properties.get(name)
    return found if isinstance(found, str) and found else None


def whole_number(properties: Mapping[str, JSON], name: str) -> int | None:
    """A property that is a whole number; MLMD's clients also write such as doubles."""
    found = properties.get(name)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    # GraphQL's Int has 32 bits, and an attempt or an exit code beyond that is nonsense.
    return found if isinstance(found, int) and not isinstance(found, bool) and abs(found) < 2**31 else None
