"""A database that neither answers nor hangs up, as when its machine is gone: who waits for it keeps nobody waiting."""

import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import mdstore
from mdstore.errors import DeadlineExceeded
from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import mlmd, service
from tests.databases.servers import Server
from tests.server.served import running
from tests.store.writing import put_type


class Freezer:
    """Stands between a server and its clients. What is frozen stays so; what comes after the thaw goes through."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._frozen = threading.Event()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                if not self._frozen.is_set():
                    far = socket.create_connection(("127.0.0.1", self._to))
                    self._ends.append(far)
                    threading.Thread(target=self._pass_on, args=(near, far, self._frozen), daemon=True).start()

    @staticmethod
    def _pass_on(near: socket.socket, far: socket.socket, frozen: threading.Event) -> None:
        with suppress(OSError):
            while True:
                ready, _, _ = select.select([near, far], [], [], 0.05)
                if frozen.is_set():
                    return  # neither end is closed
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        near.close()
                        far.close()
                        return
                    (far if end is near else near).sendall(data)

    def freeze(self) -> None:
        self._frozen.set()

    def thaw(self) -> None:
        self._frozen = threading.Event()

    def close(self) -> None:
        self._listener.close()
        for end in self._ends:
            end.close()


@contextmanager
def freezing(server: Server, database: str) -> Iterator[tuple[Freezer, str]]:
    """The freezer and the URL of a database behind it."""
    freezer = Freezer(server.port)
    try:
        yield freezer, server.url(database).replace(f":{server.port}/", f":{freezer.port}/")
    finally:
        freezer.close()


def test_reads_that_hang_with_their_database_hold_up_nobody_and_end(server: Server, database: str) -> None:
    with (
        freezing(server, database) as (freezer, url),
        Store.open(url) as store,
        running(store, Plan(http_port=0)) as served,
        grpc.insecure_channel(served.grpc) as channel,
        mdstore.connect(f"grpc://{served.grpc}", retry=mdstore.Retry(tries=1)) as client,
    ):
        type_id = put_type(client, "artifact")
        read = channel.unary_unary("/ml_metadata.MetadataStoreService/GetArtifactTypesByID")
        body = service.GetArtifactTypesByIDRequest(type_ids=[type_id]).SerializeToString()
        assert service.GetArtifactTypesByIDResponse.FromString(read(body)).artifact_types
        health = health_pb2_grpc.HealthStub(channel)

        freezer.freeze()
        # More than there are threads to read on.
        futures = [read.future(body, timeout=1.0) for _ in range(12)]
        slowest = 0.0
        end = time.monotonic() + 4.0
        while time.monotonic() < end:
            began = time.monotonic()
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
            slowest = max(slowest, time.monotonic() - began)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            time.sleep(0.02)
        assert {future.code() for future in futures} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        assert slowest < 1.0

        freezer.thaw()
        # The threads that waited are free again, and so are connections.
        deadline = time.monotonic() + 20.0
        while True:
            try:
                assert client.get_artifact_types_by_id(
                    service.GetArtifactTypesByIDRequest(type_ids=[type_id]), timeout=2.0
                ).artifact_types
                break
            except DeadlineExceeded:
                assert time.monotonic() < deadline


@pytest.mark.parametrize("color", ["waiting", "asyncio"])
def test_cancelling_in_process_does_not_wait_for_a_frozen_database(server: Server, database: str, color: str) -> None:
    with freezing(server, database) as (freezer, url):
        if color == "waiting":
            with mdstore.connect(url, retry=mdstore.Retry(tries=1)) as client:
                put_type(client, "artifact")
                client.get_artifact_types(service.GetArtifactTypesRequest())
                freezer.freeze()
                began = time.monotonic()
                with pytest.raises(DeadlineExceeded):
                    client.get_artifact_types(service.GetArtifactTypesRequest(), timeout=0.5)
                assert time.monotonic() - began < 6
            return

        async def story() -> None:
            async with mdstore.connect_async(url) as client:
                await client.put_artifact_type(
                    service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name="t"))
                )
                await client.get_artifact_types(service.GetArtifactTypesRequest())
                freezer.freeze()
                began = time.monotonic()
                with pytest.raises(DeadlineExceeded):
                    await client.get_artifact_types(service.GetArtifactTypesRequest(), timeout=0.5)
                assert time.monotonic() - began < 1.5

        asyncio.run(story())
