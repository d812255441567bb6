"""Clients that write a mixture of everything, blindly send again what was not answered, and know what must be there.

Each client works on things of its own: executions with artifacts, events and contexts (`PutExecution`,
`PutLineageSubgraph`, `Ingest`), updates with states, `PutEvents`, deletions. Nodes have no names or external ids but
where the call needs them, so that what is done twice is there twice. A client either gives its calls idempotency keys,
or counts its tries in `x-retry-attempt` as Kubeflow Pipelines does, or calls once and never learns what became of it.
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import grpc

from mdstore.client.client import Client
from mdstore.wire import ingestion, mlmd, nodes, service
from tests.store.writing import KINDS, message, node, properties, put_type

OUTPUTS = 3
STATES = (mlmd.Execution.RUNNING, mlmd.Execution.COMPLETE)
PAUSE_S = 0.05
CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
]
MLMD = "/ml_metadata.MetadataStoreService/"
PATHS: dict[type, tuple[str, Any]] = {
    service.PutExecutionRequest: (f"{MLMD}PutExecution", service.PutExecutionResponse),
    service.PutExecutionsRequest: (f"{MLMD}PutExecutions", service.PutExecutionsResponse),
    service.PutEventsRequest: (f"{MLMD}PutEvents", service.PutEventsResponse),
    service.PutLineageSubgraphRequest: (f"{MLMD}PutLineageSubgraph", service.PutLineageSubgraphResponse),
    ingestion.IngestRequest: ("/mdstore.v1.Ingestion/Ingest", ingestion.IngestResponse),
    nodes.DeleteNodesRequest: ("/mdstore.v1.Nodes/DeleteNodes", nodes.DeleteNodesResponse),
}


class Manner(Enum):
    """What a client does when it gets no answer."""

    KEYED = auto()
    """It sends the same again, under the same idempotency key."""
    RETRYING = auto()
    """It sends the same again, and says that it is a retry."""
    ONCE = auto()
    """It goes on with something else."""


class Unknown(Exception):
    """A call got no answer, and is not made again."""


@dataclass(slots=True)
class Ledger:
    """What one client knows. Keys are the custom property `key` of an execution; artifacts have `KEY/NUMBER`."""

    executions: dict[str, int | None] = field(default_factory=dict)
    """Key -> id; None while there is no answer."""
    steps: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Execution -> the step of its last update that was acknowledged, and the last that was tried."""
    inputs: dict[tuple[int, int], bool] = field(default_factory=dict)
    """(artifact, execution) -> whether the event was acknowledged."""
    deleted: dict[str, bool] = field(default_factory=dict)
    """Key of an artifact -> whether its deletion was acknowledged."""
    unexpected: list[str] = field(default_factory=list)
    codes: Counter[grpc.StatusCode] = field(default_factory=Counter)
    said: str = ""
    """The text of the newest error."""
    hints: set[str | None] = field(default_factory=set)
    """The texts of `grpc-retry-pushback-ms` of errors that a server said; None for one without."""


