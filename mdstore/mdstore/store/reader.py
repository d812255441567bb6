"""Reading the store's database in bulk, as frozen values: what GraphQL and reports are answered from.

Every method is one question about many nodes, answered in a constant number of SQL statements. Threads: a reader may be
shared; each call takes a connection of its own from the pool.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Generic, Self, TypeVar

from mdstore.values import (
    Artifact,
    ArtifactId,
    Context,
    ContextId,
    Event,
    Execution,
    ExecutionId,
)

NodeT = TypeVar("NodeT", Artifact, Execution, Context)


class OrderBy(Enum):
    """What a list is ordered by; nodes of equal time by id."""

    ID = "id"
    CREATED = "create_time_since_epoch"
    UPDATED = "last_update_time_since_epoch"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFilter:
    """Which nodes a list holds; what is None or empty does not restrict. Several restrict together."""

    types: Collection[str] = ()
    """Names of types, all versions."""
    names: Collection[str] = ()
    """Exact names."""
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
    custom_properties: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Custom property of type string -> any of these values."""
    custom_property_ranges: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    """Custom property of type string -> at least, less than (for times: see `mdstore.vocabulary.Property`)."""
    created_from_ms: int | None = None
    created_before_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[NodeT]):
    """A part of a list."""

    nodes: Sequence[NodeT]
    cursors: Sequence[str]
    """Of each node: where the page after it begins."""
    has_next: bool


class Reader:
    """Bulk reads of one database."""

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database at `url` for reading; raises as `mdstore.connect`."""
        raise NotImplementedError

    def artifacts(self, ids: Collection[ArtifactId]) -> Mapping[ArtifactId, Artifact]:
        """Those of `ids` that exist."""
        raise NotImplementedError

    def executions(self, ids: Collection[ExecutionId]) -> Mapping[ExecutionId, Execution]:
        """Those of `ids` that exist."""
        raise NotImplementedError

    def contexts(self, ids: Collection[ContextId]) -> Mapping[ContextId, Context]:
        """Those of `ids` that exist."""
        raise NotImplementedError

    def list_artifacts(
        self,
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Page[Artifact]:
        """A page of artifacts; `after` is a cursor of an earlier page with the same filter and order.

        Raises:
            InvalidArgument: the cursor is not one, or belongs to another order.
        """
        raise NotImplementedError

    def list_executions(
        self,
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Page[Execution]:
        """A page of executions, as `list_artifacts`."""
        raise NotImplementedError

    def list_contexts(
        self,
        where: NodeFilter,
        *,
        order_by: OrderBy = OrderBy.ID,
        descending: bool = False,
        first: int = 20,
        after: str | None = None,
    ) -> Page[Context]:
        """A page of contexts, as `list_artifacts`."""
        raise NotImplementedError

    def count_artifacts(self, where: NodeFilter) -> int:
        """How many artifacts the filter leaves."""
        raise NotImplementedError

    def count_executions(self, where: NodeFilter) -> int:
        """How many executions the filter leaves."""
        raise NotImplementedError

    def count_contexts(self, where: NodeFilter) -> int:
        """How many contexts the filter leaves."""
        raise NotImplementedError

    def events_of_artifacts(self, ids: Collection[ArtifactId]) -> Mapping[ArtifactId, Sequence[Event]]:
        """Each artifact's events by event id; an artifact without any is absent."""
        raise NotImplementedError

    def events_of_executions(self, ids: Collection[ExecutionId]) -> Mapping[ExecutionId, Sequence[Event]]:
        """Each execution's events by event id; an execution without any is absent."""
        raise NotImplementedError

    def contexts_of_artifacts(self, ids: Collection[ArtifactId]) -> Mapping[ArtifactId, Sequence[Context]]:
        """The contexts that each artifact is attributed to, by id."""
        raise NotImplementedError

    def contexts_of_executions(self, ids: Collection[ExecutionId]) -> Mapping[ExecutionId, Sequence[Context]]:
        """The contexts that each execution is associated with, by id."""
        raise NotImplementedError

    def parents_of_contexts(self, ids: Collection[ContextId]) -> Mapping[ContextId, Sequence[Context]]:
        """The parents of each context, by id."""
        raise NotImplementedError

    def head_seq(self) -> int:
        """The newest position of the change log."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
