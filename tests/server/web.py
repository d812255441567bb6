"""A client of grpc-web that is not ours: frames, as the protocol's description has them."""

import base64
import struct
from typing import Any, NamedTuple
from urllib.parse import unquote

import httpx

SERVICE = "/ml_metadata.MetadataStoreService/"


class Answer(NamedTuple):
    messages: list[bytes]
    trailers: dict[str, str]
    response: httpx.Response

    @property
    def status(self) -> int:
        return int(self.trailers["grpc-status"])

    @property
    def message(self) -> str:
        return unquote(self.trailers.get("grpc-message", ""))


def framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def post(url: str, body: bytes, *, text: bool = False, **headers: str) -> Answer:
    """Send a body as it is, and take the answer apart."""
    media = "application/grpc-web-text" if text else "application/grpc-web+proto"
    all_headers = {"content-type": media, "x-grpc-web": "1"} | {k.replace("_", "-"): v for k, v in headers.items()}
    response = httpx.post(url, content=body, headers=all_headers, timeout=30)
    assert response.status_code == 200
    assert response.headers["content-type"] == media
    return taken_apart(response, base64_pieces(response.content) if text else response.content)


def base64_pieces(content: bytes) -> bytes:
    return b"".join(base64.b64decode(piece + b"=" * (-len(piece) % 4)) for piece in content.split(b"=") if piece)


def taken_apart(response: httpx.Response, content: bytes) -> Answer:
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while content:
        flag, length = struct.unpack(">BI", content[:5])
        payload, content = content[5 : 5 + length], content[5 + length :]
        assert len(payload) == length
        assert not trailers, "nothing comes after the trailers"
        if flag == 0x80:
            trailers = dict(line.split(": ", 1) for line in payload.decode("ascii").split("\r\n") if line)
        else:
            assert flag == 0
            messages.append(payload)
    assert "grpc-status" in trailers
    return Answer(messages, trailers, response)


def call(base: str, name: str, request: Any, *, text: bool = False, **headers: str) -> Answer:
    """Call a method of MLMD's service."""
    body = framed(request.SerializeToString())
    return post(base + SERVICE + name, base64.b64encode(body) if text else body, text=text, **headers)
