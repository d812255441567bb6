"""Keeps the newest state of every observed object, so that a source may tell it anything twice and in any order.

An object is its uid, and of two states of it the one with the higher resourceVersion is the newer. Older and repeated
events change nothing; that an object was deleted is remembered, since a state of before may still come in. Pods and
task results are filed under the Workflow that owns them; they may come before it, and stay after it.

Threads: one observer belongs to one thread.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from mdstore_writer import argo
from mdstore_writer.argo import Pod, TaskResult, Workflow, mapping, text

KINDS: Final = frozenset({"Workflow", "WorkflowTaskResult", "Pod"})
CHANGES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})


class Outcome(Enum):
    """What an event did."""

    CHANGED = "changed"
    NOTHING_NEW = "nothing new"
    NOT_OURS = "not ours"
    """A pod or task result that belongs to no workflow; a bookmark."""
    SERVER_ERROR = "server error"
    """An ERROR event: the watch is over; what it says is for the watcher."""


class Unreadable(Exception):
    """An event that means nothing to this writer; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedRun:
    """Everything known of one workflow at a moment."""

    cluster: str
    workflow: Workflow
    is_deleted: bool
    is_abandoned: bool = False
    """No more will come of it: the source has ended."""
    pods: tuple[Pod, ...]
    results: Mapping[str, TaskResult]
    """By node id."""


@dataclass(slots=True)
class _Kept:
    """What is kept of one workflow and of all that belongs to it."""

    workflow: Mapping[str, Any] | None = None
    resource_version: int = -1
    is_deleted: bool = False
    source: str = ""
    pods: dict[str, Pod] = field(default_factory=dict)
    results: dict[str, TaskResult] = field(default_factory=dict)


