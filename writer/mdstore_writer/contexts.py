"""The contexts of an observed run: the run itself and its pipeline, for Argo's workflows and for Kubeflow's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mdstore.values import JSON
from mdstore.vocabulary import PIPELINE, PIPELINE_RUN, Property
from mdstore_writer.argo import Workflow, iso
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import ContextRecord

RUN_STATES: Final[Mapping[str, str]] = {
    "": "PENDING",
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Failed": "FAILED",
    "Error": "ERROR",
}
_TEMPLATE_LABELS: Final = ("workflows.argoproj.io/workflow-template", "workflows.argoproj.io/cluster-workflow-template")
_CRON_LABEL: Final = "workflows.argoproj.io/cron-workflow"
_RESUBMITTED_LABEL: Final = "workflows.argoproj.io/resubmitted-from-workflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContexts:
    """A run's context and its pipeline's."""

    run: ContextRecord
    pipeline: ContextRecord

    @property
    def keys(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """What all executions of the run belong to."""
        return self.run.key, self.pipeline.key


def run_state(run: ObservedRun) -> str:
    """The run's state in the words of `mdstore.vocabulary.Property.STATE`."""
    if run.is_deleted and not run.workflow.is_over:
        return "DELETED"
    return RUN_STATES.get(run.workflow.phase, run.workflow.phase.upper())


def pipeline_name(workflow: Workflow) -> str:
    """What this workflow is a run of: the template that it was made from, or what its name says."""
    labels = workflow.labels
    if workflow.template_ref is not None:
        return workflow.template_ref
    for label in (*_TEMPLATE_LABELS, _CRON_LABEL):
        if labels.get(label):
            return labels[label]
    if workflow.generate_name is not None:
        return workflow.generate_name.rstrip("-")
    return workflow.name


def contexts(run: ObservedRun) -> RunContexts:
    """The contexts of a run of Argo's, or of Kubeflow Pipelines v2's under the names that its driver gives them."""
    workflow, kubeflow_run = run.workflow, run.workflow.kubeflow_run_id
    if kubeflow_run is not None and workflow.kubeflow_pipeline is not None:
        name, pipeline = (
            kubeflow_run,
            ContextRecord(
                type=PIPELINE,
                name=workflow.kubeflow_pipeline,
                default_properties={Property.DISPLAY_NAME: workflow.kubeflow_pipeline},
            ),
        )
    else:
        bare = pipeline_name(workflow)
        name, pipeline = (
            workflow.uid,
            ContextRecord(
                type=PIPELINE,
                name=f"{workflow.namespace}/{bare}",
                properties={Property.DISPLAY_NAME: bare, Property.NAMESPACE: workflow.namespace},
            ),
        )
    properties: dict[str, JSON] = {
        Property.DISPLAY_NAME: workflow.run_name or workflow.name,
        Property.CLUSTER: run.cluster,
        Property.WORKFLOW_NAME: workflow.name,
        Property.WORKFLOW_UID: workflow.uid,
        Property.STATE: run_state(run),
    }
    if workflow.started_ms is not None or workflow.created_ms is not None:
        properties[Property.STARTED_AT] = iso(workflow.started_ms or workflow.created_ms or 0)
    if workflow.is_over and workflow.finished_ms is not None:
        properties[Property.FINISHED_AT] = iso(workflow.finished_ms)
    if workflow.is_over and workflow.message is not None:
        properties[Property.MESSAGE] = workflow.message
    if workflow.parameters:
        properties[Property.PARAMETERS] = dict(workflow.parameters)
    # Argo's own labels say what the properties above say, and change while the workflow runs.
    labels: dict[str, JSON] = {
        key: value for key, value in sorted(workflow.labels.items()) if not key.startswith("workflows.argoproj.io/")
    }
    labels.pop("pipeline/persistedFinalState", None)
    if labels:
        properties[Property.LABELS] = labels
    if _RESUBMITTED_LABEL in workflow.labels:
        properties[Property.RESUBMITTED_FROM] = workflow.labels[_RESUBMITTED_LABEL]
    return RunContexts(
        run=ContextRecord(
            type=PIPELINE_RUN,
            name=name,
            properties=properties,
            # Kubeflow's driver writes it too.
            default_properties={Property.NAMESPACE: workflow.namespace},
        ),
        pipeline=pipeline,
    )
