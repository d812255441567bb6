"""Which nodes a list of the reader holds, and in what order."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mdstore.values import ContextId


class OrderBy(Enum):
    """What a list is ordered by; nodes of equal time by id. Nodes that lack what it is ordered by are not in it."""

    ID = "id"
    CREATED = "create_time_since_epoch"
    UPDATED = "last_update_time_since_epoch"
    EXTERNAL_ID = "external_id"
    URI = "uri"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFilter:
    """Which nodes a list holds; what is None or empty does not restrict. Several restrict together."""

    types: Collection[str] = ()
    """Names of types, all versions."""
    names: Collection[str] = ()
    """Exact names."""
    called: Collection[str] = ()
    """Exact names, or values of the custom property `display_name`."""
    name_contains: str | None = None
    """Part of the name or of the custom property `display_name`, upper and lower case alike (ASCII)."""
    states: Collection[int] = ()
    """Artifacts and executions: numbers of `ArtifactState` or `ExecutionState`."""
    uris: Collection[str] = ()
    """Artifacts: exact."""
    uri_prefix: str | None = None
    """Artifacts."""
    in_contexts: Collection[ContextId] = ()
    """Artifacts, executions: members of any of these. Contexts: children of any of these."""
    in_children_too: bool = False
    """Members of the children of `in_contexts` count as well: the executions of a pipeline are those of its runs."""
    custom_properties: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Custom property of type string -> any of these values."""
    custom_property_ranges: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Custom property of type string -> at least, less than (for times: see `mdstore.vocabulary.Property`)."""
    created_from_ms: int | None = None
    created_before_ms: int | None = None
