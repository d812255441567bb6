"""Which version of what is at a location an execution used, by asking the store.

A version is an artifact at that URI; it was the latest at a time when no other one was finished between it and
then. A use for which there is none gets an artifact that stands for the unknown version (external id `uri:<URI>`),
which is completed by its producer when that shows up later.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mdstore.client.client import Client
from mdstore.errors import NotFound
from mdstore.values import EventType
from mdstore.vocabulary import Property
from mdstore.wire import mlmd, service
from mdstore_writer.argo import milliseconds
from mdstore_writer.records import ArtifactRecord
from mdstore_writer.requests import ArtifactKey

_CHUNK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One artifact at a URI."""

    id: int
    external_id: str | None
    finished_ms: int
    is_unknown: bool
    """It stands for a version whose producer was not seen."""

    @property
    def key(self) -> ArtifactKey:
        """How records name it."""
        return self.external_id or self.id


def unknown_id(uri: str) -> str:
    """The external id of the artifact that stands for an unknown version."""
    return f"uri:{uri}"


def _version(artifact: mlmd.Artifact) -> Version:
    produced = artifact.custom_properties.get(Property.PRODUCED_AT)
    at_ms = milliseconds(produced.string_value) if produced is not None else None
    external_id = artifact.external_id if artifact.HasField("external_id") else None
    return Version(
        id=artifact.id,
        external_id=external_id,
        # Other clients do not write when it was finished; they write the artifact when it is.
        finished_ms=artifact.create_time_since_epoch if at_ms is None else at_ms,
        is_unknown=external_id == unknown_id(artifact.uri),
    )


def versions_at(client: Client, uris: Collection[str]) -> Mapping[str, Sequence[Version]]:
    """The versions at each of these URIs, oldest first."""
    found: dict[str, list[Version]] = defaultdict(list)
    ordered = sorted(uris)
    for start in range(0, len(ordered), _CHUNK):
        response = client.get_artifacts_by_uri(service.GetArtifactsByURIRequest(uris=ordered[start : start + _CHUNK]))
        for artifact in response.artifacts:
            found[artifact.uri].append(_version(artifact))
    for versions in found.values():
        versions.sort(key=lambda version: (version.finished_ms, version.external_id or "", version.id))
    return found


def latest(versions: Iterable[Version], as_of_ms: int) -> Version | None:
    """The version that was there at a time: the last one finished by then, else one whose time nobody knows."""
    unknown = None
    found = None
    for version in versions:
        if version.is_unknown:
            unknown = version
        elif version.finished_ms <= as_of_ms:
            found = version
    return found or unknown


def unknown_versions(client: Client, uris: Collection[str]) -> dict[str, mlmd.Artifact]:
    """Of these URIs, those at which something was used whose producer was not seen: the artifact that stands for it."""
    found: dict[str, mlmd.Artifact] = {}
    ordered = sorted(uris)
    for start in range(0, len(ordered), _CHUNK):
        request = service.GetArtifactsByExternalIdsRequest(
            external_ids=[unknown_id(uri) for uri in ordered[start : start + _CHUNK]]
        )
        try:
            there = client.get_artifacts_by_external_ids(request).artifacts
        except NotFound:  # MLMD's answer when there is none at all
            continue
        found.update((artifact.uri, artifact) for artifact in there)
    return found


def complete(client: Client, unknown: mlmd.Artifact, candidates: Sequence[ArtifactRecord]) -> ArtifactRecord | None:
    """Let the producer that showed up take over the artifact that stands for an unknown version.

    Args:
        client: the store.
        unknown: the artifact that consumers were linked to.
        candidates: what was put at its URI, as far as it was not known then.

    Returns:
        The latest candidate that was finished when the first consumer used it: the artifact now has its external
        id. None when all came later, so that what the consumers used is still unknown.
    """
    events = client.get_events_by_artifact_ids(service.GetEventsByArtifactIDsRequest(artifact_ids=[unknown.id])).events
    first_use = min((e.milliseconds_since_epoch for e in events if EventType(e.type).is_input), default=None)
    in_time = [c for c in candidates if first_use is None or (c.produced_ms or 0) <= first_use]
    if not in_time:
        return None
    chosen = max(in_time, key=lambda candidate: (candidate.produced_ms or 0, candidate.external_id))
    changed = mlmd.Artifact()
    changed.CopyFrom(unknown)
    changed.external_id = chosen.external_id
    client.put_artifacts(service.PutArtifactsRequest(artifacts=[changed]))
    return chosen


def makers(client: Client, found: Collection[Version]) -> dict[int, int]:
    """Artifact id -> id of the execution that made this version; those whose maker nobody knows are absent."""
    ours = {v.id: v.external_id.rpartition("/")[0] for v in found if v.external_id is not None and not v.is_unknown}
    result: dict[int, int] = {}
    ordered = sorted(set(ours.values()) - {""})
    for start in range(0, len(ordered), _CHUNK):
        request = service.GetExecutionsByExternalIdsRequest(external_ids=ordered[start : start + _CHUNK])
        try:
            ids = {e.external_id: e.id for e in client.get_executions_by_external_ids(request).executions}
        except NotFound:
            continue
        result.update((artifact, ids[name]) for artifact, name in ours.items() if name in ids)
    for version in found:
        if version.external_id is None and (source := _first_to_output(client, version.id)) is not None:
            result[version.id] = source
    return result


def _first_to_output(client: Client, artifact_id: int) -> int | None:
    """The execution that output an artifact before all others: they have it from a cache."""
    events = client.get_events_by_artifact_ids(service.GetEventsByArtifactIDsRequest(artifact_ids=[artifact_id])).events
    outputs = [event for event in events if EventType(event.type).is_output]
    first = min(outputs, key=lambda event: (event.milliseconds_since_epoch, event.execution_id), default=None)
    return None if first is None else first.execution_id
