"""Writes with the public client what a step of a team's own would: a model from an artifact that is there already.

The input is looked up by `input_uri`. An execution, its artifacts and its run are put, then the run is made part of a
pipeline, and a report is attributed to it. Done twice, the types are found again.
"""

import json
import sys

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd


def event(kind, *steps):
    path = mlmd.Event.Path(
        steps=[mlmd.Event.Path.Step(**({"key": s} if isinstance(s, str) else {"index": s})) for s in steps]
    )
    return mlmd.Event(type=kind, path=path)


def put_types(store):
    return [
        store.put_artifact_type(
            mlmd.ArtifactType(name="acme.Model", properties={"accuracy": mlmd.DOUBLE, "flavour": mlmd.STRING})
        ),
        store.put_artifact_type(mlmd.ArtifactType(name="acme.Report")),
        store.put_execution_type(mlmd.ExecutionType(name="acme.Tuning", properties={"trials": mlmd.INT})),
        store.put_context_type(mlmd.ContextType(name="pipeline_run")),
        store.put_context_type(mlmd.ContextType(name="pipeline")),
    ]


def main():
    arguments = json.load(sys.stdin)
    store = metadata_store.MetadataStore(mlmd.MetadataStoreClientConfig(host=arguments["host"], port=arguments["port"]))

    types = put_types(store)
    assert put_types(store) == types, "the types are not found again"
    model_type, report_type, tuning_type, run_type, pipeline_type = types

    (used,) = store.get_artifacts_by_uri(arguments["input_uri"])
    execution_id, artifact_ids, context_ids = store.put_execution(
        mlmd.Execution(
            type_id=tuning_type,
            name="tune-by-hand",
            last_known_state=mlmd.Execution.COMPLETE,
            properties={"trials": mlmd.Value(int_value=12)},
            custom_properties={"who": mlmd.Value(string_value="Ada")},
        ),
        [
            (used, event(mlmd.Event.INPUT, "start", 0)),
            (
                mlmd.Artifact(
                    type_id=model_type,
                    name="tuned-model",
                    uri="s3://acme/models/tuned.csv",
                    state=mlmd.Artifact.LIVE,
                    properties={
                        "accuracy": mlmd.Value(double_value=0.875),
                        "flavour": mlmd.Value(string_value="logit"),
                    },
                ),
                event(mlmd.Event.OUTPUT, "model", 0),
            ),
        ],
        [mlmd.Context(type_id=run_type, name="tuning-nov20")],
    )
    (report_id,) = store.put_artifacts(
        [mlmd.Artifact(type_id=report_type, name="tuning-report", uri="s3://acme/reports/tuning.html")]
    )
    (pipeline_id,) = store.put_contexts([mlmd.Context(type_id=pipeline_type, name="tuning")])
    (run_id,) = context_ids
    store.put_attributions_and_associations(
        [mlmd.Attribution(artifact_id=report_id, context_id=run_id)],
        [mlmd.Association(execution_id=execution_id, context_id=pipeline_id)],
    )
    store.put_parent_contexts([mlmd.ParentContext(child_id=run_id, parent_id=pipeline_id)])

    result = {
        "execution_id": execution_id,
        "used_id": used.id,
        "artifact_ids": list(artifact_ids),
        "report_id": report_id,
        "run_id": run_id,
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
