"""Our proto files say of MLMD's wire what the library's say: every message, field, enum and method."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

from mdstore.wire import POOL
from tests import needs

pytestmark = pytest.mark.judge

SCRIPT = Path(__file__).parent / "scripts" / "descriptors.py"


def facts(file: FileDescriptorProto) -> dict[str, Any]:
    """Name of a field, enum value or method -> what of it is on the wire."""
    found: dict[str, Any] = {}
    for message in file.message_type:
        found.update(_of_message(message, ""))
    for enum in file.enum_type:
        found.update(_of_enum(enum, ""))
    for service in file.service:
        for method in service.method:
            streams = method.client_streaming, method.server_streaming
            found[f"{service.name}.{method.name}"] = method.input_type, method.output_type, streams
    return found


def _of_message(message: DescriptorProto, outer: str) -> Iterator[tuple[str, Any]]:
    name = f"{outer}{message.name}."
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        # What is the default anyway, of proto2 or in the code of the library, may be written or not.
        written = field.default_value not in ("false", "READWRITE_OPENCREATE")
        default = field.default_value if written else ""
        kind = field.type, field.label, field.type_name, field.options.packed
        yield name + field.name, (field.number, *kind, oneof, default)
    yield f"{name}extensions", [(each.start, each.end) for each in message.extension_range]
    for enum in message.enum_type:
        yield from _of_enum(enum, name)
    for nested in message.nested_type:
        yield from _of_message(nested, name)


def _of_enum(enum: EnumDescriptorProto, outer: str) -> Iterator[tuple[str, Any]]:
    return ((f"{outer}{enum.name}.{value.name}", value.number) for value in enum.value)


def test_the_wire_is_the_librarys() -> None:
    asked = subprocess.run([needs.judge_python(), "-I", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    theirs = {
        name: facts(FileDescriptorProto.FromString(base64.b64decode(data)))
        for name, data in json.loads(asked.stdout).items()
    }
    assert sum(map(len, theirs.values())) > 700
    for name, wanted in theirs.items():
        file = FileDescriptorProto()
        POOL.FindFileByName(name).CopyToProto(file)
        assert facts(file) == wanted
