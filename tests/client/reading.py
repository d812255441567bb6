"""What the store holds of steps, in short."""

from dataclasses import dataclass, field
from typing import Any

from mdstore.client.client import Client
from mdstore.values import artifact_from_message, context_from_message, event_from_message, execution_from_message
from mdstore.wire import mlmd, service


@dataclass(slots=True)
class Stored:
    """Everything in a store; nodes by their external id, contexts by their name."""

    executions: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Any] = field(default_factory=dict)
    contexts: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    """Execution -> input's name -> artifact."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=dict)
    """Context -> executions and artifacts in it."""
    parents: dict[str, list[str]] = field(default_factory=dict)
    events: int = 0
    commits: int = 0

    @property
    def execution(self) -> Any:
        (found,) = self.executions.values()
        return found

    def named(self, name: str) -> Any:
        """The execution with this display name."""
        (found,) = [e for e in self.executions.values() if e.custom_properties["display_name"] == name]
        return found


def _all(client: Client, kind: str) -> list[Any]:
    found: list[Any] = []
    options = mlmd.ListOperationOptions(max_result_size=100)
    while True:
        request = getattr(service, f"Get{kind.capitalize()}Request")(options=options)
        page = getattr(client, f"get_{kind}")(request)
        found.extend(getattr(page, kind))
        if not page.next_page_token:
            return found
        options.next_page_token = page.next_page_token


def stored(client: Client) -> Stored:
    """Read everything."""
    found = Stored()
    executions = [execution_from_message(message) for message in _all(client, "executions")]
    artifacts = [artifact_from_message(message) for message in _all(client, "artifacts")]
    contexts = [context_from_message(message) for message in _all(client, "contexts")]
    names = {artifact.id: artifact.external_id or str(artifact.id) for artifact in artifacts}
    for execution in executions:
        key = execution.external_id or execution.name or str(execution.id)
        assert key not in found.executions, f"doubled: {key}"
        found.executions[key] = execution
        request = service.GetEventsByExecutionIDsRequest(execution_ids=[execution.id])
        for message in client.get_events_by_execution_ids(request).events:
            event = event_from_message(message)
            into = found.outputs if event.type.is_output else found.inputs
            path = "/".join(str(step) for step in event.path)
            links = into.setdefault(key, {})
            assert path not in links, f"doubled: {key} {path}"
            links[path] = names[event.artifact_id]
            found.events += 1
    for artifact in artifacts:
        assert names[artifact.id] not in found.artifacts, f"doubled: {names[artifact.id]}"
        found.artifacts[names[artifact.id]] = artifact
    for context in contexts:
        found.contexts[context.name] = context
        members = found.members.setdefault(context.name, set())
        in_context = service.GetExecutionsByContextRequest(context_id=context.id)
        members.update(e.external_id or e.name for e in client.get_executions_by_context(in_context).executions)
        made = service.GetArtifactsByContextRequest(context_id=context.id)
        members.update(a.external_id for a in client.get_artifacts_by_context(made).artifacts)
        parents = client.get_parent_contexts_by_context(
            service.GetParentContextsByContextRequest(context_id=context.id)
        ).contexts
        found.parents[context.name] = [parent.name for parent in parents]
    found.commits = sum(len(page.commits) for page in client.follow(once=True))
    return found
