"""What a store holds about runs of Kubeflow Pipelines, told by names instead of ids as far as there are names.

As a module it asks the store of an address and prints the answer as JSON: `python -m tests.cluster.recorded URL`.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from mdstore.client.client import Client
from mdstore.client.connect import connect
from mdstore.values import (
    ArtifactState,
    EventType,
    Execution,
    ExecutionId,
    ExecutionState,
    artifact_from_message,
    context_from_message,
    event_from_message,
    execution_from_message,
)
from mdstore.wire import mlmd, service


def runs(client: Client) -> dict[str, Any]:
    """Every run by its id: `properties` and `pipelines` of its context, `executions`, `artifacts`, `twice`.

    An execution is called by its groups and its task, `for-loop-2/for-loop-2#0/score`, the run itself by "". It has
    `id`, `type`, `state`, `properties`, and `inputs` and `outputs` by name, each the id of an artifact. `twice` are the
    names that more than one execution has.
    """
    request = service.GetContextsByTypeRequest(type_name="system.PipelineRun")
    return {context.name: _run(client, context) for context in client.get_contexts_by_type(request).contexts}


def _run(client: Client, message: mlmd.Context) -> dict[str, Any]:
    context = context_from_message(message)
    everything = mlmd.ListOperationOptions(max_result_size=100)
    executions = [
        execution_from_message(found)
        for found in client.get_executions_by_context(
            service.GetExecutionsByContextRequest(context_id=context.id, options=everything)
        ).executions
    ]
    events = [
        event_from_message(found)
        for found in client.get_events_by_execution_ids(
            service.GetEventsByExecutionIDsRequest(execution_ids=[execution.id for execution in executions])
        ).events
    ]
    artifacts = [
        artifact_from_message(found)
        for found in client.get_artifacts_by_context(
            service.GetArtifactsByContextRequest(context_id=context.id, options=everything)
        ).artifacts
    ]
    above = client.get_parent_contexts_by_context(service.GetParentContextsByContextRequest(context_id=context.id))
    by_id = {execution.id: execution for execution in executions}
    names = [_name(execution, by_id) for execution in executions]
    return {
        "properties": dict(context.custom_properties),
        "pipelines": [parent.name for parent in above.contexts],
        "executions": {
            name: {
                "id": execution.id,
                "type": execution.type,
                "state": ExecutionState(execution.state or 0).name,
                "properties": dict(execution.custom_properties),
                **{
                    f"{kind.name.lower()}s": {
                        "/".join(map(str, event.path)): event.artifact_id
                        for event in events
                        if (event.execution_id, event.type) == (execution.id, kind)
                    }
                    for kind in (EventType.INPUT, EventType.OUTPUT)
                },
            }
            for name, execution in zip(names, executions, strict=True)
        },
        "twice": sorted({name for name in names if names.count(name) > 1}),
        "artifacts": {
            str(artifact.id): {
                "type": artifact.type,
                "uri": artifact.uri,
                "state": ArtifactState(artifact.state or 0).name,
                "properties": dict(artifact.custom_properties),
            }
            for artifact in artifacts
        },
    }


def _name(execution: Execution, by_id: Mapping[ExecutionId, Execution]) -> str:
    told = execution.custom_properties
    group = by_id.get(ExecutionId(int(str(told["parent_dag_id"])))) if "parent_dag_id" in told else None
    if group is None:
        return "" if execution.name else f"without a group: {told.get('task_name')}"
    iteration = f"#{told['iteration_index']}" if "iteration_index" in told else ""
    return f"{_name(group, by_id)}/{told['task_name']}{iteration}".lstrip("/")


if __name__ == "__main__":
    print(json.dumps(runs(connect(sys.argv[1]))))
