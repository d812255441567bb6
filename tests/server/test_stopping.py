"""The server stops as an orchestrator wants it: what was accepted is finished, what comes is told to go elsewhere."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import changes, mlmd, service
from tests.server.process import started
from tests.server.served import running
from tests.server.test_limits import FOLLOW, code_of, locked, locked_file, put_type
from tests.server.web import SERVICE, call


class Load:
    """Threads that write until they are told that the server is gone; the insistent go on until `stop`."""

    def __init__(self, target: str, threads: int, *, is_insistent: bool = False) -> None:
        self.acknowledged: set[str] = set()
        self.codes: set[grpc.StatusCode] = set()
        self._target = target
        self._is_insistent = is_insistent
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _write(self, number: int) -> None:
        with grpc.insecure_channel(self._target) as channel:
            put = channel.unary_unary(f"{SERVICE}PutContextType")
            for count in range(1_000_000):
                name = f"t{number}-{count}"
                future = put.future(put_type(name), timeout=20)
                self.codes.add(code_of(future))
                if code_of(future) is grpc.StatusCode.OK:
                    self.acknowledged.add(name)
                elif not self._is_insistent or self._stop.wait(0.001):
                    return

    def join(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


def names_in(path: str) -> set[str]:
    with Store.open(f"sqlite:///{path}") as store:
        answer = store.call(f"{SERVICE}GetContextTypes", service.GetContextTypesRequest())
        return {found.name for found in answer.context_types}


def test_under_load_every_call_is_done_or_unavailable(store: Store) -> None:
    with running(store, Plan(http_port=0)) as server:
        load = Load(server.grpc, 16)
        while len(load.acknowledged) < 200:
            time.sleep(0.01)
        began = time.monotonic()
        server.stop()
    assert time.monotonic() - began < 10
    load.join()
    assert load.codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert load.acknowledged <= names_in(str(store.database.engine.url.database))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_who_does_not_stop_calling_is_told_unavailable_and_nothing_else(store: Store, host: str) -> None:
    """gRPC would say CANCELLED to calls that it meets while it shuts down, and nobody tries those again."""
    descriptors = Path("/dev/fd")
    before = sum(1 for _ in descriptors.iterdir()) if descriptors.is_dir() else 0
    with running(store, Plan(host=host)) as server:
        target = f"127.0.0.1:{server.ports.grpc}" if host in ("127.0.0.1", "::") else f"[::1]:{server.ports.grpc}"
        load = Load(target, 16, is_insistent=True)
        while len(load.acknowledged) < 50:
            time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    time.sleep(0.2)
    load.join()
    # Looking for the connections to close has left nothing open.
    assert not descriptors.is_dir() or sum(1 for _ in descriptors.iterdir()) < before + 100
    assert load.codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert load.acknowledged <= names_in(str(store.database.engine.url.database))


def test_what_was_accepted_is_finished_and_what_comes_is_refused(store: Store) -> None:
    with running(store, Plan(http_port=0)) as server, grpc.insecure_channel(server.grpc) as channel:
        put = channel.unary_unary(f"{SERVICE}PutContextType")
        following = channel.unary_stream(FOLLOW)(changes.FollowRequest().SerializeToString())
        next(following)
        with locked(store):
            accepted = put.future(put_type("accepted"))
            time.sleep(0.2)
            server.stop()
            time.sleep(0.2)
            refused = put.future(put_type("refused"))
            assert code_of(refused) is grpc.StatusCode.UNAVAILABLE
            assert "stopping" in refused.details()
            assert dict(refused.trailing_metadata())["grpc-retry-pushback-ms"]
            web = service.PutContextTypeRequest(context_type=mlmd.ContextType(name="web"))
            assert call(server.http, "PutContextType", web).status == 14
            assert httpx.get(f"{server.http}/healthz").status_code == 503
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert following.code() is grpc.StatusCode.UNAVAILABLE
        assert code_of(accepted) is grpc.StatusCode.OK


def test_reads_that_take_too_long_are_stopped_and_unavailable(large: Store) -> None:
    with (
        running(large, Plan()) as server,
        grpc.insecure_channel(server.grpc, options=[("grpc.max_receive_message_length", -1)]) as channel,
    ):
        # More work than can be done in the time.
        futures = [channel.unary_unary(f"{SERVICE}GetArtifacts").future(b"") for _ in range(60)]
        time.sleep(1)
        began = time.monotonic()
        server.stop()
        codes = {code_of(future) for future in futures}
    assert time.monotonic() - began < 10
    assert grpc.StatusCode.UNAVAILABLE in codes
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_a_process_that_is_terminated_under_load_ends_well(tmp_path: Path) -> None:
    database = tmp_path / "metadata.db"
    command = [sys.executable, "-m", "mdstore", "serve", "--database", f"sqlite:///{database}", "--grpc-port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "serving" in line)
        load = Load(f"127.0.0.1:{port_in(line)}", 8)
        while len(load.acknowledged) < 100:
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(15) == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
    load.join()
    assert load.codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert load.acknowledged <= names_in(str(database))


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_process_that_is_terminated_again_still_finishes_what_it_accepted(
    tmp_path: Path, second: signal.Signals
) -> None:
    database = tmp_path / "metadata.db"
    command = [sys.executable, "-m", "mdstore", "serve", "--database", f"sqlite:///{database}", "--grpc-port", "0"]
    with started(command, tmp_path, os.environ) as server, grpc.insecure_channel(server.address) as channel:
        put = channel.unary_unary(f"{SERVICE}PutContextType")
        put(put_type("first"))
        with locked_file(database):
            accepted = put.future(put_type("accepted"))
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 10
            while '"stopping"' not in server.said():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for _ in range(3):
                server.process.send_signal(second)
                time.sleep(0.1)
            assert server.process.poll() is None
        assert code_of(accepted) is grpc.StatusCode.OK
        assert server.process.wait(15) == 0
        assert "Traceback" not in server.said()
    assert names_in(str(database)) == {"first", "accepted"}


def port_in(line: str) -> str:
    digits = line.partition("127.0.0.1:")[2]
    return digits[: next(at for at, letter in enumerate(digits) if not letter.isdigit())]
