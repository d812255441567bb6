"""Makes databases of MLMD's older schemas with the library itself, and upgrades copies of them with it.

In: {"folder": ...}. Out: {"versions": [...]}. Files: v<N>.db as the library's downgrade leaves it, v<N>-library.db the
same after the library's own upgrade.
"""

import json
import shutil
import sys
from pathlib import Path

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb


def config(file):
    found = pb.ConnectionConfig()
    found.sqlite.filename_uri = str(file)
    return found


def fill(file):
    store = metadata_store.MetadataStore(config(file))
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
    folder = Path(json.load(sys.stdin)["folder"])
    newest = folder / "v10.db"
    fill(newest)
    for version in range(10):
        file = folder / f"v{version}.db"
        shutil.copy(newest, file)
        metadata_store.downgrade_schema(config(file), version)
        upgraded = folder / f"v{version}-library.db"
        shutil.copy(file, upgraded)
        metadata_store.MetadataStore(config(upgraded), enable_upgrade_migration=True)
    print(json.dumps({"versions": list(range(10))}))


main()
