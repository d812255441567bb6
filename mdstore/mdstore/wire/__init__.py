"""The messages on the wire, loaded from a descriptor set into a pool of their own.

Why not generated modules: the public `ml_metadata` client registers files of the same names in protobuf's default pool,
and one process may hold both. A private pool keeps the two apart, and works with any protobuf from 4.25 on.

`mlmd` has MLMD's nodes and types, `service` its requests and responses, `changes`, `ingestion` and `nodes` what mdstore
adds. `script/generate` makes `descriptors.binpb` and the type stubs from the files in `proto/`.
"""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

POOL = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    files(__name__).joinpath("descriptors.binpb").read_bytes()
).file:
    POOL.Add(_file)


def contents(file: str) -> dict[str, Any]:
    """Name -> message class, enum wrapper or enum number of the .proto file `file`, as a generated module has them."""
    from google.protobuf.internal import enum_type_wrapper  # noqa: PLC0415 (only needed here)

    descriptor = POOL.FindFileByName(file)
    names: dict[str, Any] = {}
    for name, message in descriptor.message_types_by_name.items():
        names[name] = message_factory.GetMessageClass(message)
    for name, enum in descriptor.enum_types_by_name.items():
        names[name] = enum_type_wrapper.EnumTypeWrapper(enum)
        names.update((value.name, value.number) for value in enum.values)
    return names


def methods(file: str) -> Iterator[tuple[str, type[Any], type[Any], bool]]:
    """`(path, request class, response class, streams)` of each RPC in the .proto file `file`."""
    for service in POOL.FindFileByName(file).services_by_name.values():
        for method in service.methods:
            yield (
                f"/{service.full_name}/{method.name}",
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
                method.server_streaming,
            )
