"""A client that writes chains of steps through gRPC and keeps at it while the server comes and goes.

Step i of a chain uses the artifact that step i - 1 made and makes one itself, so that everything upstream of the last
artifact is the whole chain: a lost, a doubled or a torn write is a wrong count.
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import mdstore
from mdstore.client.client import Client
from mdstore.errors import Aborted, AlreadyExists, Cancelled, DeadlineExceeded, Unavailable
from mdstore.wire import mlmd, service

STEP = "test.Step"
THING = "test.Thing"
T = TypeVar("T")


class Chain:
    """One chain, written by a thread of its own until `stop`."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.acknowledged = 0
        """Steps that the server has said it has."""
        self.failure: BaseException | None = None
        self._url = url
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def last_uri(self) -> str:
        return self._uri(self.acknowledged - 1)

    def stop(self) -> None:
        """Let the step under way be acknowledged, then end."""
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), f"{self.name} never got its last answer"
        if self.failure is not None:
            raise self.failure

    def _uri(self, step: int) -> str:
        return f"mem://{self.name}/{step}"

    def _run(self) -> None:
        try:
            with mdstore.connect(self._url) as client:
                types = insist(lambda: client.put_types(_types(), timeout=5))
                made: int | None = None
                while not self._stopping.is_set():
                    made = self._write(client, types, made)
                    self.acknowledged += 1
        except BaseException as error:  # handed to the test's thread
            self.failure = error

    def _write(self, client: Client, types: service.PutTypesResponse, before: int | None) -> int:
        """Write the next step; the id of the artifact that it made."""
        number = self.acknowledged
        name = f"{self.name}-{number}"
        request = service.PutExecutionRequest()
        request.execution.type_id = types.execution_type_ids[0]
        request.execution.name = name
        request.execution.last_known_state = mlmd.Execution.COMPLETE
        if before is not None:
            used = request.artifact_event_pairs.add()
            used.event.artifact_id = before
            used.event.type = mlmd.Event.INPUT
        made = request.artifact_event_pairs.add()
        made.artifact.type_id = types.artifact_type_ids[0]
        made.artifact.name = name
        made.artifact.uri = self._uri(number)
        made.event.type = mlmd.Event.OUTPUT
        try:
            return int(insist(lambda: client.put_execution(request, timeout=5)).artifact_ids[-1])
        except AlreadyExists:
            # It was written, and the answer was lost with the server.
            return int(
                insist(
                    lambda: client.get_artifact_by_type_and_name(
                        service.GetArtifactByTypeAndNameRequest(type_name=THING, artifact_name=name), timeout=5
                    )
                ).artifact.id
            )


def insist(call: Callable[[], T]) -> T:
    """Ask again as long as the server is away."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return call()
        except (Unavailable, DeadlineExceeded, Cancelled, Aborted):
            assert time.monotonic() < deadline, "the server did not come back in a minute"
            time.sleep(0.05)


def _types() -> service.PutTypesRequest:
    return service.PutTypesRequest(
        artifact_types=[mlmd.ArtifactType(name=THING)], execution_types=[mlmd.ExecutionType(name=STEP)]
    )
