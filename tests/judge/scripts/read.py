"""Reads the whole store with the public client; ids are resolved to names, so that two stores can be compared."""

import json
import sys

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as mlmd


def properties(node):
    return {
        name: getattr(value, value.WhichOneof("value")) if value.WhichOneof("value") != "struct_value" else "struct"
        for name, value in [*node.properties.items(), *node.custom_properties.items()]
    }


def main():
    arguments = json.load(sys.stdin)
    store = metadata_store.MetadataStore(mlmd.MetadataStoreClientConfig(host=arguments["host"], port=arguments["port"]))
    types = {
        "artifact": store.get_artifact_types(),
        "execution": store.get_execution_types(),
        "context": store.get_context_types(),
    }
    artifacts = store.get_artifacts()
    executions = store.get_executions()
    contexts = store.get_contexts()
    uris = {artifact.id: artifact.uri for artifact in artifacts}
    events = store.get_events_by_execution_ids([execution.id for execution in executions])

    def event_key(event):
        return [mlmd.Event.Type.Name(event.type), uris[event.artifact_id]]

    result = {
        "types": {
            kind: {t.name: {name: mlmd.PropertyType.Name(v) for name, v in t.properties.items()} for t in found}
            for kind, found in types.items()
        },
        "contexts": sorted(
            (
                {
                    "type": context.type,
                    "name": context.name,
                    "properties": properties(context),
                    "parents": sorted(parent.name for parent in store.get_parent_contexts_by_context(context.id)),
                    "artifacts": sorted(a.uri for a in store.get_artifacts_by_context(context.id)),
                    "executions": len(store.get_executions_by_context(context.id)),
                }
                for context in contexts
            ),
            key=lambda context: (context["type"], context["name"]),
        ),
        "executions": sorted(
            (
                {
                    "type": execution.type,
                    "state": mlmd.Execution.State.Name(execution.last_known_state),
                    "properties": properties(execution),
                    "contexts": sorted(c.name for c in store.get_contexts_by_execution(execution.id)),
                    "events": sorted(event_key(event) for event in events if event.execution_id == execution.id),
                }
                for execution in executions
            ),
            key=lambda execution: json.dumps(execution, sort_keys=True),
        ),
        "artifacts": sorted(
            (
                {
                    "type": artifact.type,
                    "uri": artifact.uri,
                    "state": mlmd.Artifact.State.Name(artifact.state),
                    "properties": properties(artifact),
                }
                for artifact in artifacts
            ),
            key=lambda artifact: json.dumps(artifact, sort_keys=True),
        ),
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
