"""Whatever bytes come, the server answers in time, says whose mistake it was, and goes on.

`MDSTORE_FUZZ_S` is for how long each of the tests goes on, `MDSTORE_FUZZ_SEED` does the same again.
"""

import base64
import gzip
import os
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.needs import STRICT
from tests.server.fuzzing import MLMD, SEED, Fuzzer, recorded
from tests.server.process import Process, started
from tests.server.web import framed, post

SECONDS = float(os.environ.get("MDSTORE_FUZZ_S") or (20 if STRICT else 4))
LEAST = 100
"""So many in any case, on a machine that has other things to do."""
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
GRPCS_OWN = re.compile(r'Traceback \(most recent call last\):\n(?=  File "src/python/grpcio/grpc/_cython/)')
"""It prints that it could not tell a client who was gone that the method's name is no text."""
BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Process]:
    """A server that is still there at the end, answers, and has not written of a fault of its own."""
    command = [
        sys.executable, "-m", "mdstore", "serve", "--database", f"sqlite:///{tmp_path}/metadata.db", "--grpc-port", "0",
        "--http-port", "0",
    ]  # fmt: skip
    with started(command, tmp_path, os.environ | {"MDSTORE_LOG_FORMAT": "json"}) as server:
        with grpc.insecure_channel(server.address) as channel:
            # So that the ids of real requests are those of something.
            for path, body in islice(recorded("kfp-2.17.0"), 300):
                channel.unary_unary(path).future(body, timeout=10).code()
        yield server
        said = f"seed {SEED}\n{server.said()[-5000:]}"
        assert server.process.poll() is None, said
        assert httpx.get(f"{server.http}/healthz", timeout=5).json()["status"] == "ok", said
        assert '"failed"' not in server.said(), said
        assert "Traceback" not in GRPCS_OWN.sub("", server.said()), said
        with grpc.insecure_channel(server.address) as channel:
            channel.unary_unary("/ml_metadata.MetadataStoreService/GetArtifactTypes")(b"", timeout=5)


def until_the_end() -> Iterator[int]:
    end = time.monotonic() + SECONDS
    count = 0
    while time.monotonic() < end or count < LEAST:
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
            compression = fuzzer.random.choice((None, None, None, grpc.Compression.Gzip, grpc.Compression.Deflate))
            future = channel.unary_unary(path).future(
                body, timeout=10, metadata=fuzzer.metadata(), compression=compression
            )
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


def answers(server: Process) -> None:
    """Whatever was sent before, somebody else's calls are answered."""
    with grpc.insecure_channel(server.address) as channel:
        channel.unary_unary(f"{MLMD}GetArtifactTypes")(b"", timeout=10)
    assert httpx.get(f"{server.http}/healthz", timeout=10).status_code == 200


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4


def http2_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(of: bytes) -> bytes:
    """A text of HPACK: its length, in seven bits and as many more bytes as it needs, and itself."""
    if len(of) < 127:
        return bytes((len(of),)) + of
    length, more = len(of) - 127, bytearray((127,))
    while length >= 128:
        more.append(length % 128 + 128)
        length //= 128
    more.append(length)
    return bytes(more) + of


def hpack(headers: list[tuple[bytes, bytes]]) -> bytes:
    """A block of headers, each as it is."""
    return b"".join(b"\0" + text(name) + text(value) for name, value in headers)


