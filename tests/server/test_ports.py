"""What else the ports answer: reflection, health, probes, metrics."""

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

import mdstore
from mdstore.server.serving import service_names
from mdstore.wire import mlmd, service
from tests.server.served import Server
from tests.server.web import SERVICE

SERVICES = {"ml_metadata.MetadataStoreService", "mdstore.v1.ChangeFeed", "mdstore.v1.Ingestion"}


def test_an_answer_on_a_kept_connection_does_not_wait_for_an_acknowledgement(server: Server) -> None:
    # Where it does, none of them takes less than 40 ms, however idle the machine is.
    with httpx.Client() as client:
        assert min(client.get(f"{server.http}/healthz").elapsed.total_seconds() for _ in range(10)) < 0.035


def test_reflection_tells_a_stranger_how_to_call(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    def ask(**question: str) -> reflection_pb2.ServerReflectionResponse:
        return next(iter(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]))))

    names = {found.name for found in ask(list_services="").list_services_response.service}
    assert names >= SERVICES | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}

    # What it answers is enough to make messages, in a pool that knows nothing.
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(content: bytes) -> None:
        file = descriptor_pb2.FileDescriptorProto.FromString(content)
        for dependency in file.dependency:
            if dependency not in added:
                add(ask(file_by_filename=dependency).file_descriptor_response.file_descriptor_proto[0])
        if file.name not in added:
            pool.Add(file)
            added.add(file.name)

    symbol = ask(file_containing_symbol="ml_metadata.MetadataStoreService").file_descriptor_response
    for content in symbol.file_descriptor_proto:
        add(content)
    found = pool.FindServiceByName("ml_metadata.MetadataStoreService")
    fields = found.methods_by_name["PutExecution"].input_type.fields_by_name
    assert set(fields) >= {"execution", "contexts"}

    assert ask(file_containing_symbol="grpc.health.v1.Health").HasField("file_descriptor_response")
    missing = ask(file_containing_symbol="ml_metadata.Nothing")
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_health_is_known_for_the_server_and_each_service(channel: grpc.Channel) -> None:
    assert set(service_names()) >= SERVICES
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", *service_names()):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="other.Service"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_healthz_says_where_the_log_is(server: Server) -> None:
    with mdstore.connect(f"grpc://{server.grpc}") as client:
        before = httpx.get(f"{server.http}/healthz").json()
        client.put_context_type(service.PutContextTypeRequest(context_type=mlmd.ContextType(name="run")))
        assert httpx.get(f"{server.http}/healthz").json() == {"status": "ok", "seq": before["seq"] + 1}


def samples(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response = httpx.get(f"{server.http}/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_metrics_count_calls_commits_and_followers(server: Server) -> None:
    def value(name: str, **labels: str) -> float:
        return samples(server)[name, tuple(sorted(labels.items()))]

    put, get = (f"{SERVICE}{name}"[1:] for name in ("PutContextType", "GetContextType"))
    with mdstore.connect(f"grpc://{server.grpc}") as client:
        for _ in range(3):
            client.put_context_type(service.PutContextTypeRequest(context_type=mlmd.ContextType(name="run")))
        with pytest.raises(mdstore.errors.NotFound):
            client.get_context_type(service.GetContextTypeRequest(type_name="none"))
        head = httpx.get(f"{server.http}/healthz").json()["seq"]

        assert value("mdstore_calls_total", method=put, code="OK") == 3
        assert value("mdstore_calls_total", method=get, code="NOT_FOUND") == 1
        assert value("mdstore_call_seconds_count", method=put) == 3
        assert value("mdstore_call_seconds_bucket", method=put, le="+Inf") == 3
        assert 0 < value("mdstore_call_seconds_sum", method=put) < 10
        assert value("mdstore_group_size_count") == value("mdstore_commit_seconds_count") == 3
        assert value("mdstore_group_size_sum") == 3
        assert value("mdstore_change_log_head") == head
        assert value("mdstore_writes_waiting") == value("mdstore_calls_under_way") == 0
        assert value("mdstore_followers") == 0
        following = client.follow(1)
        next(following)
        assert value("mdstore_followers") == 1
        following.close()
        assert value("process_resident_memory_bytes") > 1_000_000


def test_metrics_come_as_openmetrics_when_asked_for(server: Server) -> None:
    response = httpx.get(f"{server.http}/metrics", headers={"accept": "application/openmetrics-text"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