class Clients:
    """Threads, each a client; they call inside of the block. Threads: one controls them."""

    def __init__(self, targets: Sequence[str], setup: Client, *, count: int = 9, allowed: Sequence[str] = ()) -> None:
        """Make their types.

        Args:
            targets: HOST:PORT of the servers of one store; after a failure a client goes to the next.
            setup: a client of that store.
            count: of clients.
            allowed: beside UNAVAILABLE, the names of codes after which a call is made again.
        """
        self.types = {kind: put_type(setup, kind, "Mixed") for kind in KINDS}
        self.ledgers = [Ledger() for _ in range(count)]
        self._retried = {grpc.StatusCode.UNAVAILABLE, *(grpc.StatusCode[name] for name in allowed)}
        self._targets = list(targets)
        self._is_open = True
        self._parked = 0
        self._changed = threading.Condition()
        self._ending = False
        self._running = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]

    def acknowledged(self) -> int:
        """How many executions were."""
        return sum(found is not None for ledger in self.ledgers for found in tuple(ledger.executions.values()))

    def pause(self) -> None:
        """Wait until nobody calls."""
        with self._changed:
            self._is_open = False
            assert self._changed.wait_for(lambda: self._parked == len(self._running), 60), "a call hangs"

    def go_on(self) -> None:
        """Call again."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def wait_for_progress(self, executions: int = 10, *, seconds: float = 150) -> None:
        """Until so many more executions are acknowledged than now."""
        wanted, until = self.acknowledged() + executions, time.monotonic() + seconds
        while self.acknowledged() < wanted:
            assert not self.unexpected(), self.unexpected()
            assert time.monotonic() < until, (self.codes(), [ledger.said for ledger in self.ledgers])
            time.sleep(0.005)

    def unexpected(self) -> list[str]:
        """Errors that no client should have met: the first of each."""
        return [text for ledger in self.ledgers for text in ledger.unexpected[:1]]

    def codes(self) -> Counter[grpc.StatusCode]:
        """How often each code was answered."""
        return sum((ledger.codes for ledger in self.ledgers), Counter())

    def end(self) -> None:
        """Let everybody who retries get the answer to the last call, and end."""
        self._ending = True
        self.go_on()
        for thread in self._running:
            thread.join(60)
            assert not thread.is_alive(), "a client does not end"

    def __enter__(self) -> "Clients":
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.end()
        self._ending = True
        self.go_on()

    def _run(self, number: int) -> None:
        manner = tuple(Manner)[number % 3]
        caller = _Caller(self, number, manner)
        work = _Work(caller.call, self.ledgers[number], self.types, f"{number}")
        try:
            while not self._ending:
                try:
                    work.chain()
                except Unknown:
                    continue
        except Exception as error:  # the thread's end would else be silent
            self.ledgers[number].unexpected.append(repr(error))
        finally:
            caller.close()
            with self._changed:
                self._parked += 1
                self._changed.notify_all()

    def wait_until_open(self) -> None:
        """Stay here while the clients pause."""
        with self._changed:
            if self._is_open:
                return
            self._parked += 1
            self._changed.notify_all()
            # Whoever pauses again before this thread has woken finds it still parked, and so it is.
            self._changed.wait_for(lambda: self._is_open)
            self._parked -= 1

    @property
    def targets(self) -> list[str]:
        return self._targets

    @property
    def retried(self) -> set[grpc.StatusCode]:
        return self._retried


class _Caller:
    """Makes one client's calls in its manner."""

    def __init__(self, clients: Clients, number: int, manner: Manner) -> None:
        self._clients = clients
        self._ledger = clients.ledgers[number]
        self._manner = manner
        self._number = number
        self._keys = itertools.count()
        self._channels = [grpc.insecure_channel(target, options=CHANNEL) for target in clients.targets]
        self._at = number % len(self._channels)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def call(self, request: Any) -> Any:
        path, response = PATHS[type(request)]
        body = request.SerializeToString()
        key = f"{self._number}-{next(self._keys)}"
        for attempt in itertools.count():
            self._clients.wait_until_open()
            said = [("idempotency-key", key)] if self._manner is Manner.KEYED else []
            said += [("x-retry-attempt", str(attempt))] if self._manner is Manner.RETRYING and attempt else []
            future = self._channels[self._at].unary_unary(path).future(body, metadata=said, timeout=30)
            code = future.code()
            self._ledger.codes[code] += 1
            if code is grpc.StatusCode.OK:
                return response.FromString(future.result())
            if code not in self._clients.retried:
                self._ledger.unexpected.append(f"{self._manner} {path} try {attempt}: {code} {future.details()}")
                raise Unknown
            self._ledger.said = future.details() or ""
            trailing = dict(future.trailing_metadata() or ())
            if trailing or "database" in (future.details() or ""):
                self._ledger.hints.add(trailing.get("grpc-retry-pushback-ms"))
            self._at = (self._at + 1) % len(self._channels)
            time.sleep(PAUSE_S)
            if self._manner is Manner.ONCE:
                raise Unknown
        raise AssertionError