def http2_call(fuzzer: Fuzzer, stream: int) -> bytes:
    """The frames of one call that may be wrong in any way that a client's may be."""
    made = fuzzer.random
    path, body, _ = fuzzer.call()
    headers = [
        (b":method", made.choice((b"POST",) * 8 + (b"GET", b"", b"PUT"))),
        (b":scheme", made.choice((b"http", b"http", b"https", b""))),
        (
            b":path",
            made.choice((path.encode(),) * 6 + (b"/", b"", b"/a/b/c", path.encode()[:-1], b"*" * 5000, b"/\xff")),
        ),
        (b":authority", b"a"),
        (b"content-type", made.choice((b"application/grpc",) * 4 + (b"application/grpc+proto", b"text/html", b""))),
        (b"te", made.choice((b"trailers",) * 4 + (b"", b"gzip"))),
    ]
    for _ in range(made.randrange(3)):
        if made.random() < 0.3:
            headers.pop(made.randrange(len(headers)))
        else:
            headers.append(
                made.choice(
                    (
                        (b"grpc-timeout", made.choice((b"1S", b"0n", b"-1S", b"99999999H", b"x", b""))),
                        (b"grpc-encoding", made.choice((b"gzip", b"identity", b"deflate", b"none", b""))),
                        (b"x", b"y" * made.choice((0, 100, 10_000, 100_000))),
                        (b"binary-bin", made.choice((b"AAAA", b"!!!!", b"A"))),
                        (b"Upper", b"case"),
                        (made.randbytes(4), made.randbytes(4)),
                        (b"content-length", made.choice((b"0", b"-1", b"9" * 30))),
                    )
                )
            )
    block = hpack(headers)
    if made.random() < 0.1:
        block = fuzzer.spoil(block)
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)] or [b""]
    frames = [
        http2_frame(HEADERS if number == 0 else CONTINUATION, END_HEADERS * (number == len(parts) - 1), stream, part)
        for number, part in enumerate(parts)
    ]
    if made.random() < 0.2:
        body = made.choice((gzip.compress(body), gzip.compress(bytes(10_000_000)), made.randbytes(20)))
        content = b"\1" + struct.pack(">I", len(body)) + body
    else:
        said = made.choice((len(body),) * 6 + (0, len(body) + 1, 2**32 - 1))
        content = made.choice((b"\0",) * 8 + (b"\2", b"\xff")) + struct.pack(">I", said) + body
    cut = made.randrange(len(content) + 1)
    pieces = [content] if made.random() < 0.6 else [content[:cut], content[cut:]]
    # Some never say that this was all.
    ends = END_STREAM if made.random() < 0.8 else 0
    frames += [
        http2_frame(DATA, ends if number == len(pieces) - 1 else 0, stream, piece[:16_000])
        for number, piece in enumerate(pieces)
    ]
    if made.random() < 0.3:
        frames.insert(
            made.randrange(len(frames) + 1),
            made.choice(
                (
                    http2_frame(RST, 0, stream, struct.pack(">I", made.randrange(15))),
                    http2_frame(WINDOW, 0, made.choice((0, stream)), struct.pack(">I", made.choice((0, 2**31 - 1)))),
                    http2_frame(SETTINGS, 0, 0, struct.pack(">HI", 4, made.choice((0, 1, 2**31 - 1, 2**32 - 1)))),
                    http2_frame(SETTINGS, 0, 0, struct.pack(">HI", made.randrange(8), made.randrange(2**32))),
                    http2_frame(PING, 0, 0, made.randbytes(made.choice((7, 8)))),
                    http2_frame(GOAWAY, 0, 0, made.randbytes(8)),
                    http2_frame(made.randrange(12), made.randrange(256), stream, made.randbytes(made.randrange(30))),
                )
            ),
        )
    return b"".join(frames)


def http1_call(fuzzer: Fuzzer) -> bytes:
    """A grpc-web request whose head may be wrong in any way."""
    made = fuzzer.random
    path, body, _ = fuzzer.call()
    body = made.choice((b"\0", b"\0", b"\1", b"\x80")) + struct.pack(">I", len(body)) + body
    headers = [
        b"host: a",
        b"content-type: " + made.choice((b"application/grpc-web",) * 4 + (b"application/grpc-web-text", b"a/b", b"")),
    ]
    if made.random() < 0.2:
        headers.append(b"transfer-encoding: chunked")
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part) + b"0\r\n\r\n"
    else:
        # Fewer than there are, or more, which never come.
        headers.append(b"content-length: %d" % made.choice((len(body),) * 4 + (0, len(body) + 1, 2**40)))
    odd = (
        b"x: " + b"y" * made.choice((1, 10_000, 100_000)),
        b"grpc-timeout: " + made.choice((b"0n", b"x", b"1S")),
        b"content-encoding: gzip",
        b"expect: 100-continue",
        b"connection: close",
        b"origin: null",
        b"x-retry-attempt: 1",
        b"\xff: \xff",
    )
    headers += made.sample(odd, made.randrange(3))
    line = b"%s %s HTTP/1.1" % (made.choice((b"POST",) * 6 + (b"GET", b"OPTIONS", b"HEAD", b"X")), path.encode())
    return b"\r\n".join([line, *headers, b"", body])


