"""Everything that GraphQL says about a store, without what differs between two tellings of the same story.

Ids, times, machines and the uids of pods and workflows differ. Names, types, states, attempts, messages, parameters,
labels, edges, and what lineage answers for each artifact over all runs have to be the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

Ask: TypeAlias = Callable[..., Mapping[str, Any]]

UIDS: Final = frozenset({"cached_execution_id", "parent", "pod_uid", "workflow_uid"})
TIMES: Final = frozenset({"started_at", "finished_at", "produced_at"})
MACHINE: Final = frozenset({"cluster", "node", "image_digest"})
DIFFERS: Final = UIDS | TIMES | MACHINE
"""Custom properties of which only the presence is compared."""

RUNS: Final = """{
  runs(first: 1000) { nodes {
    name type state message parameters labels customProperties
    pipeline { name type }
    inputArtifacts(first: 1000) { nodes { uri } }
    outputArtifacts(first: 1000) { nodes { uri } }
    executions(first: 1000) { nodes {
      name type state taskName attempt message reason customProperties
      inputs(first: 1000) { edges { name node { uri } } }
      outputs(first: 1000) { edges { name node { uri } } }
    } }
  } }
}"""

ARTIFACTS: Final = """{
  artifacts(first: 1000) { nodes {
    id name type uri state customProperties
    producer { name run { name } }
    consumers(first: 1000) { nodes { name attempt run { name } } }
    runs { name } usedByRuns { name }
  } }
}"""

LINEAGE: Final = """query ($of: [ID!]!) {
  lineage(of: $of, direction: UPSTREAM) {
    truncated
    nodes { __typename ... on Artifact { uri } ... on Execution { name attempt run { name } } }
    edges { name from { ...end } to { ...end } }
    runs { name }
  }
}
fragment end on LineageNode { __typename ... on Artifact { uri } ... on Execution { name attempt run { name } } }"""


def view(ask: Ask) -> Mapping[str, Any]:
    """What `ask`, which puts a query to one system, finds out: runs with their executions, artifacts, lineage."""
    artifacts = ask(ARTIFACTS)["artifacts"]["nodes"]
    origins = [(artifact, ask(LINEAGE, of=[artifact["id"]])["lineage"]) for artifact in artifacts]
    return {
        "runs": _sorted(_run(run) for run in ask(RUNS)["runs"]["nodes"]),
        "artifacts": _sorted(_artifact(artifact) for artifact in artifacts),
        "upstream": _sorted(_origin(artifact, lineage) for artifact, lineage in origins),
    }


def _run(run: dict[str, Any]) -> dict[str, Any]:
    return {
        **run,
        "customProperties": _properties(run["customProperties"]),
        "inputArtifacts": _sorted(artifact["uri"] for artifact in run["inputArtifacts"]["nodes"]),
        "outputArtifacts": _sorted(artifact["uri"] for artifact in run["outputArtifacts"]["nodes"]),
        "executions": _sorted(_execution(execution) for execution in run["executions"]["nodes"]),
    }


def _execution(execution: dict[str, Any]) -> dict[str, Any]:
    return {
        **execution,
        "customProperties": _properties(execution["customProperties"]),
        "inputs": _sorted([use["name"], use["node"]["uri"]] for use in execution["inputs"]["edges"]),
        "outputs": _sorted([use["name"], use["node"]["uri"]] for use in execution["outputs"]["edges"]),
    }


def _artifact(artifact: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: value for name, value in artifact.items() if name != "id"},
        "customProperties": _properties(artifact["customProperties"]),
        "consumers": _sorted(artifact["consumers"]["nodes"]),
        "runs": _sorted(artifact["runs"]),
        "usedByRuns": _sorted(artifact["usedByRuns"]),
    }


def _origin(artifact: Mapping[str, Any], lineage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "of": artifact["uri"],
        "truncated": lineage["truncated"],
        "nodes": _sorted(lineage["nodes"]),
        "edges": _sorted(lineage["edges"]),
        "runs": _sorted(lineage["runs"]),
    }


def _properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "differs" if name in DIFFERS else value for name, value in sorted(properties.items())}


def _sorted(items: Any) -> Sequence[Any]:
    # repr, because dictionaries have no order; keys are in the order of the query
    return sorted(items, key=repr)
