"""Run by the judge's interpreter: the public `ml_metadata` client and ours in one process, on one store.

Standard input: {"port": PORT, "path": what to import mdstore from, "first": "mdstore" or "ml_metadata"}.
"""

import asyncio
import importlib
import json
import sys
from pathlib import Path

given = json.load(sys.stdin)
sys.path.insert(0, given["path"])
for name in sorted(
    ["mdstore.client.connect", "ml_metadata.metadata_store.metadata_store"], reverse=given["first"] != "mdstore"
):
    importlib.import_module(name)

import google.protobuf  # noqa: E402 (after the two, in the order that was asked for)
from ml_metadata.metadata_store import metadata_store  # noqa: E402
from ml_metadata.proto import metadata_store_pb2  # noqa: E402

import mdstore  # noqa: E402
import mdstore.errors  # noqa: E402
from mdstore.wire import mlmd, service  # noqa: E402

url = f"grpc://127.0.0.1:{given['port']}"
theirs = metadata_store.MetadataStore(
    metadata_store_pb2.MetadataStoreClientConfig(host="127.0.0.1", port=given["port"])
)

type_id = theirs.put_artifact_type(metadata_store_pb2.ArtifactType(name="Theirs"))
theirs.put_artifacts([metadata_store_pb2.Artifact(type_id=type_id, uri="s3://b/theirs", name="theirs")])

with mdstore.run("train", store=url, run_id="r", parameters={"rate": 0.1}, strict=True) as step:
    step.input("table", "s3://b/theirs")
    step.output("model", Path(__file__), type="system.Model")
    step.log_metric("accuracy", 0.9)


async def ours_asynchronously() -> list[str]:
    async with mdstore.connect_async(url) as store:
        found = await store.get_artifacts(service.GetArtifactsRequest())
        assert [message.head_seq async for message in store.follow(once=True)]
        return sorted(artifact.type for artifact in found.artifacts)


with mdstore.connect(url) as store:
    (theirs_by_us,) = store.get_artifacts_by_uri(service.GetArtifactsByURIRequest(uris=["s3://b/theirs"])).artifacts
    refused = ""
    try:
        store.put_artifacts(service.PutArtifactsRequest(artifacts=[mlmd.Artifact(type_id=999)]))
    except mdstore.errors.NotFound as error:
        refused = str(error)

(execution,) = theirs.get_executions()
print(
    json.dumps(
        {
            "protobuf": google.protobuf.__version__,
            "python": sys.version_info[:2],
            "modules": sorted(
                name for name in sys.modules if name.startswith(("sqlalchemy", "typer", "structlog", "pydantic"))
            ),
            "name": theirs_by_us.name,
            "refused": bool(refused),
            "state": execution.last_known_state,
            "rate": execution.custom_properties["parameters"].struct_value["rate"],
            "events": len(theirs.get_events_by_execution_ids([execution.id])),
            "types": asyncio.run(ours_asynchronously()),
        }
    )
)
