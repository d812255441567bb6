"""Writes what was observed into a store: interprets the runs that changed and sends what is new of them.

One request is one transaction, and doing it all again changes nothing, so a failure at any moment only means:
again. What was sent is remembered to keep quiet about it, never to decide anything.

Two things wait until the source has settled (a replay: the end of its files; a watch: a few seconds), because what
decides them may not have been seen yet: which version an execution used that came from outside of its run, and
whether an output is what an earlier use of the same location was waiting for.

Threads: a recorder belongs to one thread.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from mdstore.client.client import Client
from mdstore.errors import MetadataError
from mdstore.vocabulary import ARTIFACT, PIPELINE_RUN, Property
from mdstore.wire import mlmd, service
from mdstore_writer import lost, quarantine, versions
from mdstore_writer.executions import prefix
from mdstore_writer.interpret import interpret
from mdstore_writer.kubeflow_tasks import LauncherExecution
from mdstore_writer.observe import ObservedRun, Observer
from mdstore_writer.patience import PASSING
from mdstore_writer.quarantine import Entry
from mdstore_writer.records import ArtifactRecord, ExecutionRecord, Problem, Records, Use
from mdstore_writer.requests import Requests

log = structlog.get_logger()

_OBJECTS: Final = "object/"
_PAGE: Final = 100

Key = tuple[Any, ...]


@dataclass(slots=True)
class _Sent:
    """What the store is known to hold of one run, and what of it waits."""

    records: dict[Key, object] = field(default_factory=dict)
    uses: dict[Key, tuple[Use, float]] = field(default_factory=dict)
    """Not linked yet: the use, and when it was first seen (monotonic seconds)."""
    linked: set[Key] = field(default_factory=set)
    held: dict[str, tuple[ArtifactRecord, float]] = field(default_factory=dict)
    """Outputs at locations where something unknown was used, by external id, and when they were first seen."""
    problems: frozenset[str] = frozenset()
    """Keys of what is in quarantine."""
    was_over: bool = False
    is_gone: bool = False
    """The workflow was deleted."""
    is_open: bool | None = None
    """Whether the store knows that it is not over; None before anything was sent."""
    changed_at: float = 0.0
    """Monotonic seconds."""


class Recorder:
    """Brings a store up to date with an observer."""

    def __init__(
        self,
        client: Client,
        observer: Observer,
        *,
        remembers_open_runs: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put a store and an observer together.

        Args:
            client: the store.
            observer: what is recorded.
            remembers_open_runs: keep what a later life needs to close runs that go away unseen (see `lost`).
            now: a monotonic clock in seconds.
        """
        self._client = client
        self._observer = observer
        self._now = now
        self._remembers_open_runs = remembers_open_runs
        self._runs: dict[str, _Sent] = defaultdict(_Sent)
        self._released: set[str] = set()
        self._reported: set[str] | None = None

    def flush(self) -> int:
        """Send what changed since the last call.

        Returns:
            How many runs something was sent of.

        Raises:
            MetadataError: the store did not take it all. The same call later sends it again.
        """
        changed = list(self._observer.take_changed())
        if not changed:
            return 0
        try:
            return self._send([(run, self._interpret(run)) for run in changed])
        except BaseException:
            for run in changed:
                self._observer.mark_changed(run.workflow.uid)
            raise

    def _interpret(self, run: ObservedRun) -> Records:
        known = self._launcher_executions(run)
        try:
            return interpret(run, known)
        except Exception as error:
            # One object that nobody foresaw must not keep all others out of the store.
            log.exception("interpretation failed", workflow=run.workflow.name, namespace=run.workflow.namespace)
            return _problem(run, "interpretation", f"a fault of mdstore: it cannot be interpreted: {error!r}")

    def _send(self, interpreted: list[tuple[ObservedRun, Records]]) -> int:
        try:
            return self._send_together(interpreted)
        except PASSING:
            raise
        except MetadataError as error:
            # The store will not take this whenever it is asked. Which run is it?
            if len(interpreted) > 1:
                return sum(self._send([one]) for one in interpreted)
            run, records = interpreted[0]
            if not records.contexts:  # it is the complaint itself that is refused
                raise
            log.error("store refused a run", workflow=run.workflow.name, error=str(error))
            return self._send_together([(run, _problem(run, "refused", f"the store does not take it: {error}"))])

    def _send_together(self, interpreted: list[tuple[ObservedRun, Records]]) -> int:
        self._hold(interpreted)
        requests, done = Requests(), []
        for run, records in interpreted:
            sent = self._runs[run.workflow.uid]
            sent.is_gone, sent.changed_at = run.is_deleted, self._now()
            if run.workflow.kubeflow_run_id is not None and run.workflow.is_over and not sent.was_over:
                # Launchers write whole nodes, read some time before: what was sent in between may be gone.
                sent.records.clear()
                sent.was_over = True
            new = {key: record for key, record in self._sendable(records, sent) if sent.records.get(key) != record}
            self._add(requests, new)
            self._remember(requests, run, sent, records)
            done.append((sent, new, self._problems(requests, run, sent, records.problems)))
        for request in requests.take():
            self._client.ingest(request)
        for sent, new, problems in done:
            sent.records.update(new)
            sent.problems = problems
        for run, records in interpreted:
            sent = self._runs[run.workflow.uid]
            sent.is_open = bool(records.contexts) and not (run.workflow.is_over or run.is_deleted)
            self._wait_for(sent, records.uses)
        return sum(bool(new) for _, new, _ in done)

    def _launcher_executions(self, run: ObservedRun) -> Mapping[int, LauncherExecution]:
        """What Kubeflow's own launcher wrote of this run into this store."""
        name = run.workflow.kubeflow_run_id
        if name is None:
            return {}
        context = self._client.get_context_by_type_and_name(
            service.GetContextByTypeAndNameRequest(type_name=PIPELINE_RUN, context_name=name)
        ).context
        found: dict[int, LauncherExecution] = {}
        if not context.id:
            return found
        options = mlmd.ListOperationOptions(max_result_size=_PAGE)
        while True:
            page = self._client.get_executions_by_context(
                service.GetExecutionsByContextRequest(context_id=context.id, options=options)
            )
            for execution in page.executions:
                # Ours have one. Without this, ids of another store could hit what a replay wrote into this one.
                if not execution.HasField("external_id"):
                    custom = execution.custom_properties
                    found[execution.id] = LauncherExecution(
                        type=execution.type,
                        task=custom["task_name"].string_value if "task_name" in custom else None,
                        parent=custom["parent_dag_id"].int_value if "parent_dag_id" in custom else None,
                        iteration=custom["iteration_index"].int_value if "iteration_index" in custom else None,
                    )
            if not page.next_page_token:
                return found
            options.next_page_token = page.next_page_token

    # Outputs that a use of before may have waited for

    def _hold(self, interpreted: list[tuple[ObservedRun, Records]]) -> None:
        """Hold back new outputs at locations where something unknown was used."""
        new = [
            (self._runs[run.workflow.uid], artifact)
            for run, records in interpreted
            for artifact in records.artifacts
            if ("artifact", artifact.external_id) not in self._runs[run.workflow.uid].records
            and artifact.external_id not in self._released
        ]
        waited_for = versions.unknown_versions(self._client, {artifact.uri for _, artifact in new}) if new else {}
        for sent, artifact in new:
            if artifact.uri in waited_for:
                _, since = sent.held.get(artifact.external_id, (artifact, self._now()))
                sent.held[artifact.external_id] = artifact, since
            else:
                sent.held.pop(artifact.external_id, None)

    def _release(self, limit: float) -> None:
        """Decide which output held since `limit` or before is what was used before, and let all of them go."""
        held = [
            (uid, artifact)
            for uid, sent in self._runs.items()
            for artifact, since in sent.held.values()
            if since <= limit
        ]
        if not held:
            return
        by_uri: dict[str, list[ArtifactRecord]] = defaultdict(list)
        for _, artifact in held:
            by_uri[artifact.uri].append(artifact)
        for uri, unknown in versions.unknown_versions(self._client, by_uri).items():
            versions.complete(self._client, unknown, by_uri[uri])
        for uid, artifact in held:
            self._released.add(artifact.external_id)
            self._runs[uid].held.pop(artifact.external_id, None)
            self._observer.mark_changed(uid)
        self.flush()
        self._released.difference_update(artifact.external_id for _, artifact in held)

    # What is sent of a run

    def _sendable(self, records: Records, sent: _Sent) -> Iterator[tuple[Key, object]]:
        held = sent.held.keys()
        for context in records.contexts:
            yield ("context", *context.key), context
        for child, parent in records.parents:
            yield ("parent", child, parent), (child, parent)
        for artifact in records.artifacts:
            if artifact.external_id not in held:
                yield ("artifact", artifact.external_id), artifact
        for execution in records.executions:
            yield ("execution", execution.key), execution
        for event in records.events:
            if event.artifact not in held:
                yield ("event", event.execution, event.artifact, event.type, event.path, event.index), event
        for external_id, attributed in records.attributions:
            if external_id not in held:
                yield ("attribution", external_id, attributed), (external_id, attributed)
        for key, associated in records.associations:
            yield ("association", key, associated), (key, associated)

    def _add(self, requests: Requests, new: Mapping[Key, Any]) -> None:
        for key, record in new.items():
            match key[0]:
                case "context":
                    requests.context(record)
                case "parent":
                    requests.parent(*record)
                case "artifact":
                    requests.artifact(record)
                case "execution":
                    requests.execution(record)
                case "event":
                    requests.event_record(record)
                case "attribution":
                    requests.attribution(*record)
                case "association":
                    requests.association(*record)

    def _remember(self, requests: Requests, run: ObservedRun, sent: _Sent, records: Records) -> None:
        is_open = bool(records.contexts) and not (run.workflow.is_over or run.is_deleted)
        if self._remembers_open_runs and is_open != sent.is_open:
            kept = lost.open_run(run)
            requests.document(lost.COLLECTION, kept.key, kept.content() if is_open else None)

    # Quarantine

    def _problems(
        self, requests: Requests, run: ObservedRun, sent: _Sent, problems: tuple[Problem, ...]
    ) -> frozenset[str]:
        """Put a run's problems into quarantine, and take out those that it does not have any more."""
        if self._reported is None:
            self._reported = {entry.key for entry in quarantine.entries(self._client, _OBJECTS)}
        mine = f"{_OBJECTS}{prefix(run)}/"
        now = {f"{_OBJECTS}{problem.key}": problem for problem in problems}
        before = sent.problems | {key for key in self._reported if key.startswith(mine)}
        for key in sorted(before - now.keys()):
            requests.document(quarantine.COLLECTION, key, None)
        for key, problem in sorted(now.items()):
            if key not in sent.problems:
                self._quarantine(requests, run, key, problem)
        self._reported = {key for key in self._reported if not key.startswith(mine)}
        return frozenset(now)

    def _quarantine(self, requests: Requests, run: ObservedRun, key: str, problem: Problem) -> None:
        file, _, line = self._observer.source(run.workflow.uid).rpartition(":")
        entry = Entry(
            key=key,
            source=file if line.isdigit() else self._observer.source(run.workflow.uid),
            line=int(line) if line.isdigit() else None,
            subject=problem.subject,
            reason=problem.reason,
            raw="",
        )
        log.warning("quarantined", place=entry.place, subject=entry.subject, reason=entry.reason)
        requests.document(quarantine.COLLECTION, key, entry.content())

    @property
    def problems(self) -> frozenset[str]:
        """Keys of all that is in quarantine of the runs seen."""
        return frozenset().union(*(sent.problems for sent in self._runs.values()))

    # Uses of what came from outside

    def _wait_for(self, sent: _Sent, uses: tuple[Use, ...]) -> None:
        known, now = sent.uses, self._now()
        wanted = {_use_key(use): use for use in uses}
        sent.uses = {
            key: (use, known[key][1] if key in known else now) for key, use in wanted.items() if key not in sent.linked
        }

    def is_waiting(self) -> bool:
        """Whether `settle` has anything to decide."""
        return any(sent.uses or sent.held for sent in self._runs.values())

    def settle(self, *, older_than_s: float = 0.0) -> None:
        """Decide what waits for longer than `older_than_s` seconds.

        Raises:
            MetadataError: the store did not take it all. The same call later sends it again.
        """
        self.flush()
        limit = self._now() - older_than_s
        self._release(limit)
        due = [
            (sent, key, use)
            for sent in self._runs.values()
            for key, (use, since) in sent.uses.items()
            if since <= limit
        ]
        if due:
            self._link(due)

    def _link(self, due: list[tuple[_Sent, Key, Use]]) -> None:
        try:
            self._link_together(due)
        except PASSING:
            raise
        except MetadataError as error:
            if len(due) > 1:
                for one in due:
                    self._link([one])
                return
            ((sent, key, use),) = due
            log.error("store refused a link", execution=use.execution.external_id, uri=use.uri, error=str(error))
            sent.uses.pop(key, None)
            sent.linked.add(key)

    def _link_together(self, due: list[tuple[_Sent, Key, Use]]) -> None:
        there = versions.versions_at(self._client, {use.uri for _, _, use in due})
        requests = Requests()
        made: dict[str, list[Use]] = defaultdict(list)
        links: list[tuple[Use, str | int]] = []
        from_cache: dict[str, tuple[Use, versions.Version]] = {}
        for _, _, use in due:
            own = f"{use.execution.external_id}/"
            candidates = [v for v in there.get(use.uri, ()) if not (v.external_id or "").startswith(own)]
            version = versions.latest(candidates, use.as_of_ms)
            if version is None:
                made[use.uri].append(use)
                links.append((use, versions.unknown_id(use.uri)))
                continue
            links.append((use, version.key))
            if use.is_from_cache:
                from_cache.setdefault(use.execution.external_id, (use, version))
        for uri, uses in sorted(made.items()):
            _add_unknown(requests, uri, uses)
        for source in self._sources(from_cache):
            requests.execution(source)
        for use, artifact in links:
            requests.event(use.execution, artifact, use.type, path=use.path, index=use.index, at_ms=use.at_ms)
            for context in use.contexts:
                requests.attribution(artifact, context)
        for request in requests.take():
            self._client.ingest(request)
        for sent, key, _ in due:
            sent.uses.pop(key, None)
            sent.linked.add(key)

    def _sources(self, from_cache: Mapping[str, tuple[Use, versions.Version]]) -> Iterator[ExecutionRecord]:
        """For executions whose results came from a cache: whose results these are."""
        makers = versions.makers(self._client, [version for _, version in from_cache.values()])
        for use, version in from_cache.values():
            if version.id in makers:
                told = {Property.CACHED_EXECUTION_ID: str(makers[version.id])}
                yield ExecutionRecord(key=use.execution, type="", state=None, properties=told)

    def forget_gone(self, *, older_than_s: float) -> None:
        """Drop what is remembered of deleted workflows of which nothing new came for so long."""
        limit = self._now() - older_than_s
        for uid, sent in list(self._runs.items()):
            if sent.is_gone and sent.changed_at <= limit and not sent.uses and not sent.held:
                del self._runs[uid]
                self._observer.forget(uid)


def _problem(run: ObservedRun, what: str, reason: str) -> Records:
    subject = f"Workflow {run.workflow.namespace}/{run.workflow.name}"
    return Records(problems=(Problem(key=f"{prefix(run)}/{what}", reason=reason, subject=subject),))


def _use_key(use: Use) -> Key:
    return use.execution, use.type, use.path, use.index, use.uri, use.as_of_ms


def _add_unknown(requests: Requests, uri: str, uses: list[Use]) -> None:
    """An artifact for a version that nobody was seen to make; of what its users say, the most definite."""
    best = min(uses, key=lambda use: (use.default_type == ARTIFACT, use.default_type, use.execution.external_id))
    name = uri.rstrip("/").rpartition("/")[2] or uri
    requests.artifact(
        ArtifactRecord(external_id=versions.unknown_id(uri), type=best.default_type, uri=uri, produced_ms=None),
        {Property.DISPLAY_NAME: name, **best.default_properties},
    )
