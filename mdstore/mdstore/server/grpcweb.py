"""grpc-web: gRPC for browsers, over plain HTTP, without a proxy in between.

A request is one POST whose body is frames: a flag byte, four bytes of length, the payload. The answer is a frame with
the message and one with the trailers, which say the status; the HTTP status is 200 whatever they say. In the text form
all of it is base64. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from functools import partial
from itertools import islice
from time import monotonic
from typing import Final
from urllib.parse import quote_from_bytes

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from mdstore.errors import DeadlineExceeded, InvalidArgument, MetadataError, ResourceExhausted, Unimplemented
from mdstore.server import refusals
from mdstore.server.dispatch import HINT_MS, PARSE_BYTES, Dispatcher

BINARY: Final = ("application/grpc-web", "application/grpc-web+proto")
TEXT: Final = ("application/grpc-web-text", "application/grpc-web-text+proto")
DATA: Final = 0x00
COMPRESSED: Final = 0x01
TRAILERS: Final = 0x80
HEADER_BYTES: Final = 5
MOST_FRAMES: Final = 2
"""Of a request."""
MOST_PIECES: Final = 100_000
"""Of base64 in one body: a million would take the server a second."""

REQUEST_HEADERS: Final = (
    "content-type",
    "grpc-timeout",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "x-grpc-web",
    "x-retry-attempt",
    "x-user-agent",
)
RESPONSE_HEADERS: Final = ("grpc-message", "grpc-status")

_TIMEOUT: Final = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
# Each piece of base64 may have its own padding, since a client may have sent it in pieces.
_PIECE: Final = re.compile(rb"[^=]+={0,2}")


class HttpCaller:
    """Who makes an HTTP request."""

    __slots__ = ("_request",)

    def __init__(self, request: Request) -> None:
        """Know the request."""
        self._request = request

    def peer(self) -> str:
        """As `Caller.peer`."""
        client = self._request.client
        return "" if client is None else f"http:{client.host}:{client.port}"

    def client(self) -> str:
        """As `Caller.client`."""
        client = self._request.client
        if client is None:
            return ""
        # As gRPC writes it, so that both ports count together.
        return f"ipv6:%5B{client.host}%5D" if ":" in client.host else f"ipv4:{client.host}"

    def header(self, name: str) -> str:
        """As `Caller.header`."""
        return self._request.headers.get(name, "")


class GrpcWeb:
    """The endpoint of all methods, `POST /SERVICE/METHOD`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Hand calls to `dispatcher`."""
        self._dispatcher = dispatcher
        self._buffered = 0
        """Bytes of requests that are being read."""

    async def answer(self, request: Request) -> Response:
        """Answer one request; 415 for what is no grpc-web, else 200 with the status in the trailers."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in BINARY + TEXT:
            return PlainTextResponse(f"send {BINARY[1]} or {TEXT[0]}\n", 415)
        text = media in TEXT
        try:
            deadline = deadline_of(request.headers.get("grpc-timeout"))
            method = self._dispatcher.methods.get(request.url.path)
            if method is None:
                raise Unimplemented(f"there is no method {request.url.path}")
            sent = await self._body(request, text=text)
            if len(sent) < PARSE_BYTES:
                message = message_of(sent, text=text)
            else:
                message = await self._dispatcher.aside(partial(message_of, sent, text=text))
            if len(message) > self._dispatcher.limits.message_bytes:
                raise self._too_large()
            if method.streams:
                messages = self._dispatcher.stream(method, message, HttpCaller(request))
                return StreamingResponse(_frames(messages, deadline, text=text), media_type=media)
            unary = self._dispatcher.unary(method, message, HttpCaller(request), deadline)
            body = frame(DATA, await _until_gone(unary, request, deadline)) + trailers(None)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except MetadataError as error:
            body = trailers(error)
        return Response(base64.b64encode(body) if text else body, media_type=media)

    async def _body(self, request: Request, *, text: bool) -> bytes:
        most = self._dispatcher.limits.message_bytes + HEADER_BYTES
        if text:
            most = most * 4 // 3 + 4
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._buffered += len(chunk)
                if len(body) > most:
                    raise self._too_large()
                if self._buffered > max(most, self._dispatcher.limits.queued_bytes):
                    raise ResourceExhausted("too many bytes of requests are being read").retry_after(HINT_MS)
        finally:
            self._buffered -= len(body)
        return bytes(body)

    def _too_large(self) -> ResourceExhausted:
        most = self._dispatcher.limits.message_bytes
        return ResourceExhausted(f"the request is larger than the {most} bytes that are allowed")


