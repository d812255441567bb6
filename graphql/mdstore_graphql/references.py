"""The node types by name, for fields that refer to each other in circles: an artifact's producer, its inputs, ..."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

import strawberry

if TYPE_CHECKING:
    from mdstore_graphql.artifacts import Artifact
    from mdstore_graphql.executions import Execution
    from mdstore_graphql.lineage import Lineage
    from mdstore_graphql.runs import Pipeline, Run

ArtifactRef: TypeAlias = Annotated["Artifact", strawberry.lazy("mdstore_graphql.artifacts")]
ExecutionRef: TypeAlias = Annotated["Execution", strawberry.lazy("mdstore_graphql.executions")]
RunRef: TypeAlias = Annotated["Run", strawberry.lazy("mdstore_graphql.runs")]
PipelineRef: TypeAlias = Annotated["Pipeline", strawberry.lazy("mdstore_graphql.runs")]
LineageRef: TypeAlias = Annotated["Lineage", strawberry.lazy("mdstore_graphql.lineage")]
