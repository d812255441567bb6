"""A load of PutExecution calls from a process of its own, so that it shares no interpreter with what it measures.

    python -m bench.load PORT CLIENTS SECONDS

Each client has a connection of its own and sends its next call when the last one is answered. Prints one JSON object.
"""

import asyncio
import json
import sys
import time
import uuid
from typing import Any

import grpc

from mdstore.wire import mlmd, service

PREFIX = "/ml_metadata.MetadataStoreService/"
ARTIFACTS = 3


async def call(channel: grpc.aio.Channel, method: str, request: Any) -> Any:
    response = getattr(service, f"{method}Response")
    return await channel.unary_unary(PREFIX + method)(request.SerializeToString()), response


async def put_type(channel: grpc.aio.Channel, kind: str, message: Any) -> int:
    request = getattr(service, f"Put{kind}TypeRequest")(can_add_fields=True, can_omit_fields=True)
    getattr(request, f"{kind.lower()}_type").CopyFrom(message)
    answer, response = await call(channel, f"Put{kind}Type", request)
    return int(response.FromString(answer).type_id)


async def prepare(channel: grpc.aio.Channel) -> service.PutExecutionRequest:
    """A request as a pipeline step sends it: one execution, three outputs with properties, in the context of a run."""
    artifact = await put_type(
        channel, "Artifact", mlmd.ArtifactType(name="BenchArtifact", properties={"rows": mlmd.INT, "kind": mlmd.STRING})
    )
    execution = await put_type(channel, "Execution", mlmd.ExecutionType(name="BenchExecution"))
    context = await put_type(channel, "Context", mlmd.ContextType(name="BenchRun"))
    request = service.PutExecutionRequest()
    request.execution.type_id = execution
    request.execution.last_known_state = mlmd.Execution.COMPLETE
    request.execution.custom_properties["task_name"].string_value = "train"
    for index in range(ARTIFACTS):
        pair = request.artifact_event_pairs.add()
        pair.artifact.type_id = artifact
        pair.artifact.uri = f"s3://bench/artifact-{index}"
        pair.artifact.properties["rows"].int_value = index
        pair.artifact.properties["kind"].string_value = "table"
        pair.artifact.custom_properties["display_name"].string_value = f"output {index}"
        pair.event.type = mlmd.Event.OUTPUT
        pair.event.path.steps.add().key = f"output-{index}"
    request.contexts.add(type_id=context, name="")
    request.options.reuse_context_if_already_exist = True
    return request


async def client(port: int, request: bytes, until: float, times: list[float], failures: dict[str, int]) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        put = channel.unary_unary(PREFIX + "PutExecution")
        await channel.channel_ready()
        while (started := time.perf_counter()) < until:
            try:
                await put(request)
                times.append(time.perf_counter() - started)
            except grpc.aio.AioRpcError as error:
                name = error.code().name
                failures[name] = failures.get(name, 0) + 1


async def main() -> None:
    port, clients, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = await prepare(channel)
    requests = []
    for _ in range(clients):
        request.contexts[0].name = f"run-{uuid.uuid4()}"
        requests.append(request.SerializeToString())
    times: list[float] = []
    failures: dict[str, int] = {}
    started = time.perf_counter()
    await asyncio.gather(*(client(port, data, started + seconds, times, failures) for data in requests))
    elapsed = time.perf_counter() - started
    times.sort()
    print(
        json.dumps(
            {
                "per_second": len(times) / elapsed,
                "p50_ms": times[len(times) // 2] * 1000 if times else None,
                "p99_ms": times[int(len(times) * 0.99)] * 1000 if times else None,
                "failures": failures,
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
