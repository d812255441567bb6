"""The three kinds of nodes, as values that the operations are written over once."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table

from mdstore.store import tables
from mdstore.wire import mlmd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """One of artifact, execution, context."""

    label: str
    """As messages say it."""
    type_kind: int
    """MLMD's number in `Type.type_kind`, and in our `mdstore_change.kind`."""
    message: type[Any]
    type_message: type[Any]
    table: Table
    property_table: Table
    owner: str
    """The property table's column that holds the node's id."""
    state: str | None
    """The message's and the table's field for the state."""
    has_uri: bool
    nodes_field: str
    """In requests, responses and changes."""
    system_types: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<{self.label}>"


EXECUTION: Final = Kind(
    label="execution",
    type_kind=0,
    message=mlmd.Execution,
    type_message=mlmd.ExecutionType,
    table=tables.EXECUTION,
    property_table=tables.EXECUTION_PROPERTY,
    owner="execution_id",
    state="last_known_state",
    has_uri=False,
    nodes_field="executions",
    system_types=("mlmd.Train", "mlmd.Transform", "mlmd.Process", "mlmd.Evaluate", "mlmd.Deploy"),
)

ARTIFACT: Final = Kind(
    label="artifact",
    type_kind=1,
    message=mlmd.Artifact,
    type_message=mlmd.ArtifactType,
    table=tables.ARTIFACT,
    property_table=tables.ARTIFACT_PROPERTY,
    owner="artifact_id",
    state="state",
    has_uri=True,
    nodes_field="artifacts",
    system_types=("mlmd.Dataset", "mlmd.Model", "mlmd.Metrics", "mlmd.Statistics"),
)

CONTEXT: Final = Kind(
    label="context",
    type_kind=2,
    message=mlmd.Context,
    type_message=mlmd.ContextType,
    table=tables.CONTEXT,
    property_table=tables.CONTEXT_PROPERTY,
    owner="context_id",
    state=None,
    has_uri=False,
    nodes_field="contexts",
    system_types=(),
)

KINDS: Final = (ARTIFACT, EXECUTION, CONTEXT)
BY_TYPE_KIND: Final = {kind.type_kind: kind for kind in KINDS}
SYSTEM_TYPE_NAMES: Final = frozenset(name for kind in KINDS for name in kind.system_types)