async def _until_gone(answer: "asyncio.Future[bytes] | object", request: Request, deadline: float | None) -> bytes:
    """The answer, unless the client goes away first or the deadline passes."""
    task: asyncio.Task[bytes] = asyncio.ensure_future(answer)  # type: ignore[arg-type]  # a coroutine
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        timeout = None if deadline is None else max(0.0, deadline - monotonic())
        await asyncio.wait({task, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ClientDisconnect
        raise DeadlineExceeded("the deadline passed before there was an answer")
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _frames(messages: AsyncIterator[bytes], deadline: float | None, *, text: bool) -> AsyncIterator[bytes]:
    def sent(piece: bytes) -> bytes:
        return base64.b64encode(piece) if text else piece

    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - monotonic())):
            async with aclosing(messages):  # type: ignore[type-var]  # a generator
                async for message in messages:
                    yield sent(frame(DATA, message))
    except TimeoutError:
        yield sent(trailers(DeadlineExceeded("the deadline passed while the stream was open")))
    except MetadataError as error:
        yield sent(trailers(error))
    else:
        yield sent(trailers(None))


def frame(flag: int, payload: bytes) -> bytes:
    """A frame of the body."""
    return bytes((flag,)) + len(payload).to_bytes(4, "big") + payload


def frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The `(flag, payload)` of each frame.

    Raises:
        InvalidArgument: the body ends inside of a frame.
    """
    at = 0
    while at < len(body):
        payload = at + HEADER_BYTES
        end = payload + int.from_bytes(body[at + 1 : payload], "big")
        if payload > len(body) or end > len(body):
            raise InvalidArgument(f"the body of {len(body)} bytes ends inside of a grpc-web frame")
        yield body[at], body[payload:end]
        at = end


def message_of(body: bytes, *, text: bool) -> bytes:
    """The one message of a request.

    Raises:
        InvalidArgument: the body is no base64 where it should be, or not one frame of data.
        Unimplemented: the message is compressed.
    """
    if text:
        try:
            decoded = bytearray()
            for number, piece in enumerate(_PIECE.finditer(body)):
                if number == MOST_PIECES:
                    raise InvalidArgument(f"the body has more than {MOST_PIECES} pieces of base64")
                decoded += base64.b64decode(piece[0], validate=True)
            body = bytes(decoded)
        except binascii.Error as error:
            raise InvalidArgument(f"the body is no base64: {error}") from None
    # A client may send trailers too; they say nothing that is of use here.
    found = list(islice(frames(body), MOST_FRAMES + 1))
    data = [(flag, payload) for flag, payload in found if not flag & TRAILERS]
    if len(data) != 1 or len(found) > MOST_FRAMES:
        raise InvalidArgument(
            f"a request is one grpc-web frame of data, maybe with one of trailers; this has {len(data)} of data among "
            f"its first {len(found)}"
        )
    ((flag, payload),) = data
    if flag == COMPRESSED:
        raise Unimplemented("compressed grpc-web frames are not understood: send them as they are")
    if flag != DATA:
        raise InvalidArgument(f"a grpc-web frame with the flags {flag:#04x} is unknown")
    return payload


def trailers(error: MetadataError | None) -> bytes:
    """The last frame: how the call ended."""
    if error is None:
        return frame(TRAILERS, b"grpc-status: 0\r\n")
    lines = [
        f"grpc-status: {refusals.status(error).grpc.value[0]}",
        f"grpc-message: {percent_encoded(refusals.text(error))}",
    ]
    for name, value in refusals.trailing_metadata(error):
        lines.append(f"{name}: {value if isinstance(value, str) else base64.b64encode(value).decode()}")
    return frame(TRAILERS, "".join(f"{line}\r\n" for line in lines).encode())


def percent_encoded(text: str) -> str:
    """As gRPC writes `grpc-message`: printable ASCII but "%" stays."""
    return quote_from_bytes(text.encode(), safe="".join(chr(code) for code in range(0x20, 0x7F) if code != 0x25))


def deadline_of(timeout: str | None) -> float | None:
    """The `grpc-timeout` header as a moment of `time.monotonic`; None when there is none.

    Raises:
        InvalidArgument: it is none of gRPC's.
    """
    if timeout is None:
        return None
    match = _TIMEOUT.fullmatch(timeout)
    if match is None:
        raise InvalidArgument(f"the grpc-timeout {timeout!r} is none: digits and one of H, M, S, m, u, n")
    return monotonic() + int(match[1]) * _SECONDS[match[2]]