class Observer:
    """The newest state of every object of one cluster."""

    def __init__(self, cluster: str) -> None:
        """`cluster` becomes part of the keys of all that is recorded."""
        self.cluster = cluster
        self._kept: dict[str, _Kept] = {}
        self._changed: dict[str, None] = {}
        self._has_ended = False

    def observe(self, event: Mapping[str, Any], source: str) -> Outcome:
        """Take over one watch event.

        Args:
            event: `{"type": ..., "object": ...}` as the API server sends it.
            source: where it comes from, for messages: `FILE:LINE`, or the watch.

        Raises:
            Unreadable: it is no event of a kind that this writer knows.
        """
        change, raw = event.get("type"), event.get("object")
        if change == "BOOKMARK":
            return Outcome.NOT_OURS
        if change == "ERROR":
            return Outcome.SERVER_ERROR
        if change not in CHANGES:
            raise Unreadable(f"type {change!r} is no watch event's: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR")
        if not isinstance(raw, dict):
            raise Unreadable("the event has no object")
        kind = raw.get("kind")
        if kind not in KINDS:
            raise Unreadable(f"kind {kind!r} is not known: only {', '.join(sorted(KINDS))} are read")
        metadata = mapping(raw.get("metadata"))
        if text(metadata.get("uid")) is None or text(metadata.get("name")) is None:
            raise Unreadable(f"the {kind} has no metadata.uid or no metadata.name")
        if argo.version(metadata) < 0:
            raise Unreadable(f"the {kind} {metadata['name']} has no numeric metadata.resourceVersion")
        if kind == "Workflow":
            return self._workflow(raw, metadata, source, is_deleted=change == "DELETED")
        uid = argo.owner(metadata)
        if uid is None:
            return Outcome.NOT_OURS
        kept = self._kept.setdefault(uid, _Kept())
        is_new = self._pod(kept, raw, metadata) if kind == "Pod" else self._result(kept, raw)
        if not is_new:
            return Outcome.NOTHING_NEW
        self._changed[uid] = None
        return Outcome.CHANGED

    def _workflow(
        self, raw: Mapping[str, Any], metadata: Mapping[str, Any], source: str, *, is_deleted: bool
    ) -> Outcome:
        uid, resource_version = metadata["uid"], argo.version(metadata)
        kept = self._kept.setdefault(uid, _Kept())
        # A list that is taken again repeats the version; its deletion may carry the version of the last change.
        is_newer = resource_version > kept.resource_version
        if not is_newer and (not is_deleted or kept.is_deleted):
            return Outcome.NOTHING_NEW
        if is_newer:
            kept.workflow, kept.resource_version, kept.source = argo.essentials(raw), resource_version, source
        kept.is_deleted = kept.is_deleted or is_deleted
        self._changed[uid] = None
        return Outcome.CHANGED

    @staticmethod
    def _pod(kept: _Kept, raw: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
        before = kept.pods.get(metadata["uid"])
        now = argo.pod(raw, before)
        if before is not None and now.resource_version <= before.resource_version:
            # An old state of a pod still tells what it once waited for.
            now = replace(before, waited_for=now.waited_for)
        kept.pods[now.uid] = now
        # Two states that differ in their version alone say the same.
        return now != before

    @staticmethod
    def _result(kept: _Kept, raw: Mapping[str, Any]) -> bool:
        now = argo.task_result(raw)
        before = kept.results.get(now.node)
        if before is not None and now.resource_version <= before.resource_version:
            return False
        kept.results[now.node] = now
        return before is None or (before.outputs, before.is_complete) != (now.outputs, now.is_complete)

    def take_changed(self) -> Iterator[ObservedRun]:
        """The runs that something is new of since the last call; those whose Workflow was not seen yet wait."""
        changed, self._changed = self._changed, {}
        for uid in changed:
            run = self.run(uid)
            if run is not None:
                yield run

    def mark_changed(self, uid: str) -> None:
        """Let `take_changed` give this run again."""
        self._changed[uid] = None

    def run(self, uid: str) -> ObservedRun | None:
        """What is known of the workflow with this uid; None when it was not seen itself."""
        kept = self._kept.get(uid)
        if kept is None or kept.workflow is None:
            return None
        return ObservedRun(
            cluster=self.cluster,
            workflow=argo.workflow(kept.workflow),
            is_deleted=kept.is_deleted,
            is_abandoned=self._has_ended,
            # The order of what is kept is that of arrival, and must not be seen.
            pods=tuple(sorted(kept.pods.values(), key=lambda pod: (pod.created_ms, pod.uid))),
            results=dict(sorted(kept.results.items())),
        )

    def runs(self) -> Iterator[ObservedRun]:
        """All runs whose Workflow was seen."""
        for uid in list(self._kept):
            run = self.run(uid)
            if run is not None:
                yield run

    def source(self, uid: str) -> str:
        """Where the newest state of this workflow came from."""
        kept = self._kept.get(uid)
        return "" if kept is None else kept.source

    def live_workflows(self) -> dict[str, tuple[str, str]]:
        """Namespace and name, by uid, of the workflows that were not deleted."""
        return {
            uid: (text(metadata.get("namespace")) or "", text(metadata.get("name")) or "")
            for uid, kept in self._kept.items()
            if kept.workflow is not None and not kept.is_deleted
            for metadata in (mapping(kept.workflow.get("metadata")),)
        }

    def missing(self, uid: str) -> None:
        """A new list does not hold this workflow: it was deleted while nobody watched."""
        kept = self._kept.get(uid)
        if kept is not None and kept.workflow is not None and not kept.is_deleted:
            kept.is_deleted = True
            self._changed[uid] = None

    def end(self) -> None:
        """The source has ended: what is not known by now will not be."""
        self._has_ended = True
        for uid, kept in self._kept.items():
            if kept.workflow is not None and not kept.workflow["status"]:
                self._changed[uid] = None

    def forget(self, uid: str) -> None:
        """Drop what is kept of a workflow, but for its version: a late event of it must not make it new again."""
        kept = self._kept.get(uid)
        if kept is not None:
            self._kept[uid] = _Kept(resource_version=kept.resource_version, is_deleted=True)
            self._changed.pop(uid, None)
