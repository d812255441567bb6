"""Snapshots on servers, whose connections are few."""

import time
from typing import Any

import grpc

import mdstore
from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import changes, mlmd, service
from tests.databases.servers import Server
from tests.server.served import running
from tests.store.writing import put_type


def test_snapshots_that_nobody_reads_on_leave_connections_to_others(server: Server, database: str) -> None:
    with (
        Store.open(server.url(database)) as store,
        running(store, Plan()) as served,
        mdstore.connect(f"grpc://{served.grpc}", retry=mdstore.Retry(tries=1)) as client,
    ):
        type_id = put_type(client, "artifact")
        for _ in range(8):
            artifacts = [mlmd.Artifact(type_id=type_id, uri="u" * 1000) for _ in range(1000)]
            client.put_artifacts(service.PutArtifactsRequest(artifacts=artifacts))
        with grpc.insecure_channel(served.grpc) as channel:
            snapshot = channel.unary_stream("/mdstore.v1.ChangeFeed/Snapshot")
            streams: list[Any] = [snapshot(changes.SnapshotRequest().SerializeToString()) for _ in range(40)]
            # Each is told how it begins, or that it is one too many; what follows is more than is sent unread.
            codes = set()
            for stream in streams:
                try:
                    next(stream)
                except grpc.RpcError as error:
                    codes.add(error.code())
            found = client.get_artifacts(service.GetArtifactsRequest(), timeout=10)
            assert len(found.artifacts) == 8000
            assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
            for stream in streams:
                stream.cancel()
            # Who comes when they are gone is served.
            deadline = time.monotonic() + 10
            while True:
                again = snapshot(changes.SnapshotRequest().SerializeToString())
                try:
                    assert sum(1 for _ in again) > 1
                    break
                except grpc.RpcError:
                    assert again.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
