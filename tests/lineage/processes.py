"""Real servers and projectors as child processes, and writing to a store as a step does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mdstore.client.client import Client
from mdstore.client.connect import connect
from mdstore.errors import AlreadyExists, Unavailable
from mdstore.wire import mlmd, service


class Process:
    """`mdstore ARGUMENTS`, with what it logs."""

    def __init__(self, *arguments: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "mdstore", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MDSTORE_LOG_FORMAT": "json"},
        )
        self.seen: list[str] = []

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_for(self, event: str) -> dict[str, object]:
        """Read on until an event is logged."""
        assert self._popen.stderr is not None
        for line in self._popen.stderr:
            self.seen.append(line)
            if line.startswith("{") and (fields := json.loads(line))["event"] == event:
                return dict(fields)
        raise AssertionError(f"{event!r} was not logged, but: {''.join(self.seen)}")

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Its exit code, and how many seconds it took to end."""
        started = time.monotonic()
        self._popen.send_signal(how)
        code = self._popen.wait(timeout=20)
        return code, time.monotonic() - started

    def end(self) -> int:
        """Wait for its end by itself; its exit code."""
        _, rest = self._popen.communicate(timeout=20)
        self.seen.append(rest)
        return self._popen.returncode


@contextmanager
def running(*arguments: str) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.kill()


def serve(folder: Path, port: int, name: str = "metadata.db") -> tuple[str, ...]:
    return ("serve", "--database", f"sqlite:///{folder / name}", "--grpc-port", str(port))


def follow(store_url: str, graph_url: str) -> tuple[str, ...]:
    return ("lineage", "follow", "--store", store_url, "--graph", graph_url)


def until(is_true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def again_and_again(write: Callable[[], object]) -> None:
    """Write something with a name, waiting for a store that is away."""

    def is_written() -> bool:
        try:
            write()
        except Unavailable:
            return False
        except AlreadyExists:
            pass  # an earlier try was written, and its answer was lost
        return True

    until(is_written)


class Steps:
    """Steps of one pipeline that each use what the last one made."""

    def __init__(self, store: Client) -> None:
        self._store = store
        types = store.put_types(
            service.PutTypesRequest(
                artifact_types=[mlmd.ArtifactType(name="Dataset")],
                execution_types=[mlmd.ExecutionType(name="Train")],
                context_types=[mlmd.ContextType(name="system.PipelineRun")],
            )
        )
        self._artifact_type = types.artifact_type_ids[0]
        self._execution_type = types.execution_type_ids[0]
        self._run_type = types.context_type_ids[0]
        self._last: int | None = None

    def run(self, name: str) -> tuple[int, int]:
        """One step; the ids of its execution and of the artifact that it made."""
        request = service.PutExecutionRequest(
            execution=mlmd.Execution(type_id=self._execution_type, name=name),
            contexts=[mlmd.Context(type_id=self._run_type, name="a run")],
            options=service.PutExecutionRequest.Options(reuse_context_if_already_exist=True),
        )
        if self._last is not None:
            used = request.artifact_event_pairs.add()
            used.event.artifact_id = self._last
            used.event.type = mlmd.Event.INPUT
            used.event.path.steps.add(key="data")
        made = request.artifact_event_pairs.add()
        made.artifact.CopyFrom(mlmd.Artifact(type_id=self._artifact_type, name=name, uri=f"s3://{name}"))
        made.event.type = mlmd.Event.OUTPUT
        made.event.path.steps.add(key="model")
        answer = self._store.put_execution(request)
        self._last = answer.artifact_ids[-1]
        return answer.execution_id, self._last


def head(store_url: str) -> int:
    """The newest position of a store."""
    with connect(store_url) as store:
        position = 0
        for response in store.follow(once=True):
            position = response.commits[-1].seq if response.commits else position
        return position