class _Work:
    """What one client does, again and again."""

    def __init__(self, call: Callable[[Any], Any], ledger: Ledger, types: dict[str, int], who: str) -> None:
        self._call = call
        self._ledger = ledger
        self._types = types
        self._who = who
        self._numbers = itertools.count()

    def _key(self) -> str:
        key = f"{self._who}.{next(self._numbers)}"
        self._ledger.executions[key] = None
        return key

    def _new(self, kind: str, **fields: Any) -> Any:
        return node(kind, type_id=self._types[kind], **fields)

    def chain(self) -> None:
        """One call of each kind."""
        execution, artifacts = self._put_execution()
        self._update(execution, 1)
        self._put_lineage_subgraph()
        self._put_event(artifacts[0])
        self._ingest()
        self._update(execution, 2)
        self._delete(artifacts[2])

    def _artifacts(self, key: str) -> list[Any]:
        return [self._new("artifact", custom={"key": f"{key}/{n}"}) for n in range(OUTPUTS)]

    def _put_execution(self) -> tuple[int, list[tuple[str, int]]]:
        key = self._key()
        response = self._call(
            message(
                service.PutExecutionRequest,
                execution=self._new(
                    "execution", custom={"key": key, "step": 0, "again": 0}, last_known_state=STATES[0]
                ),
                artifact_event_pairs=[
                    {"artifact": artifact, "event": {"type": mlmd.Event.OUTPUT}} for artifact in self._artifacts(key)
                ],
                contexts=[self._new("context", name="shared"), self._new("context", name=f"run {self._who}")],
                options={"reuse_context_if_already_exist": True},
            )
        )
        self._ledger.executions[key] = response.execution_id
        self._ledger.steps[response.execution_id] = (0, 0)
        return response.execution_id, [(f"{key}/{n}", found) for n, found in enumerate(response.artifact_ids)]

    def _update(self, execution: int, step: int) -> None:
        key = next(key for key, found in self._ledger.executions.items() if found == execution)
        acknowledged, _ = self._ledger.steps[execution]
        self._ledger.steps[execution] = (acknowledged, step)
        sent = self._new("execution", id=execution, custom={"key": key, "step": step, "again": step})
        sent.last_known_state = STATES[step % 2]
        self._call(service.PutExecutionsRequest(executions=[sent]))
        self._ledger.steps[execution] = (step, step)

    def _put_lineage_subgraph(self) -> None:
        key = self._key()
        response = self._call(
            message(
                service.PutLineageSubgraphRequest,
                executions=[self._new("execution", custom={"key": key, "step": 0, "again": 0})],
                artifacts=self._artifacts(key),
                contexts=[self._new("context", name="shared"), self._new("context", name=f"run {self._who}")],
                event_edges=[
                    {"execution_index": 0, "artifact_index": n, "event": {"type": mlmd.Event.OUTPUT}}
                    for n in range(OUTPUTS)
                ],
                options={"reuse_context_if_already_exist": True},
            )
        )
        self._ledger.executions[key] = response.execution_ids[0]
        self._ledger.steps[response.execution_ids[0]] = (0, 0)

    def _put_event(self, artifact: tuple[str, int]) -> None:
        for key, execution in self._ledger.executions.items():
            if (
                execution is None
                or (artifact[1], execution) in self._ledger.inputs
                or artifact[0].startswith(f"{key}/")
            ):
                continue
            self._ledger.inputs[artifact[1], execution] = False
            event = mlmd.Event(artifact_id=artifact[1], execution_id=execution, type=mlmd.Event.INPUT)
            self._call(service.PutEventsRequest(events=[event]))
            self._ledger.inputs[artifact[1], execution] = True
            return

    def _ingest(self) -> None:
        key = self._key()
        context = {"type": "Mixed", "name": f"run {self._who}"}
        shared = {"type": "Mixed", "name": "shared"}
        outputs = [{"external_id": f"{key}/{n}"} for n in range(OUTPUTS)]
        response = self._call(
            message(
                ingestion.IngestRequest,
                contexts=[{"key": named, "type": "Mixed"} for named in (shared, context)],
                executions=[
                    {
                        "key": {"external_id": key},
                        "type": "Mixed",
                        "custom_properties": properties({"key": key, "step": 0, "again": 0}),
                    }
                ],
                artifacts=[
                    {
                        "key": output,
                        "type": "Mixed",
                        "custom_properties": properties({"key": output["external_id"]}),
                    }
                    for output in outputs
                ],
                events=[
                    {"execution": {"external_id": key}, "artifact": output, "type": mlmd.Event.OUTPUT}
                    for output in outputs
                ],
                attributions=[{"context": named, "member": out} for out in outputs for named in (shared, context)],
                associations=[{"context": named, "member": {"external_id": key}} for named in (shared, context)],
                origin="writer",
            )
        )
        self._ledger.executions[key] = response.execution_ids[0]
        self._ledger.steps[response.execution_ids[0]] = (0, 0)

    def _delete(self, artifact: tuple[str, int]) -> None:
        key, artifact_id = artifact
        self._ledger.deleted[key] = False
        named = {"kind": nodes.ARTIFACT, "id": artifact_id}
        self._call(message(nodes.DeleteNodesRequest, nodes=[named], actor="mixture"))
        self._ledger.deleted[key] = True


