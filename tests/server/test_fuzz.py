"""Whatever bytes come, the server answers in time, says whose mistake it was, and goes on.

`MDSTORE_FUZZ_S` is for how long each of the three goes on, `MDSTORE_FUZZ_SEED` does the same again.
"""

import base64
import os
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from mdstore.client.remote import SERVICE_FILES
from mdstore.wire import methods
from tests.needs import STRICT
from tests.server.process import Process, started
from tests.server.web import framed, post

SECONDS = float(os.environ.get("MDSTORE_FUZZ_S") or (30 if STRICT else 5))
SEED = int(os.environ.get("MDSTORE_FUZZ_SEED") or random.SystemRandom().randrange(2**32))
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}

INTEGERS = (0, 1, 2, 3, 10, 20, 100, 101, -1, -(2**31), 2**31 - 1, -(2**63), 2**63 - 1)
TEXTS = (
    "", "a", "n", "type", "mlmd.Dataset", "a\x00b", "ä\u0301", "\U0001f600", "\ufffe", "x" * 1000, "%_'\"\\;--", "{}",
    "type = 'a'", "id = 1 AND (", "properties.p.int_value > 3", "1.0", "artifacts", "custom_properties", "AAAA",
)  # fmt: skip
DOUBLES = (0.0, -1.5, float("nan"), float("inf"), 1e308, 5e-324)


class Fuzzer:
    """Makes messages that are almost right, and spoils some."""

    def __init__(self, name: str) -> None:
        self.random = random.Random(f"{SEED} {name}")
        self.methods = [found for file in SERVICE_FILES for found in methods(file)]

    def call(self) -> tuple[str, bytes, bool]:
        """A method's path, the bytes of a request, and whether it streams."""
        path, request, _, streams = self.random.choice(self.methods)
        message = request()
        self.fill(message, 4)
        body: bytes = message.SerializeToString()
        return path, self.spoil(body) if self.random.random() < 0.4 else body, streams

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


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Process]:
    """A server that is still there at the end, answers, and has not written of a fault of its own."""
    command = [
        sys.executable, "-m", "mdstore", "serve", "--database", f"sqlite:///{tmp_path}/metadata.db", "--grpc-port", "0",
        "--http-port", "0",
    ]  # fmt: skip
    with started(command, tmp_path, os.environ | {"MDSTORE_LOG_FORMAT": "json"}) as server:
        yield server
        said = f"seed {SEED}\n{server.said()[-5000:]}"
        assert server.process.poll() is None, said
        assert httpx.get(f"{server.http}/healthz", timeout=5).json()["status"] == "ok", said
        assert '"failed"' not in server.said(), said
        assert "Traceback" not in server.said(), said
        with grpc.insecure_channel(server.address) as channel:
            channel.unary_unary("/ml_metadata.MetadataStoreService/GetArtifactTypes")(b"", timeout=5)


def until_the_end() -> Iterator[int]:
    end = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < end:
        yield count
        count += 1


def test_messages_over_grpc(fuzzed: Process) -> None:
    fuzzer = Fuzzer("grpc")
    codes: Counter[grpc.StatusCode] = Counter()
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(fuzzed.address, options=options) as channel:
        for _ in until_the_end():
            path, body, streams = fuzzer.call()
            if streams:
                stream = channel.unary_stream(path)(body, timeout=0.1)
                try:
                    for _message in stream:
                        pass
                except grpc.RpcError:
                    assert stream.code() in ALLOWED | {grpc.StatusCode.DEADLINE_EXCEEDED}, (SEED, path, body)
                continue
            future = channel.unary_unary(path).future(body, timeout=10, metadata=fuzzer.metadata())
            code = future.code()
            codes[code] += 1
            assert code in ALLOWED, (SEED, path, body, code, future.details())
            assert code is grpc.StatusCode.OK or future.details()
    # It reaches what is behind the door, and not only the door.
    assert codes[grpc.StatusCode.OK] > SECONDS, codes
    assert len(codes) >= 4, codes


def test_frames_over_grpc_web(fuzzed: Process) -> None:
    fuzzer = Fuzzer("web")
    codes: Counter[grpc.StatusCode] = Counter()
    for _ in until_the_end():
        path, body, streams = fuzzer.call()
        body = framed(body)
        if fuzzer.random.random() < 0.4:
            body = fuzzer.spoil(body)
        text = fuzzer.random.random() < 0.5
        if text:
            body = base64.b64encode(body)
            if fuzzer.random.random() < 0.3:
                body = fuzzer.spoil(body)
        answer = post(f"{fuzzed.http}{path}", body, text=text, grpc_timeout="200m" if streams else "10S")
        code = BY_NUMBER[answer.status]
        codes[code] += 1
        assert code in (ALLOWED | {grpc.StatusCode.DEADLINE_EXCEEDED} if streams else ALLOWED), (SEED, path, body, code)
        assert code is grpc.StatusCode.OK or answer.message
    assert codes[grpc.StatusCode.OK], codes
    assert len(codes) >= 4, codes


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def test_raw_bytes_on_both_ports(fuzzed: Process) -> None:
    fuzzer = Fuzzer("raw")
    made = fuzzer.random
    assert fuzzed.http is not None
    ports = [int(address.rpartition(":")[2]) for address in (fuzzed.address, fuzzed.http)]
    for _ in until_the_end():
        kinds = [
            http2_frame(made.randrange(12), made.randrange(256), made.choice((0, 1, 3, 2**31 - 1)), made.randbytes(n))
            for n in (0, made.randrange(64), made.randrange(64))
        ]
        path, body, _streams = fuzzer.call()
        headers = f"host: a\r\ncontent-type: application/grpc-web\r\ncontent-length: {len(body)}"
        request = f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode()
        content = made.choice(
            (
                made.randbytes(made.randrange(1, 200)),
                PREFACE + b"".join(kinds),
                PREFACE + http2_frame(4, 0, 0, b"") + b"".join(kinds),
                fuzzer.spoil(PREFACE + http2_frame(4, 0, 0, b"")),
                request + body,
                fuzzer.spoil(request + body),
            )
        )
        with socket.create_connection(("127.0.0.1", made.choice(ports)), timeout=5) as connection:
            connection.sendall(content)
            connection.settimeout(0.02)
            try:
                connection.recv(1000)
            except (TimeoutError, ConnectionError):
                continue