def test_a_method_whose_name_is_no_text_stops_nothing(fuzzed: Process) -> None:
    """Versions of gRPC ended their server by it."""
    headers = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/Get\xd9"), (b":authority", b"a")]
    headers += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    call = http2_frame(HEADERS, END_HEADERS, 1, hpack(headers)) + http2_frame(DATA, END_STREAM, 1, bytes(5))
    with socket.create_connection(("127.0.0.1", int(fuzzed.address.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(PREFACE + http2_frame(SETTINGS, 0, 0) + call)
        for _ in range(20):
            answers(fuzzed)


def test_raw_bytes_on_both_ports(fuzzed: Process) -> None:
    fuzzer = Fuzzer("raw")
    made = fuzzer.random
    assert fuzzed.http is not None
    ports = [int(address.rpartition(":")[2]) for address in (fuzzed.address, fuzzed.http)]
    left_open: list[socket.socket] = []
    for number in until_the_end():
        settings = http2_frame(SETTINGS, 0, 0)
        calls = b"".join(http2_call(fuzzer, 2 * n + 1) for n in range(made.randrange(1, 5)))
        port, content = made.choice(
            (
                (made.choice(ports), made.randbytes(made.randrange(1, 200))),
                (made.choice(ports), fuzzer.spoil(PREFACE + settings)),
                (ports[0], PREFACE + settings + calls),
                (ports[0], PREFACE + settings + calls),
                (ports[0], PREFACE + settings + fuzzer.spoil(calls)),
                (ports[1], http1_call(fuzzer)),
                (ports[1], http1_call(fuzzer) + http1_call(fuzzer)),
                (ports[1], fuzzer.spoil(http1_call(fuzzer))),
            )
        )
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        with suppress(ConnectionError):
            connection.sendall(content)
            if made.random() < 0.3:
                with suppress(OSError):  # the server may have hung up by now
                    connection.shutdown(socket.SHUT_WR)
        if made.random() < 0.2 and len(left_open) < 200:
            # It neither reads what comes nor goes away.
            left_open.append(connection)
            continue
        connection.settimeout(0.02)
        with suppress(TimeoutError, ConnectionError):
            while connection.recv(10_000):
                pass
        connection.close()
        if number % 50 == 49:
            answers(fuzzed)
    answers(fuzzed)
    for connection in left_open:
        connection.close()


def test_who_reads_slowly_or_not_at_all_keeps_nobody_waiting(fuzzed: Process) -> None:
    fuzzer = Fuzzer("slow")
    made = fuzzer.random
    streaming = [path for path, _, _, streams in fuzzer.methods if streams]
    options = [("grpc.http2.lookahead_bytes", 1), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(fuzzed.address, options=options) as channel:
        unread: list[Any] = []
        for number in until_the_end():
            path = made.choice((*streaming, f"{MLMD}GetExecutions", f"{MLMD}GetArtifacts"))
            stream = channel.unary_stream(path)(b"", timeout=30)
            with suppress(StopIteration, grpc.RpcError):
                for _ in range(made.randrange(2)):
                    next(stream)
            unread.append(stream)
            if made.random() < 0.5:
                unread.pop(made.randrange(len(unread))).cancel()
            if len(unread) > 100:
                for stream in unread:
                    stream.cancel()
                unread.clear()
            if number % 50 == 49:
                answers(fuzzed)
        for stream in unread:
            stream.cancel()
    answers(fuzzed)