def check(ledgers: Sequence[Ledger], tables: dict[str, Any], *, all_answered: bool = False) -> None:
    """Nothing acknowledged is lost, nothing is there by half, nothing is doubled.

    Args:
        ledgers: of clients that pause, or have ended.
        tables: what `tests.store.log.of_tables` or `of_log` found.
        all_answered: whoever retries has been answered; so what there is of theirs is what was acknowledged.
    """
    executions, artifacts = (
        {found.custom_properties["key"].string_value: found for found in tables[kind].values() if found.type == "Mixed"}
        for kind in ("executions", "artifacts")
    )
    for kind, found in (("executions", executions), ("artifacts", artifacts)):
        assert len(found) == sum(node.type == "Mixed" for node in tables[kind].values()), f"{kind} are doubled"
    contexts = [found.name for found in tables["contexts"].values() if found.type == "Mixed"]
    assert len(contexts) == len(set(contexts))
    outputs, inputs = (
        {(event.artifact_id, event.execution_id) for event in tables["events"] if event.type == kind}
        for kind in (mlmd.Event.OUTPUT, mlmd.Event.INPUT)
    )
    assert len(tables["events"]) == len(outputs) + len(inputs), "events are doubled"
    members = {
        "executions": Counter(link.execution_id for link in tables["associations"]),
        "artifacts": Counter(link.artifact_id for link in tables["attributions"]),
    }
    known: set[str] = set()
    for number, ledger in enumerate(ledgers):
        known |= ledger.executions.keys()
        for key, acknowledged in ledger.executions.items():
            if acknowledged is not None:
                assert executions[key].id == acknowledged
            elif all_answered and tuple(Manner)[number % 3] is not Manner.ONCE:
                raise AssertionError(f"the last call of {key} was not answered")
            if key not in executions:
                assert not any(f"{key}/{n}" in artifacts for n in range(OUTPUTS)), f"{key} is there by half"
                continue
            execution = executions[key]
            assert members["executions"][execution.id] == 2
            for n in range(OUTPUTS):
                output = f"{key}/{n}"
                deleted = ledger.deleted.get(output)
                if output not in artifacts:
                    assert deleted is not None, f"{output} is lost"
                    continue
                assert not deleted, f"{output} is there again"
                assert (artifacts[output].id, execution.id) in outputs
                assert members["artifacts"][artifacts[output].id] == 2
            step = execution.custom_properties["step"].int_value
            assert execution.custom_properties["again"].int_value == step
            first, last = ledger.steps.get(execution.id, (0, 0))
            assert first <= step <= last, f"{key} is at {step}, not at {first} to {last}"
            if step:
                assert execution.last_known_state == STATES[step % 2]
        acknowledged_inputs = {pair for pair, is_known in ledger.inputs.items() if is_known}
        assert acknowledged_inputs <= inputs
    assert executions.keys() <= known
    assert inputs <= {pair for ledger in ledgers for pair in ledger.inputs}
    there = {found.id for found in artifacts.values()}
    assert {artifact for artifact, _ in outputs} == there, "events of what is not there, or artifacts without one"
