"""The access log, and traces as a collector of OpenTelemetry gets them."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import service
from tests.ports import free_port
from tests.server.process import Process, started
from tests.server.served import running
from tests.server.test_limits import put_type
from tests.server.web import SERVICE, call

GET_TYPE = service.GetContextTypeRequest(type_name="none")
GET_TYPES = service.GetContextTypesRequest()


def logged(server: Process) -> list[dict[str, Any]]:
    events = (json.loads(line) for line in server.said().splitlines())
    return [event for event in events if event["event"] == "answered"]


def after_calls(tmp_path: Path, share: str) -> list[dict[str, Any]]:
    """What is logged of 50 calls that succeed and two that fail."""
    command = [
        sys.executable, "-m", "mdstore", "serve", "--database", "sqlite://", "--grpc-port", "0", "--http-port", "0",
    ]  # fmt: skip
    environment = os.environ | {"MDSTORE_LOG_FORMAT": "json", "MDSTORE_ACCESS_LOG": share}
    with started(command, tmp_path, environment) as server, grpc.insecure_channel(server.address) as channel:
        for _ in range(50):
            channel.unary_unary(f"{SERVICE}GetContextTypes")(b"")
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"{SERVICE}GetContextType")(GET_TYPE.SerializeToString())
        assert server.http is not None
        call(server.http, "GetContextType", GET_TYPE)
        return logged(server)


def test_with_the_access_log_each_call_is_one_event(tmp_path: Path) -> None:
    events = after_calls(tmp_path, "1")
    assert len(events) == 52
    first, over_grpc, over_web = events[0], events[-2], events[-1]
    assert (first["method"], first["code"], first["request_bytes"]) == (f"{SERVICE}GetContextTypes"[1:], "OK", 0)
    assert 0 < first["ms"] < 5000
    assert first["peer"].startswith("ipv4:127.0.0.1:")
    for event in (over_grpc, over_web):
        assert (event["code"], event["request_bytes"]) == ("NOT_FOUND", GET_TYPE.ByteSize())
    assert over_web["peer"].startswith("http:127.0.0.1:")


def test_a_share_is_a_sample_with_all_failures_and_zero_is_none(tmp_path: Path) -> None:
    sampled = after_calls(tmp_path, "0.3")
    assert sum(event["code"] == "NOT_FOUND" for event in sampled) == 2
    assert 0 < sum(event["code"] == "OK" for event in sampled) < 45
    assert after_calls(tmp_path, "0") == []


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.resources: list[dict[str, str]] = []
        self.spans: list[trace_pb2.Span] = []

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the protocol's name
        for found in request.resource_spans:
            self.resources.append({pair.key: pair.value.string_value for pair in found.resource.attributes})
            for scope in found.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A receiver of OTLP over gRPC, and its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def attributes(span: trace_pb2.Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


def test_a_call_is_a_span_of_the_callers_trace(store: Store, collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with (
        running(store, Plan(http_port=0, traces_endpoint=endpoint)) as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"{SERVICE}GetContextType")(
                GET_TYPE.SerializeToString(), metadata=(("traceparent", f"00-{trace}-{parent}-01"),)
            )
        call(server.http, "GetContextTypes", GET_TYPES, traceparent=f"00-{trace}-{parent}-01")
        call(server.http, "GetContextTypes", GET_TYPES, traceparent=f"00-{trace}-{parent}-00")
        call(server.http, "GetContextTypes", GET_TYPES)
    failed, traced, own = received.spans  # the third call's trace is not sampled, so it has no span
    assert received.resources[0]["service.name"] == "mdstore"
    for span in (failed, traced):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)
    assert own.parent_span_id == b""
    assert failed.name == "ml_metadata.MetadataStoreService/GetContextType"
    assert failed.kind == trace_pb2.Span.SPAN_KIND_SERVER
    assert failed.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert failed.end_time_unix_nano > failed.start_time_unix_nano
    said = attributes(failed)
    assert said["rpc.system"] == "grpc"
    assert said["rpc.service"] == "ml_metadata.MetadataStoreService"
    assert said["rpc.method"] == "GetContextType"
    assert said["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert traced.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert attributes(traced)["rpc.grpc.status_code"] == 0


def test_a_share_of_zero_leaves_only_the_traces_of_callers(store: Store, collector: tuple[Collector, str]) -> None:
    received, endpoint = collector
    with running(store, Plan(http_port=0, traces_endpoint=endpoint, traces_share=0.0)) as server:
        call(server.http, "GetContextTypes", GET_TYPES)
        call(server.http, "GetContextTypes", GET_TYPES, traceparent=f"00-{'1' * 32}-{'2' * 16}-01")
    assert [span.trace_id.hex() for span in received.spans] == ["1" * 32]


def test_a_collector_that_is_not_there_neither_stops_calls_nor_the_end(store: Store) -> None:
    with running(store, Plan(http_port=0, traces_endpoint="http://127.0.0.1:9")) as server:
        threads = [threading.Thread(target=call, args=(server.http, "GetContextTypes", GET_TYPES)) for _ in range(4)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 5
        began = time.monotonic()
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("endpoint", "said"), [("collector:4317", "no collector's address"), ("http://c:4317", "mdstore[otel]")]
)
def test_traces_that_cannot_be_sent_end_the_start_in_one_line(endpoint: str, said: str) -> None:
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None;"
        "sys.argv = ['mdstore', 'serve', '--database', 'sqlite://', '--grpc-port', '0'];"
        "from mdstore.__main__ import main; main()"
    )
    environment = os.environ | {"MDSTORE_TRACES_ENDPOINT": endpoint}
    found = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=environment, timeout=30
    )
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    port = free_port()
    command = [
        sys.executable, "-m", "mdstore", "serve", "--database", f"sqlite:///{tmp_path}/m.db", "--grpc-port", str(port),
    ]  # fmt: skip
    environment = os.environ | {"MDSTORE_ACCESS_LOG": "1", "MDSTORE_LOG_FORMAT": "json"}
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(command, stderr=full, env=environment) as process,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        try:
            put = channel.unary_unary(f"{SERVICE}PutContextType")
            assert put(put_type("t"), timeout=60, wait_for_ready=True)
            get = channel.unary_unary(f"{SERVICE}GetContextType")
            with pytest.raises(grpc.RpcError) as caught:
                get(GET_TYPE.SerializeToString(), timeout=10)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            assert put(put_type("u"), timeout=10)
            assert process.poll() is None
        finally:
            process.terminate()
