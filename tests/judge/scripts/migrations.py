"""Fills databases with the library itself, and brings them down to older schemas and up again with it.

In: {"steps": [[DO, WHERE, VERSION], ..]}, where DO is "fill", "downgrade" (to VERSION) or "upgrade", and WHERE a SQLite
file or a `ConnectionConfig` as JSON. Out: {}.
"""

import json
import sys

from google.protobuf import json_format
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb


def config(where):
    if isinstance(where, str):
        where = {"sqlite": {"filename_uri": where}}
    return json_format.ParseDict(where, pb.ConnectionConfig())


def fill(where):
    store = metadata_store.MetadataStore(config(where))
    artifact = store.put_artifact_type(
        pb.ArtifactType(name="Data", properties={"rows": pb.INT, "share": pb.DOUBLE, "kind": pb.STRING})
    )
    execution = store.put_execution_type(pb.ExecutionType(name="Step", properties={"kind": pb.STRING}))
    context = store.put_context_type(pb.ContextType(name="Run"))
    for number in range(5):
        step = pb.Execution(type_id=execution, last_known_state=pb.Execution.COMPLETE, name=f"step {number}")
        step.properties["kind"].string_value = "train ü"
        made = pb.Artifact(type_id=artifact, uri=f"s3://bucket/{number}", name=f"data {number}")
        made.properties["rows"].int_value = number
        made.properties["share"].double_value = number / 4
        made.custom_properties["note"].string_value = f"note {number}"
        event = pb.Event(type=pb.Event.OUTPUT)
        event.path.steps.add().key = "model"
        event.path.steps.add().index = number
        store.put_execution(step, [(made, event)], [pb.Context(type_id=context, name=f"run {number}")])
    store.put_parent_contexts([pb.ParentContext(child_id=2, parent_id=1), pb.ParentContext(child_id=3, parent_id=1)])


def main():
    for do, where, version in json.load(sys.stdin)["steps"]:
        if do == "fill":
            fill(where)
        elif do == "downgrade":
            metadata_store.downgrade_schema(config(where), version)
        else:
            metadata_store.MetadataStore(config(where), enable_upgrade_migration=True)
    print(json.dumps({}))


main()
