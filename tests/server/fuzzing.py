"""Makes requests that are almost right: of every method, from nothing or from what Kubeflow Pipelines once sent."""

import base64
import gzip
import json
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mdstore.client.remote import SERVICE_FILES
from mdstore.wire import methods

SEED = int(os.environ.get("MDSTORE_FUZZ_SEED") or random.SystemRandom().randrange(2**32))
RECORDINGS = Path(__file__).resolve().parents[2] / "examples" / "metadata-calls"
MLMD = "/ml_metadata.MetadataStoreService/"

INTEGERS = (0, 1, 2, 3, 10, 20, 100, 101, -1, -(2**31), 2**31 - 1, -(2**63), 2**63 - 1)
TEXTS = (
    "", "a", "n", "type", "mlmd.Dataset", "a\x00b", "ä\u0301", "\U0001f600", "\ufffe", "x" * 1000, "%_'\"\\;--", "{}",
    "type = 'a'", "id = 1 AND (", "properties.p.int_value > 3", "1.0", "artifacts", "custom_properties", "AAAA",
)  # fmt: skip
DOUBLES = (0.0, -1.5, float("nan"), float("inf"), 1e308, 5e-324)


def recorded(name: str) -> Iterator[tuple[str, bytes]]:
    """Path and request of each call of a recording, in order."""
    with gzip.open(RECORDINGS / f"{name}.jsonl.gz", "rt") as lines:
        for line in lines:
            call = json.loads(line)
            yield f"{MLMD}{call['method']}", base64.b64decode(call["request"] or "")


@cache
def seeds() -> list[tuple[str, bytes]]:
    """Real requests, each once, as many of each method as there are at most a hundred."""
    found: dict[str, set[bytes]] = {}
    for name in ("kfp-2.0.5", "kfp-2.17.0"):
        for path, body in recorded(name):
            if len(bodies := found.setdefault(path, set())) < 100:
                bodies.add(body)
    return [(path, body) for path, bodies in sorted(found.items()) for body in sorted(bodies)]


class Fuzzer:
    """Makes messages that are almost right, and spoils some."""

    def __init__(self, name: str) -> None:
        self.random = random.Random(f"{SEED} {name}")
        self.methods = [found for file in SERVICE_FILES for found in methods(file)]

    def call(self) -> tuple[str, bytes, bool]:
        """A method's path, the bytes of a request, and whether it streams."""
        if self.random.random() < 0.3:
            return self._real_call()
        path, request, _, streams = self.random.choice(self.methods)
        message = request()
        self.fill(message, 4)
        body: bytes = message.SerializeToString()
        return path, self.spoil(body) if self.random.random() < 0.4 else body, streams

    def _real_call(self) -> tuple[str, bytes, bool]:
        """A request that somebody sent, with something else in a few places."""
        path, body = self.random.choice(seeds())
        chance = self.random.random()
        if chance < 0.2:
            return path, body, False
        if chance < 0.6:
            return path, self.spoil(body), False
        request = next(request for found, request, _, _ in self.methods if found == path)
        message = request.FromString(body)
        for _ in range(self.random.randrange(1, 4)):
            self._change(message)
        return path, message.SerializeToString(), False

    def _change(self, message: Any) -> None:
        """Fill one of its messages anew, wherever it is."""
        while True:
            inside = [
                child
                for field, value in message.ListFields()
                if field.message_type is not None and not field.message_type.GetOptions().map_entry
                for child in (value if hasattr(value, "add") else [value])
            ]
            if not inside or self.random.random() < 0.3:
                self.fill(message, 1)
                return
            message = self.random.choice(inside)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Headers that the server reads, with values that it may not like."""
        if self.random.random() < 0.7:
            return ()
        names = ("idempotency-key", "traceparent", "x-retry-attempt", "x-retry-attempty")
        values = ("", "1", "-1", "1.5", "k" * 300, "9" * 5000, "00-0-0-0", "%00", "~")
        return ((self.random.choice(names), self.random.choice(values)),)

    def fill(self, message: Any, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self.random.random() < 0.5:
                continue
            into = getattr(message, field.name)
            is_message = field.message_type is not None
            if is_message and depth == 0:
                continue
            if is_message and field.message_type.GetOptions().map_entry:
                key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
                for _ in range(self.random.randrange(3)):
                    if value.message_type is not None:
                        self.fill(into[self.value(key)], depth - 1)
                    else:
                        into[self.value(key)] = self.value(value)
            elif hasattr(into, "append") or hasattr(into, "add"):
                for _ in range(self.random.randrange(4)):
                    if is_message:
                        self.fill(into.add(), depth - 1)
                    else:
                        into.append(self.value(field))
            elif is_message:
                into.SetInParent()
                self.fill(into, depth - 1)
            else:
                setattr(message, field.name, self.value(field))

    def value(self, field: Any) -> Any:
        match field.cpp_type:
            case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
                return self.random.randbytes(self.random.randrange(20))
            case field.CPPTYPE_STRING:
                return self.random.choice(TEXTS)
            case field.CPPTYPE_BOOL:
                return self.random.random() < 0.5
            case field.CPPTYPE_ENUM:
                return self.random.choice(field.enum_type.values).number
            case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
                return self.random.choice(DOUBLES)
            case field.CPPTYPE_INT32:
                return self.random.choice([number for number in INTEGERS if abs(number) < 2**31])
            case field.CPPTYPE_UINT32 | field.CPPTYPE_UINT64:
                return self.random.choice((0, 1, 100, 2**32 - 1))
        return self.random.choice(INTEGERS)

    def spoil(self, body: bytes) -> bytes:
        spoiled = bytearray(body)
        for _ in range(self.random.randrange(1, 4)):
            at = self.random.randrange(len(spoiled) + 1)
            match self.random.randrange(5):
                case 0:
                    spoiled[at:at] = self.random.randbytes(self.random.randrange(1, 9))
                case 1:
                    del spoiled[at:]
                case 2:
                    spoiled[at : at + 1] = bytes((self.random.randrange(256),))
                case 3:
                    spoiled += spoiled[at:]
                case 4:
                    # A text that is not UTF-8, as long as it was.
                    spoiled = bytearray(byte if byte < 0x61 else byte | 0x80 for byte in spoiled)
        return bytes(spoiled[:100_000])
