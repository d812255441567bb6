"""The words that records are written and read with: type names, custom properties, and what a context stands for.

The names are Kubeflow Pipelines' where it has one, so that its UI and every other client of MLMD shows our records.
What is new gets a plain name, here and in `docs/vocabulary.md`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

# Context types
PIPELINE: Final = "system.Pipeline"
PIPELINE_RUN: Final = "system.PipelineRun"

# Execution types
CONTAINER_EXECUTION: Final = "system.ContainerExecution"
DAG_EXECUTION: Final = "system.DAGExecution"
IMPORTER_EXECUTION: Final = "system.ImporterExecution"
HANDING_ON: Final = frozenset({DAG_EXECUTION, IMPORTER_EXECUTION, "system.ImporterWorkspaceExecution"})
"""Types of executions that output what others made: a group what its tasks made, an importer what was there."""

# Artifact types
ARTIFACT: Final = "system.Artifact"
METRICS: Final = "system.Metrics"
LOG: Final = "Log"
"""What a step printed. Ours: KFP gives its logs the type `system.Artifact`, which lineage cannot tell from data."""


class Property:
    """Names of custom properties; a time is text in ISO 8601 with milliseconds, in UTC, so that it sorts.

    (Text, because MLMD's integer column has 32 bits on PostgreSQL and MySQL.)
    """

    # Kubeflow Pipelines'
    DISPLAY_NAME: Final = "display_name"
    TASK_NAME: Final = "task_name"
    PARENT_DAG_ID: Final = "parent_dag_id"
    ITERATION_INDEX: Final = "iteration_index"
    ITERATION_COUNT: Final = "iteration_count"
    INPUTS: Final = "inputs"
    OUTPUTS: Final = "outputs"
    POD_NAME: Final = "pod_name"
    POD_UID: Final = "pod_uid"
    NAMESPACE: Final = "namespace"
    IMAGE: Final = "image"
    CACHED_EXECUTION_ID: Final = "cached_execution_id"

    # Ours
    CLUSTER: Final = "cluster"
    STATE: Final = "state"
    """A run's: PENDING, RUNNING, SUCCEEDED, FAILED, ERROR or DELETED."""
    MESSAGE: Final = "message"
    """Why a run or an execution ended as it did."""
    STARTED_AT: Final = "started_at"
    FINISHED_AT: Final = "finished_at"
    ATTEMPT: Final = "attempt"
    """Which try of its task an execution is, from 0."""
    EXIT_CODE: Final = "exit_code"
    REASON: Final = "reason"
    """Kubernetes' word for how a pod ended: OOMKilled, DeadlineExceeded, Evicted, ..."""
    IMAGE_DIGEST: Final = "image_digest"
    NODE: Final = "node"
    """The machine."""
    NODE_ID: Final = "node_id"
    """Argo's."""
    WORKFLOW_NAME: Final = "workflow_name"
    WORKFLOW_UID: Final = "workflow_uid"
    LABELS: Final = "labels"
    PARAMETERS: Final = "parameters"
    """A run's arguments."""
    RESUBMITTED_FROM: Final = "resubmitted_from"
    PRODUCED_AT: Final = "produced_at"
    """When an artifact was finished: its producer's end."""
    DIGEST: Final = "digest"
    """Of an artifact's content: `sha256:<hex>` of a file, `sha256-tree:<hex>` of a folder (`mdstore.steps.digest`)."""
    CACHE_KEY: Final = "cache_key"
    PARENT: Final = "parent"
    """The external id of the execution around this one: a loop's, a nested DAG's, the run's."""
    TEMPLATE: Final = "template"
    """Argo's template that a task runs."""
    NODE_TYPE: Final = "node_type"
    """Argo's type of the node: Pod, DAG, Steps, TaskGroup, HTTP, Skipped, ..."""
    WAITED_FOR: Final = "waited_for"
    """Reasons for which a container could not start for a while: ImagePullBackOff, ..."""
    REPLACED_PODS: Final = "replaced_pods"
    """Pods of the same attempt that were lost before its last one: uid -> how they ended."""


class ContextRole(Enum):
    """What a context stands for."""

    RUN = "run"
    PIPELINE = "pipeline"
    EXPERIMENT = "experiment"


CONTEXT_ROLES: Final[Mapping[str, ContextRole]] = MappingProxyType(
    {
        PIPELINE_RUN: ContextRole.RUN,  # Kubeflow Pipelines v2 and mdstore
        PIPELINE: ContextRole.PIPELINE,
        "system.Experiment": ContextRole.EXPERIMENT,
        "KfpRun": ContextRole.RUN,  # Kubeflow Pipelines v1's metadata-writer
        "pipeline_run": ContextRole.RUN,  # TFX
        "pipeline": ContextRole.PIPELINE,
        "run": ContextRole.RUN,  # TFX before 0.26
        "katib.Experiment": ContextRole.EXPERIMENT,
    }
)


@dataclass(frozen=True, slots=True)
class ContextRoles:
    """Which context types are runs, pipelines and experiments. Lineage and GraphQL ask this table; nothing guesses."""

    by_type: Mapping[str, ContextRole]

    @classmethod
    def default(cls) -> "ContextRoles":
        """The types of Kubeflow Pipelines, TFX, Katib and mdstore."""
        return cls(CONTEXT_ROLES)

    def role(self, context_type: str) -> ContextRole | None:
        """What contexts of this type stand for, if anything."""
        return self.by_type.get(context_type)

    def types(self, role: ContextRole) -> tuple[str, ...]:
        """The context types of a role, in the table's order."""
        return tuple(name for name, found in self.by_type.items() if found is role)

    def runs(self, context_types: Iterable[str]) -> tuple[str, ...]:
        """Those of the given types that are runs."""
        return tuple(name for name in context_types if self.by_type.get(name) is ContextRole.RUN)
